/**
 * Checks that native files are laid out as `.clang-format` says, or lays them out with --write.
 *   node scripts/format-native.mjs [--write] [folder...]
 * Without folders: all native code.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { clangFormatPath } = createRequire(import.meta.url)('clang-format-node');

const write = process.argv.includes('--write');
const folders = process.argv.slice(2).filter((argument) => argument !== '--write');
if (folders.length === 0) folders.push('native', 'bench/native');

const files = folders.flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true })
    .map((name) => join(folder, String(name)))
    .filter((name) => /\.(h|cc|cu)$/.test(name)),
);
const { status, stderr, error } = spawnSync(
  clangFormatPath,
  [...(write ? ['-i'] : ['--dry-run', '-Werror']), ...files],
  {
    cwd: root,
    encoding: 'utf8',
  },
);
if (status !== 0) {
  const wrong = [...new Set([...(stderr ?? '').matchAll(/^(\S+?):\d+:\d+: error:/gm)].map(([, file]) => file))];
  process.stderr.write(`${wrong.length > 0 ? wrong.join('\n') : (error?.message ?? stderr)}\n`);
  process.stderr.write(
    'mome: these files are not laid out as .clang-format says; node scripts/format-native.mjs --write\n',
  );
  process.exit(1);
}
process.stdout.write(`format: ${files.length} native files ${write ? 'written' : 'are laid out as they should be'}\n`);
