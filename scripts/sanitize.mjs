/**
 * Builds the native tests with sanitizers and runs them: AddressSanitizer with UndefinedBehaviorSanitizer, or ThreadSanitizer.
 * Runs on any x86-64 processor: tests leave out instruction sets that it lacks.
 *   node scripts/sanitize.mjs [address|thread|all] [-D<CMake option>...]
 */
import { spawnSync } from 'node:child_process';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const sanitizers = { address: 'address,undefined', thread: 'thread' };

const options = process.argv.slice(2).filter((argument) => argument.startsWith('-D'));
const [wanted = 'address', ...rest] = process.argv.slice(2).filter((argument) => !argument.startsWith('-D'));
if (rest.length > 0 || !(wanted === 'all' || wanted in sanitizers)) {
  process.stderr.write('usage: node scripts/sanitize.mjs [address|thread|all] [-D<CMake option>...]\n');
  process.exit(2);
}

for (const kind of wanted === 'all' ? Object.keys(sanitizers) : [wanted]) {
  const folder = kind === 'address' ? 'build-sanitize' : `build-sanitize-${kind}`;
  for (const [program, ...args] of [
    [
      'cmake',
      '-S',
      '.',
      '-B',
      folder,
      '-DMOME_ADDON=OFF',
      '-DMOME_TESTS=ON',
      '-DMOME_CUDA=OFF',
      `-DMOME_SANITIZE=${sanitizers[kind]}`,
      '-DCMAKE_BUILD_TYPE=RelWithDebInfo',
      ...options,
    ],
    ['cmake', '--build', folder, '--parallel', '2'],
    ['ctest', '--test-dir', folder, '--output-on-failure'],
  ]) {
    const { status } = spawnSync(program, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
    if (status !== 0) process.exit(1);
  }
}
