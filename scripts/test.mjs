/**
 * All checks, cheapest first: lint, types, layers, native tests, TypeScript tests (other runtimes among them), the package as its users
 * load it, the demo. In a clone, the files that git knows must be after all of it as they were before.
 */
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const require = createRequire(import.meta.url);
const binary = (name, path) => join(dirname(require.resolve(`${name}/package.json`)), path);

const steps = [
  ['lint', [binary('@biomejs/biome', 'bin/biome'), 'check', '--error-on-warnings', '.']],
  ['native format', ['scripts/format-native.mjs']],
  ['types', [binary('typescript', 'bin/tsc'), '--noEmit']],
  ['layers', ['scripts/check-layers.mjs']],
  ['licences', ['scripts/check-licences.mjs']],
  ['native build', ['scripts/build-addon.mjs', '--tests']],
  ['native tests', null, ['ctest', '--test-dir', 'build', '--parallel', '2', '--output-on-failure']],
  ['bench dependencies', ['scripts/setup.mjs', '--bench']],
  ['TypeScript tests', [binary('vitest', 'vitest.mjs'), 'run']],
  ['public types', ['scripts/api-report.mjs']],
  ['package', ['scripts/check-package.mjs']],
  ['demo', ['scripts/demo.mjs']],
];

/** What git says has changed, or undefined outside a clone. */
function changedFiles() {
  const { status, stdout } = spawnSync('git', ['status', '--porcelain'], { cwd: root, encoding: 'utf8' });
  return status === 0 ? stdout : undefined;
}

const before = changedFiles();

for (const [label, script, command] of steps) {
  const started = performance.now();
  process.stdout.write(`\n== ${label}\n`);
  const [program, ...args] = command ?? [process.execPath, ...script];
  const { status } = spawnSync(program, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
  if (status !== 0) {
    process.stderr.write(`mome: ${label} failed\n`);
    process.exit(1);
  }
  process.stdout.write(`== ${label}: passed in ${((performance.now() - started) / 1000).toFixed(0)} s\n`);
}

const after = changedFiles();
if (after !== before) {
  process.stderr.write(`mome: the checks changed files of the project:\n${after}`);
  process.exit(1);
}
