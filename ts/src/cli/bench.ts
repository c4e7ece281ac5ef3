/** `mome bench`: the speed of a model on this machine, without peers; `npm run bench` in a clone compares. */
import type { Command } from 'commander';
import { imageTokensOf } from '../architecture/config.ts';
import type { Vlmo } from '../inference/index.ts';
import { check, MomeError } from '../runtime/errors.ts';
import { type BenchCall, benchCalls } from './bench-calls.ts';
import { countNumber, interruption, type ModelFlags, wholeNumber, withModel, withModelFlags } from './context.ts';
import { print, printJson } from './output.ts';
import { printTable } from './table.ts';
import { progressBar } from './terminal.ts';
import { printTuning } from './tune-report.ts';

/** One measured kind of call. */
interface BenchRow {
  readonly name: string;
  readonly items: number;
  readonly milliseconds: { readonly fastDecile: number; readonly median: number; readonly slowDecile: number };
  readonly perSecond: number;
  readonly rounds: number;
}

interface BenchFlags extends ModelFlags {
  readonly seconds: number;
  readonly row?: readonly string[];
  /** Numbers to measure, or all. */
  readonly tune?: readonly string[] | true;
  readonly rounds: number;
}

export function addBench(program: Command): void {
  withModelFlags(
    program
      .command('bench')
      .description('time embedding and matching with a model on this machine')
      .option('--seconds <n>', 'time for each row', wholeNumber, 2)
      .option('--row <name>', 'rows to time, such as "8 pictures"; repeatable', (name, all: string[] = []) => [
        ...all,
        name,
      ])
      .option(
        '--tune [numbers]',
        'measure how work is best cut on this machine, and print a row of native/core/blocking.cc; default: all numbers',
        (numbers: string) => numbers.split(','),
      )
      .option('--rounds <n>', 'rounds of --tune', countNumber, 7),
  ).action((flags: BenchFlags) => {
    if (flags.tune) return printTuning(flags.tune === true ? undefined : flags.tune, flags);
    return bench(flags);
  });
}

async function bench(flags: BenchFlags): Promise<void> {
  const signal = interruption();
  await withModel(flags, async (model) => {
    const calls = chosenCalls(benchCalls(model), flags.row);
    const bar = progressBar('bench', flags.quiet);
    const rows: BenchRow[] = [];
    try {
      for (const work of calls) {
        bar.update(rows.length, calls.length);
        rows.push(await measure(work, flags.seconds, signal));
      }
    } finally {
      bar.stop(); // its timer would keep the process alive
      // What was measured before an interruption or a failure is printed too.
      if (rows.length > 0) printRows(model, rows, calls.length - rows.length, flags.json === true);
    }
  });
}

/** @throws MomeError `MOME_INVALID_ARGUMENT` for a name that no row has */
function chosenCalls(calls: readonly BenchCall[], names: readonly string[] | undefined): readonly BenchCall[] {
  const unknown = names?.find((asked) => !calls.some(({ name }) => name === asked));
  check(
    unknown === undefined,
    'MOME_INVALID_ARGUMENT',
    `bench: expected rows of ${calls.map(({ name }) => `"${name}"`).join(', ')}, got "${unknown}"`,
  );
  return names === undefined ? calls : calls.filter(({ name }) => names.includes(name));
}

/** @param missing rows that were asked for and not measured */
function printRows(model: Vlmo, rows: readonly BenchRow[], missing: number, json: boolean): void {
  const { target, dtype, config } = model;
  const memory = model.memory();
  const partial = missing > 0;
  if (json) {
    printJson({ target, dtype, width: config.width, layers: config.layers, memory, partial, rows });
    return;
  }
  const ms = (value: number) => value.toPrecision(3);
  printTable(
    ['call', 'ms: fast', 'median', 'slow', 'items/s'],
    rows.map(({ name, milliseconds: { fastDecile, median, slowDecile }, perSecond }) => [
      name,
      ms(fastDecile),
      ms(median),
      ms(slowDecile),
      perSecond.toPrecision(3),
    ]),
  );
  const mib = (bytes: number) => (bytes / 2 ** 20).toFixed(0);
  print(
    `${target}, ${dtype}, width ${config.width}, ${config.layers} layers, ${imageTokensOf(config)} image tokens; ` +
      `weights ${mib(memory.weightBytes)} MiB, arena ${mib(memory.arenaBytes)} MiB`,
  );
  if (partial) print(`partial: ${missing} more rows were not measured`);
}

async function measure({ name, items, call }: BenchCall, seconds: number, signal: AbortSignal): Promise<BenchRow> {
  await call(signal); // warms up: weights are packed when they are first needed
  const times: number[] = [];
  const end = performance.now() + 1000 * seconds;
  do {
    if (signal.aborted) throw new MomeError('MOME_ABORTED', 'bench: it was interrupted', { cause: signal.reason });
    const started = performance.now();
    await call(signal);
    times.push(performance.now() - started);
  } while (performance.now() < end);
  times.sort((a, b) => a - b);
  const at = (share: number) => times[Math.floor(share * (times.length - 1))]!;
  return {
    name,
    items,
    milliseconds: { fastDecile: at(0.1), median: at(0.5), slowDecile: at(0.9) },
    perSecond: (1000 * items) / at(0.5),
    rounds: times.length,
  };
}
