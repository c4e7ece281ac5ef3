/**
 * The figures of `mome serve`, in parts that each run alone and write one file under bench/results:
 *
 *   node bench/server.mjs overhead                    # the model that ships with mome
 *   node bench/server.mjs throughput --base           # the base model with random weights
 *   node bench/server.mjs chaos --minutes 1 --no-write
 *
 * It exits with 1 where a figure misses its bound, and with 2 where there is none.
 */
import { mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Argument, Command } from 'commander';
import { prepareBaseModel } from './base-model.mjs';
import { describeMachine, root } from './machine.mjs';
import { slugOf } from './processor-kind.mjs';
import { printed, writeResult } from './results.mjs';

const parts = ['throughput', 'overhead', 'interactive', 'saturation', 'padding', 'soak', 'chaos'];
const program = new Command()
  .name('node bench/server.mjs')
  .description('measure the server on this machine; exits with 1 where a figure misses its bound')
  .addArgument(new Argument('<part>').choices(parts))
  .option('--base', 'the base model with random weights in place of the one that ships with mome')
  .option('--model <path>', 'another model')
  .option('--seconds <n>', 'of load: of each turn, or in all', Number)
  .option('--minutes <n>', 'of chaos', Number)
  .option('--rounds <n>', 'turns of both sides', Number)
  .option('--count <n>', 'requests', Number)
  .option('--only <kinds...>', 'of throughput: texts, images, mixed')
  .option('--runs-ahead <n>', 'of the server, in throughput and interactive', Number)
  .option('--cache <folder>', 'where the base model is kept', join(tmpdir(), 'mome-bench', 'server'))
  .option('--no-write', 'write no file')
  .parse();
const part = program.args[0];
const { base, cache, write, model: path, ...given } = program.opts();

mkdirSync(cache, { recursive: true });
const kind = base ? 'base' : 'shipped';
const model = base ? (await prepareBaseModel(cache, 1, { onnx: false })).model : path;
const { title, measure } = await import(`./server/${part}.mjs`);
const log = (text) => process.stderr.write(`${part}: ${text}\n`);
const about = await describeMachine();
log(`${title}; ${path ?? `${kind} model`}`);
const { passed, ...figures } = await measure({ model, kind, ...given, log }).catch((error) => {
  log(error.message); // such as a time that is too short for a figure
  process.exit(2);
});
const result = {
  part,
  title,
  model: path ?? kind,
  date: new Date().toISOString().slice(0, 10),
  commit: about.commit,
  machine: about.machine,
  versions: about.versions,
  options: given,
  passed,
  ...figures,
};
if (write) writeResult(join(root, 'bench', 'results', `server-${part}-${kind}-${slugOf(about.machine)}.json`), result);
process.stdout.write(`${printed(result)}\n`);
process.exitCode = passed ? 0 : 1;
