/**
 * `npm run bench`: kernels, model, training and memory against their peers in one run, as JSON under bench/results, then the tables
 * and charts of docs/performance.md.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { checkBounds } from './check.mjs';
import { describeMachine, measurePeaks, root, slugOf } from './machine.mjs';
import { sectionOf, writeReport } from './report.mjs';
import { kernelsTable } from './tables/kernels.mjs';
import { memoryTable } from './tables/memory.mjs';
import { modelTable } from './tables/model.mjs';
import { withShare } from './tables/row.mjs';
import { trainingTable } from './tables/training.mjs';

const tables = { kernels: kernelsTable, model: modelTable, training: trainingTable, memory: memoryTable };
/** Rounds of each table: a training step takes seconds, a kernel microseconds. */
const defaultRounds = { kernels: 15, model: 15, training: 5, memory: 1 };

function positive(text) {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) throw new InvalidArgumentError('expected a whole number above 0');
  return value;
}

const options = new Command()
  .name('npm run bench --')
  .description('measure mome against its peers on this machine')
  .addOption(new Option('--only <tables...>', 'tables to measure').choices(Object.keys(tables)))
  .option('--rounds <n>', 'rounds of every table', positive)
  .option('--quick', 'three rounds: to see that it works, not to quote')
  .option('--seed <n>', 'of weights and inputs', positive, 1)
  .option('--threads <n>', 'threads of ours and of the peers; default: the physical cores', positive)
  .option('--cache <folder>', 'where the model of the bench is kept', join(tmpdir(), 'mome-bench'))
  .option('--check', 'exit 1 when a figure is under its bound')
  .option('--allow-missing', 'with --check: a figure that was not measured is no failure')
  .option('--no-write', 'leave bench/results and docs as they are')
  .option('--json', 'print the results as JSON in place of the tables')
  .parse()
  .opts();

/** JSON with lists of numbers, of which there are many, on one line each. */
function printed(value) {
  return JSON.stringify(value, null, 2).replace(/\[[-\d.e+,\s]+\]/g, (list) => list.replace(/\s+/g, ' '));
}

/** Writes a table as soon as it is there: the next one may fail. */
function write(result) {
  const folder = join(root, 'bench', 'results');
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `${result.table}-${slugOf(machine)}.json`), `${printed(result)}\n`);
}

/** Folder of the bench's model. Models of other commits, more than a gigabyte each, are removed. */
function cacheOf(commit) {
  const folder = join(options.cache, `mome-${commit}`);
  mkdirSync(folder, { recursive: true });
  for (const other of readdirSync(options.cache)) {
    if (other.startsWith('mome-') && join(options.cache, other) !== folder) {
      rmSync(join(options.cache, other), { recursive: true });
    }
  }
  return folder;
}

const log = (text) => process.stderr.write(`bench: ${text}\n`);
const { machine, versions, commit } = await describeMachine();
const threads = options.threads ?? machine.cores;

const bounds = JSON.parse(readFileSync(join(root, 'bench', 'bounds.json'), 'utf8'));
const results = [];
for (const name of options.only ?? Object.keys(tables)) {
  const rounds = options.rounds ?? (options.quick ? 3 : defaultRounds[name]);
  const before = measurePeaks();
  const folder = cacheOf(commit);
  const table = await tables[name]({ folder, seed: options.seed, rounds, threads, log });
  const after = measurePeaks();
  const rows = table.rows.map((row) => (row.ours ? withShare(row, before, after) : row));
  const result = {
    table: name,
    date: new Date().toISOString().slice(0, 10),
    commit,
    seed: options.seed,
    rounds,
    machine,
    versions: { ...versions, ...table.versions },
    peaks: { before, after },
    rows,
    absent: table.absent,
  };
  results.push(result);
  if (options.write) write(result);
  if (!options.json) process.stdout.write(`${sectionOf(`${name}-${slugOf(machine)}`, result, bounds)}\n\n`);
}

if (options.write) await writeReport();
if (options.json) process.stdout.write(`${printed(results)}\n`);
if (options.check) {
  const asked = bounds.filter(({ table }) => results.some((result) => result.table === table));
  const verdicts = checkBounds(results, asked, { allowMissing: options.allowMissing ?? false });
  for (const { name, passed, reason } of verdicts) log(`${passed ? 'ok' : 'UNDER ITS BOUND'}: ${name}: ${reason}`);
  if (verdicts.some(({ passed }) => !passed)) process.exitCode = 1;
}
