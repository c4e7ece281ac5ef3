/**
 * Long runs of the fuzzers: `npm run fuzz -- --seconds 600 [--seed N] [--reader NAME] [--keep FOLDER]`. The test that they run is part of
 * `npm test`, for half a minute.
 */
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const vitest = join(dirname(createRequire(import.meta.url).resolve('vitest/package.json')), 'vitest.mjs');
const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '600' },
    seed: { type: 'string', default: '' },
    reader: { type: 'string', default: '' },
    keep: { type: 'string', default: '' },
  },
});
const { status } = spawnSync(process.execPath, [vitest, 'run', 'ts/test/fuzz'], {
  cwd: root,
  stdio: 'inherit',
  env: {
    ...process.env,
    MOME_FUZZ_SECONDS: values.seconds,
    MOME_FUZZ_SEED: values.seed,
    MOME_FUZZ_READER: values.reader,
    MOME_FUZZ_KEEP: values.keep,
  },
});
process.exit(status ?? 1);
