/** Installs the dependencies of the benches, builds their native program, and runs them. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

let running;
// The bench prints what it has when it is interrupted, so this process waits for it. A terminal interrupts both.
process.on('SIGINT', () => {});
process.on('SIGTERM', () => running?.kill('SIGTERM'));

for (const script of [
  ['scripts/setup.mjs'],
  ['scripts/setup.mjs', '--bench'],
  ['scripts/build-addon.mjs', '--bench'],
  ['bench/main.mjs', ...process.argv.slice(2)],
]) {
  running = spawn(process.execPath, [join(root, script[0]), ...script.slice(1)], { cwd: root, stdio: 'inherit' });
  const [code] = await once(running, 'exit');
  if (code !== 0) process.exit(code ?? 1);
}
