/**
 * Sets up a fresh clone: dependencies, the addon and dist. Steps that were done before are skipped. Needs Node, g++, make and CMake; from
 * the network it uses npm's registry alone. With `--bench` it installs only the further dependencies of benches and of tests against other
 * runtimes.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

function run(label, command, args) {
  process.stderr.write(`mome: ${label}\n`);
  const result = spawnSync(command, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
  if (result.status !== 0) {
    process.stderr.write(`mome: ${label} failed\n`);
    process.exit(1);
  }
}

/** Time of the newest file under `paths`. */
function newest(paths) {
  let time = 0;
  for (const path of paths.map((each) => join(root, each))) {
    if (!existsSync(path)) continue;
    if (!statSync(path).isDirectory()) time = Math.max(time, statSync(path).mtimeMs);
    else
      for (const entry of readdirSync(path, { recursive: true, withFileTypes: true })) {
        if (entry.isFile()) time = Math.max(time, statSync(join(entry.parentPath ?? entry.path, entry.name)).mtimeMs);
      }
  }
  return time;
}

const isStale = (product, sources) => !existsSync(join(root, product)) || newest([product]) < newest(sources);

const quietly = ['--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];

if (process.argv.includes('--bench')) {
  if (isStale('bench/node_modules/.package-lock.json', ['bench/package-lock.json']))
    run('installing bench dependencies', 'npm', ['ci', '--prefix', 'bench', ...quietly]);
  process.exit(0);
}
if (isStale('node_modules/.package-lock.json', ['package-lock.json']))
  run('installing dependencies', 'npm', ['ci', ...quietly]);
if (isStale('build/Release/mome.node', ['native', 'CMakeLists.txt']))
  run('building the addon', process.execPath, ['scripts/build-addon.mjs']);
if (isStale('dist/cli.mjs', ['ts/src', 'tsdown.config.ts', 'package.json']))
  run('building dist', process.execPath, ['scripts/build-ts.mjs']);
