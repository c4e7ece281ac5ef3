/**
 * The whole recipe of the model for drawings by one command: packages, corpus, scenes, all stages of `recipes/drawings.json`, and questions and
 * statements about the scenes last. What is there already is kept, and training goes on from its last checkpoint.
 *
 *   node corpus/train.mjs [--output out/drawings]
 *
 * Takes some ten hours of two cores. Run after `npm run setup`.
 */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { readJson } from './files.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(here);
const { values } = parseArgs({ options: { output: { type: 'string', default: join(root, 'out', 'drawings') } } });

/** @param made a file that is there once the command has come to its end */
function unlessThere(made, command, ...args) {
  if (!existsSync(made)) execFileSync(command, args, { cwd: root, stdio: 'inherit' });
}

const [corpus, scenes] = [join(root, 'out', 'corpus'), join(root, 'out', 'scenes')];
unlessThere(join(here, 'node_modules', '.package-lock.json'), 'npm', 'ci', '--prefix', here, '--ignore-scripts');
unlessThere(join(corpus, 'corpus.json'), process.execPath, join(here, 'build.mjs'), '--output', corpus);
unlessThere(
  join(scenes, 'scenes.json'),
  process.execPath,
  join(here, 'scenes.mjs'),
  '--corpus',
  corpus,
  '--output',
  scenes,
);
const train = [
  join(root, 'dist', 'cli.mjs'),
  'train',
  join(root, 'recipes', 'drawings.json'),
  '-o',
  values.output,
  '--resume',
];
execFileSync(process.execPath, train, { cwd: root, stdio: 'inherit' });
const { stages } = readJson(join(root, 'recipes', 'drawings.json'));
const last = join(values.output, `${stages.length}-${stages.at(-1).name}`);
const tasks = [join(here, 'train-tasks.mjs'), '--init', last, '--scenes', scenes, '--precision', 'bfloat16'];
execFileSync(process.execPath, tasks, { cwd: root, stdio: 'inherit' });
