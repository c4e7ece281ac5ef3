/**
 * Builds the addon (and, with --tests, the native tests, with --bench the bench program) with CMake through cmake-js. The one road of
 * `npm run build:addon`, of an installation for which there is no prebuilt addon, and of `prebuildify`, which comes here by binding.gyp.
 * The environment variable MOME_CUDA (ON, OFF or AUTO) says whether the CUDA library is built.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cudaOption, withoutCuda } from './cuda-option.mjs';
import { discardKernels, ptxasProblems } from './ptxas.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const require = createRequire(import.meta.url);
const tests = process.argv.includes('--tests');
const bench = process.argv.includes('--bench');

for (const [tool, package_] of [
  ['cmake', 'cmake'],
  ['g++', 'g++'],
  ['make', 'make'],
]) {
  if (spawnSync(tool, ['--version'], { stdio: 'ignore' }).status !== 0) {
    process.stderr.write(`mome: ${tool} is missing; install it first (Debian: apt-get install ${package_})\n`);
    process.exit(1);
  }
}

let cuda;
try {
  cuda = cudaOption(process.env);
} catch (problem) {
  process.stderr.write(`mome: ${problem.message}\n`);
  process.exit(1);
}
const cmakeJs = join(dirname(require.resolve('cmake-js/package.json')), 'bin', 'cmake-js');
const options = [
  '--out',
  'build',
  '--generator',
  'Unix Makefiles',
  '--parallel',
  '2',
  `--CDMOME_TESTS=${tests ? 'ON' : 'OFF'}`,
  `--CDMOME_BENCH=${bench ? 'ON' : 'OFF'}`,
  `--CDMOME_CUDA=${cuda}`,
  // A warning of a compiler that did not exist yet must not stop an installation.
  `--CDMOME_WERROR=${existsSync(join(root, '.git')) ? 'ON' : 'OFF'}`,
];
// `build` alone would keep the options of an earlier configuration.
for (const command of ['configure', 'build']) {
  const result = spawnSync(process.execPath, [cmakeJs, command, ...options], {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  // Also of a build that stopped elsewhere: the next one keeps its objects.
  const problems = ptxasProblems(`${result.stdout}${result.stderr}`);
  if (problems.length > 0) discardKernels(join(root, 'build'));
  if (result.status !== 0) {
    process.stderr.write(`${result.stdout}\n${result.stderr}\nmome: building the addon failed\n`);
    process.exit(1);
  }
  if (process.argv.includes('--verbose')) process.stdout.write(result.stdout);
  const reason = command === 'configure' && withoutCuda(result.stdout);
  if (reason) process.stderr.write(`mome: building without CUDA: ${reason}\n`);
  if (problems.length > 0) {
    process.stderr.write(`${problems.join('\n')}\nmome: a CUDA kernel is not as it should be\n`);
    process.exit(1);
  }
}
