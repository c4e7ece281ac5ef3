/** Installs the dependencies of the benches, builds their native program, and runs them. */
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

for (const script of [
  ['scripts/setup.mjs'],
  ['scripts/setup.mjs', '--bench'],
  ['scripts/build-addon.mjs', '--bench'],
  ['bench/main.mjs', ...process.argv.slice(2)],
]) {
  const { status } = spawnSync(process.execPath, [join(root, script[0]), ...script.slice(1)], {
    cwd: root,
    stdio: 'inherit',
  });
  if (status !== 0) process.exit(status ?? 1);
}
