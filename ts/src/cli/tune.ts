/**
 * `mome bench --tune`: measures how work is best cut on this machine. Candidates are asked in turns and their medians compared, so that
 * neighbours on the machine slow all of them alike.
 */
import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { presets } from '../architecture/config.ts';
import type { Vlmo } from '../inference/index.ts';
import { addon, type DType, dtypes } from '../runtime/addon.ts';
import { check, requireNotAborted } from '../runtime/errors.ts';
import { packageRoot } from '../runtime/package-files.ts';
import { createRandom, initialParameters, writeModel } from '../train/index.ts';
import { type BenchCall, benchCalls } from './bench-calls.ts';
import { loadedModel, type ModelFlags } from './context.ts';

/** Numbers of `native/core/blocking.h` by name. */
export type BlockingFields = Readonly<Record<string, number>>;

/** A number, what is tried for it, and the types of weights whose products read it. */
interface Trial {
  readonly field: string;
  readonly values: readonly number[];
  readonly types: readonly DType[];
}

/** In this order: later numbers are tried with the best of earlier ones. */
export const trials: readonly Trial[] = [
  { field: 'depth_steps', values: [256, 384, 768, 1536], types: ['float32', 'bfloat16'] },
  { field: 'block_tiles', values: [8, 16, 32], types: dtypes },
  { field: 'item_panels', values: [4, 8, 16], types: ['float32', 'bfloat16'] },
  { field: 'items_per_thread', values: [2, 4, 8], types: dtypes },
  { field: 'row_block', values: [256, 512, 1024], types: dtypes },
  { field: 'group_bytes', values: [100 << 10, 200 << 10, 400 << 10, 800 << 10], types: ['int8'] },
  { field: 'run_bytes', values: [2 << 20, 4 << 20, 8 << 20, 16 << 20], types: dtypes },
];

/** A number is changed for a gain of this much at least, and of twice what the same number measured again differs by. */
export const leastGain = 0.01;

/** What was measured of one value. */
export interface TunedValue {
  readonly value: number;
  /** Its median time over that of the value so far, the geometric mean of the calls of each type of weights; below 1 it is faster. */
  readonly byType: Readonly<Record<string, number>>;
  /** The geometric mean of all calls. */
  readonly mean: number;
}

export interface Tuning {
  readonly start: BlockingFields;
  readonly best: BlockingFields;
  readonly measured: readonly TunedField[];
}

/** What was measured of one number. `again` is the value so far once more: how far it is from 1 is chance. */
export interface TunedField {
  readonly field: string;
  readonly values: readonly TunedValue[];
  readonly again: TunedValue;
}

/**
 * @param fields the numbers to measure; default: all
 * @param flags the model to time; without one a model of base's sizes, three layers and random weights
 * @param rounds turns of each candidate
 * @param onField called after each number with what was measured for it
 * @throws MomeError `MOME_ABORTED`, `MOME_INVALID_ARGUMENT`, and as `Vlmo.load`
 */
export async function tune(
  fields: readonly string[] | undefined,
  flags: ModelFlags,
  rounds: number,
  signal: AbortSignal,
  onField: (measured: TunedField) => void,
): Promise<Tuning> {
  const { fields: start } = addon().blocking();
  const known = trials.map(({ field }) => field);
  const unknown = fields?.find((field) => !known.includes(field));
  check(
    unknown === undefined,
    'MOME_INVALID_ARGUMENT',
    `bench: expected numbers among ${known.join(', ')}, got "${unknown}"`,
  );
  const temporary = flags.model === undefined ? await mkdtemp(join(tmpdir(), 'mome-tune-')) : undefined;
  const models: Vlmo[] = [];
  try {
    const model = flags.model ?? (await randomModel(temporary!, signal));
    const calls = new Map<string, BenchCall['call']>();
    for (const dtype of flags.dtype === undefined ? dtypes : [flags.dtype]) {
      const loaded = await loadedModel({ device: 'cpu', ...flags, model, dtype });
      models.push(loaded);
      for (const { name, call } of benchCalls(loaded)) calls.set(`${dtype}/${name}`, call);
    }
    let best = start;
    const measured: TunedField[] = [];
    for (const trial of trials) {
      const { field, types } = trial;
      const own = new Map([...calls].filter(([name]) => types.some((type) => name.startsWith(`${type}/`))));
      if (own.size === 0 || fields?.includes(field) === false) continue;
      const found = await measure(trial, best, own, rounds, signal);
      measured.push(found);
      onField(found);
      best = { ...best, [field]: bestOf(found, best[field]!) };
    }
    return { start, best, measured };
  } finally {
    addon().setBlocking(blockingText(start));
    for (const loaded of models) await loaded.dispose();
    if (temporary !== undefined) await rm(temporary, { recursive: true, force: true });
  }
}

