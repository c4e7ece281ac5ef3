/** Builds the native tests with AddressSanitizer and UndefinedBehaviorSanitizer and runs them. */
import { spawnSync } from 'node:child_process';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const folder = 'build-sanitize';

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
    '-DMOME_SANITIZE=address,undefined',
    '-DCMAKE_BUILD_TYPE=RelWithDebInfo',
  ],
  ['cmake', '--build', folder, '--parallel', '2'],
  ['ctest', '--test-dir', folder, '--output-on-failure'],
]) {
  const { status } = spawnSync(program, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
  if (status !== 0) process.exit(1);
}
