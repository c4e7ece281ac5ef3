/** Builds `dist`: the library as ES modules and CommonJS with types, and the command line. */
import { spawnSync } from 'node:child_process';
import { chmodSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const require = createRequire(import.meta.url);
const tsdown = join(dirname(require.resolve('tsdown/package.json')), 'dist', 'run.mjs');

rmSync(join(root, 'dist'), { recursive: true, force: true });
const result = spawnSync(process.execPath, [tsdown, '--logLevel', 'warn'], { cwd: root, encoding: 'utf8' });
if (result.status !== 0) {
  process.stderr.write(`${result.stdout}\n${result.stderr}\nmome: building dist failed\n`);
  process.exit(1);
}
chmodSync(join(root, 'dist', 'cli.mjs'), 0o755);
