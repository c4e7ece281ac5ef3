/**
 * Builds the addon (and, with --tests, the native tests, with --bench the bench program) with CMake. The one road of
 * `npm run build:addon`, of an installation for which there is no prebuilt addon, and of `prebuildify`. Headers come from npm packages, so
 * nothing is downloaded. The environment variables MOME_CUDA and MOME_MPI (ON, OFF or AUTO) say whether those libraries are built.
 *
 * `--toolchain` names a file by which CMake compiles for another kind of processor (native/cpu/sets).
 *
 *   node scripts/build-addon.mjs [--tests] [--bench] [--verbose] [--out <folder, default build>] [--toolchain <file>]
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cudaOption, withoutCuda } from './cuda-option.mjs';
import { discardKernels, ptxasProblems } from './ptxas.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const require = createRequire(import.meta.url);
const tests = process.argv.includes('--tests');
const bench = process.argv.includes('--bench');
const pathOf = (option) => {
  const at = process.argv.indexOf(option);
  return at < 0 ? undefined : resolve(process.argv[at + 1]);
};
const build = pathOf('--out') ?? join(root, 'build');
const toolchain = pathOf('--toolchain');

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
let headers;
try {
  const folder = (name) => dirname(require.resolve(`${name}/package.json`));
  headers = [join(folder('node-api-headers'), 'include'), folder('node-addon-api')];
} catch {
  process.stderr.write(
    'mome: the packages node-api-headers and node-addon-api are missing; install the dependencies first\n',
  );
  process.exit(1);
}
const options = [
  '-DCMAKE_BUILD_TYPE=Release',
  `-DMOME_NODE_INCLUDE=${headers.join(';')}`,
  `-DMOME_TESTS=${tests ? 'ON' : 'OFF'}`,
  `-DMOME_BENCH=${bench ? 'ON' : 'OFF'}`,
  `-DMOME_CUDA=${cuda}`,
  `-DMOME_MPI=${process.env.MOME_MPI ?? 'AUTO'}`,
  ...(toolchain === undefined ? [] : [`-DCMAKE_TOOLCHAIN_FILE=${toolchain}`]),
  // A warning of a compiler that did not exist yet must not stop an installation.
  `-DMOME_WERROR=${existsSync(join(root, '.git')) ? 'ON' : 'OFF'}`,
];
const commands = {
  // `build` alone would keep the options of an earlier configuration.
  configure: ['-S', root, '-B', build, '-G', 'Unix Makefiles', ...options],
  build: ['--build', build, '--config', 'Release', '--parallel', '2'],
};
for (const [command, args] of Object.entries(commands)) {
  const result = spawnSync('cmake', args, {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  // Also of a build that stopped elsewhere: the next one keeps its objects.
  const problems = ptxasProblems(`${result.stdout}${result.stderr}`);
  if (problems.length > 0) discardKernels(build);
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