/** The quickest value, or the one so far where none is quicker by more than chance. */
export function bestOf({ values, again }: TunedField, current: number): number {
  const quickest = values.reduce((a, b) => (b.mean < a.mean ? b : a));
  const gain = Math.max(leastGain, 2 * Math.abs(again.mean - 1));
  return quickest.mean < 1 - gain ? quickest.value : current;
}

/** Times the calls with each value of one number in turns: all in one process, in the same memory. */
async function measure(
  { field, values: candidates }: Trial,
  best: BlockingFields,
  calls: ReadonlyMap<string, BenchCall['call']>,
  rounds: number,
  signal: AbortSignal,
): Promise<TunedField> {
  const current = best[field]!;
  // The value so far is timed twice.
  const values = [...new Set([current, ...candidates]), current].sort((a, b) => a - b);
  const times = values.map(() => new Map([...calls.keys()].map((name) => [name, [] as number[]])));
  for (let round = -1; round < rounds; round++) {
    for (const [name, call] of calls) {
      for (let turn = 0; turn < values.length; turn++) {
        const i = (turn + Math.max(round, 0)) % values.length;
        requireNotAborted(signal, 'bench');
        addon().setBlocking(blockingText({ ...best, [field]: values[i]! }));
        const started = performance.now();
        await call(signal);
        if (round >= 0) times[i]!.get(name)!.push(performance.now() - started); // the first round packs the weights
      }
    }
  }
  const base = values.indexOf(current);
  const compared = comparedTo(base, values, times);
  return { field, values: compared.filter((_, i) => i !== base + 1), again: compared[base + 1]! };
}

/** What `MOME_BLOCKING` holds for these numbers. */
export function blockingText(fields: BlockingFields): string {
  return Object.entries(fields)
    .map(([name, value]) => `${name}=${value}`)
    .join(',');
}

/** Medians over those of the value at `base`. */
export function comparedTo(
  base: number,
  values: readonly number[],
  times: readonly ReadonlyMap<string, readonly number[]>[],
): TunedValue[] {
  const calls = [...times[base]!.keys()];
  const typeOf = (call: string) => call.slice(0, call.indexOf('/'));
  const types = [...new Set(calls.map(typeOf))];
  return values.map((value, i) => {
    const logs = new Map(
      calls.map((call) => [call, Math.log(median(times[i]!.get(call)!) / median(times[base]!.get(call)!))]),
    );
    const mean = (names: readonly string[]) =>
      Math.exp(names.reduce((sum, name) => sum + logs.get(name)!, 0) / names.length);
    const byType = Object.fromEntries(types.map((type) => [type, mean(calls.filter((call) => typeOf(call) === type))]));
    return { value, byType, mean: mean(calls) };
  });
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1]! + sorted[sorted.length >> 1]!) / 2;
}

/** Writes a model of base's sizes with three layers, which is enough for its weights to leave the caches. */
async function randomModel(folder: string, signal: AbortSignal): Promise<string> {
  const config = { ...presets.base, layers: 3, firstVlLayer: 2 };
  await copyFile(join(packageRoot(), 'models', 'emoji-tiny', 'vocab.txt'), join(folder, 'vocab.txt'));
  const parameters = await initialParameters(config, createRandom(1));
  await writeModel(folder, config, parameters, { dtype: 'float32', vocabularyFiles: [], signal });
  return folder;
}
