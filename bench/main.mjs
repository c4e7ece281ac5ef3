/**
 * `npm run bench`: kernels, model, training and memory against their peers in one run, as JSON under bench/results, then the tables
 * and charts of docs/performance.md. What was measured is kept when a run is interrupted or fails.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { boundsOf, checkBounds } from './check.mjs';
import { describeMachine, measurePeaks, root } from './machine.mjs';
import { slugOf } from './processor-kind.mjs';
import { sectionOf, writeReport } from './report.mjs';
import { inOrder, printed, readResult, withOlderRows, writeResult } from './results.mjs';
import { Interrupted, interruption, selectRows, TableRun } from './table-run.mjs';
import { kernelsTable } from './tables/kernels.mjs';
import { memoryTable } from './tables/memory.mjs';
import { mainRows, modelTable } from './tables/model.mjs';
import { withShare } from './tables/row.mjs';
import { trainingTable } from './tables/training.mjs';

const tables = { kernels: kernelsTable, model: modelTable, training: trainingTable, memory: memoryTable };
/** Rounds of each table: a training step takes seconds, a kernel microseconds. */
const defaultRounds = { kernels: 15, model: 15, training: 5, memory: 1 };
const quickRounds = 3;

function positive(text) {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) throw new InvalidArgumentError('expected a whole number above 0');
  return value;
}

const options = new Command()
  .name('npm run bench --')
  .description('measure mome against its peers on this machine')
  .addOption(new Option('--only <tables...>', 'tables to measure').choices(Object.keys(tables)))
  .option('--row <name>', 'rows to measure: a name, or part of names; repeatable', (name, all) => [...all, name], [])
  .addOption(new Option('--main', 'the main rows of the model alone, without PyTorch, in minutes').conflicts('only'))
  .option('--target <name>', 'kernel set to measure, and whose peaks; default: the fastest')
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

const log = (text) => process.stderr.write(`bench: ${text}\n`);
const signal = interruption();

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

/** Names of all rows of the tables that may be measured. */
async function allNames() {
  const chosen = options.main ? ['model'] : (options.only ?? Object.keys(tables));
  const names = {};
  for (const name of chosen) names[name] = await tables[name].names({ seed: options.seed });
  return names;
}

/** Measures some rows of a table. @returns the result with what there is, and why there is no more */
async function measureTable(name, rows, { about, names }) {
  const { machine, versions, commit, hasVnni } = about;
  const rounds = options.rounds ?? (options.quick || options.main ? quickRounds : defaultRounds[name]);
  const path = join(root, 'bench', 'results', `${name}-${slugOf(machine)}.json`);
  const older = readResult(path);
  let before;
  const resultOf = (run, after, partial) => ({
    table: name,
    date: new Date().toISOString().slice(0, 10),
    commit,
    seed: options.seed,
    rounds,
    machine,
    versions: { ...versions, ...run.versions },
    peaks: { before, after },
    rows: inOrder(run.rows, names).map((row) => (row.ours ? withShare(row, before, after ?? before) : row)),
    absent: run.absent,
    ...(partial && { partial: { ...partial, measured: run.measured, of: run.asked } }),
  });
  const write = (result) => {
    if (options.write && result.rows.length > 0) writeResult(path, withOlderRows(result, older, names));
  };
  const run = new TableRun({
    names: rows,
    folder: cacheOf(commit),
    seed: options.seed,
    rounds,
    threads: options.threads ?? machine.cores,
    target: machine.target,
    hasVnni,
    quick: options.main ?? false,
    torch: !options.main,
    signal,
    log,
    // A crash of a peer that runs in this process takes everything with it.
    onRow: (soFar) => write(resultOf(soFar, undefined, { reason: 'the run did not end' })),
  });
  let problem;
  let after;
  try {
    before = await measurePeaks(machine.target, signal);
    await tables[name].measure(run);
    after = await measurePeaks(machine.target, signal);
  } catch (caught) {
    problem = caught;
    if (!(caught instanceof Interrupted)) log(caught.stack);
  }
  const result = resultOf(run, after, problem && { reason: problem.message.split('\n')[0] });
  write(result);
  return { result, problem };
}

/** What is asked for: names of rows by table, of these those to measure, and the machine. */
async function asked() {
  const all = await allNames();
  const wanted = options.main ? { model: mainRows } : all;
  const chosen = options.row.length > 0 ? selectRows(wanted, options.row) : wanted;
  return { all, chosen, about: await describeMachine(options.target) };
}

const { all, chosen, about } = await asked().catch((problem) => {
  process.stderr.write(`${problem.message}\n`);
  process.exit(2);
});
process.env.MOME_TARGET = about.machine.target;
const bounds = JSON.parse(readFileSync(join(root, 'bench', 'bounds.json'), 'utf8'));
const boundsOfRows = (rows) => bounds.filter(({ row }) => rows.includes(row));
const results = [];
for (const [name, rows] of Object.entries(chosen)) {
  const { result, problem } = await measureTable(name, rows, { about, names: all[name] });
  if (result.rows.length > 0) results.push(result);
  if (result.rows.length === 0) log(`${name}: no row was finished`);
  else if (!options.json)
    process.stdout.write(`${sectionOf(`${name}-${slugOf(about.machine)}`, result, boundsOfRows(rows))}\n\n`);
  if (problem) process.exitCode = problem instanceof Interrupted ? (problem.by === 'SIGINT' ? 130 : 143) : 1;
  if (signal.aborted) break;
}

if (options.write && results.length > 0) await writeReport();
if (options.json) process.stdout.write(`${printed(results)}\n`);
if (options.check) {
  const asked = Object.entries(chosen).flatMap(([table, rows]) =>
    boundsOf(boundsOfRows(rows), table, about.machine.target),
  );
  const verdicts = checkBounds(results, asked, { allowMissing: options.allowMissing ?? false });
  for (const { name, passed, reason } of verdicts) log(`${passed ? 'ok' : 'UNDER ITS BOUND'}: ${name}: ${reason}`);
  if (verdicts.some(({ passed }) => !passed)) process.exitCode ??= 1;
}
// Whoever was interrupted waits for nothing: a call of a peer may still be running.
if (signal.aborted) process.exit();
