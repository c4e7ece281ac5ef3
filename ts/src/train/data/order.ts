/**
 * The order in which training sees a data set. It depends on the seed and the epoch alone, so that a run that goes on, or another number of
 * processes, sees what one uninterrupted process would have seen.
 */
import { check } from '../../runtime/errors.ts';
import { Pace } from '../../runtime/pace.ts';
import { createRandom, type Random } from '../random.ts';
import type { Dataset } from './dataset.ts';
import { type Batch, type BatchPosition, batchesPerEpoch } from './pairs.ts';

/** Items that are shuffled together where a data set has chunks: the rows of some chunks, chosen at random. */
const windowItems = 16_384;
/** Draws between two looks at other events. */
const drawsAtOnce = 2 ** 14;

export interface OrderOptions {
  readonly seed: number;
  /** Items of a batch, of all processes together. */
  readonly batchSize: number;
  readonly from: BatchPosition;
  /** Items that stand together in the data set and stay together in a batch; for data sets without chunks. */
  readonly neighbours: number;
}

/** Batches without end, epoch by epoch; the last incomplete one of an epoch is left out. The same as `sampleBatches` makes without chunks. */
export async function* orderedBatches(
  dataset: Pick<Dataset, 'length' | 'chunkStarts' | 'chunkWindow'>,
  options: OrderOptions,
): AsyncGenerator<Batch, never> {
  const { seed, batchSize, from, neighbours } = options;
  const steps = batchesPerEpoch(dataset, { batchSize });
  for (let { epoch, step } = from; ; epoch++) {
    if (step < steps) {
      const order = await epochOrder(dataset, seed, epoch, neighbours);
      for (; step < steps; step++) {
        const next = step + 1 < steps ? { epoch, step: step + 1 } : { epoch: epoch + 1, step: 0 };
        yield { epoch, step, indices: order.slice(step * batchSize, (step + 1) * batchSize), next };
      }
    }
    step = 0;
  }
}

/** @throws MomeError `MOME_INVALID_ARGUMENT` for a batch size that gives no batch, a position outside the epoch, or no neighbours */
export function checkOrder(dataset: Pick<Dataset, 'length'>, { batchSize, from, neighbours }: OrderOptions): void {
  const isCount = (value: number) => Number.isSafeInteger(value) && value >= 0;
  const steps = batchesPerEpoch(dataset, { batchSize });
  check(
    isCount(from.epoch) && isCount(from.step),
    'MOME_INVALID_ARGUMENT',
    `data: expected whole numbers as position, got epoch ${from.epoch}, step ${from.step}`,
  );
  check(
    from.step <= steps,
    'MOME_INVALID_ARGUMENT',
    `data: expected a step of at most ${steps}, got ${from.step}; was the run made with another batch size?`,
  );
  check(
    isCount(neighbours) && neighbours > 0,
    'MOME_INVALID_ARGUMENT',
    `data: expected 1 or more neighbours, got ${neighbours}`,
  );
}

/** All items of a data set, in the order of an epoch. */
export async function epochOrder(
  dataset: Pick<Dataset, 'length' | 'chunkStarts' | 'chunkWindow'>,
  seed: number,
  epoch: number,
  neighbours: number,
): Promise<Uint32Array> {
  const random = createRandom(seed, epoch);
  const { length, chunkStarts, chunkWindow = Number.POSITIVE_INFINITY } = dataset;
  return chunkStarts && chunkStarts.length > 1
    ? shuffledChunks(length, chunkStarts, chunkWindow, random)
    : shuffledRuns(length, neighbours, random);
}

/** Runs of `neighbours` items from a random start (the end joins the beginning), the runs in random order. */
async function shuffledRuns(length: number, neighbours: number, random: Random): Promise<Uint32Array> {
  const starts = Uint32Array.from({ length: Math.ceil(length / neighbours) }, (_, run) => run * neighbours);
  await shuffle(starts, random);
  if (neighbours === 1) return starts;
  const offset = random.integer(length);
  const order = new Uint32Array(length);
  let filled = 0;
  for (const start of starts)
    for (let at = start; at < Math.min(start + neighbours, length); at++) order[filled++] = (at + offset) % length;
  return order;
}

/** Chunks in random order; the items of as many chunks as fill a window are shuffled together, so that each chunk is read in one stretch. */
async function shuffledChunks(
  length: number,
  chunkStarts: Uint32Array,
  chunkWindow: number,
  random: Random,
): Promise<Uint32Array> {
  const chunks = Uint32Array.from(chunkStarts, (_, chunk) => chunk);
  await shuffle(chunks, random);
  const order = new Uint32Array(length);
  let filled = 0;
  let begin = 0;
  let together = 0;
  for (const [place, chunk] of chunks.entries()) {
    const end = chunkStarts[chunk + 1] ?? length;
    for (let item = chunkStarts[chunk]!; item < end; item++) order[filled++] = item;
    together++;
    if (filled - begin < windowItems && together < chunkWindow && place < chunks.length - 1) continue;
    await shuffle(order.subarray(begin, filled), random);
    begin = filled;
    together = 0;
  }
  return order;
}

/** As `Random.shuffle`, while other events run. */
async function shuffle(list: Uint32Array, random: Random): Promise<void> {
  const pace = new Pace();
  for (let last = list.length - 1; last > 0; last--) {
    const other = random.integer(last + 1);
    const held = list[last]!;
    list[last] = list[other]!;
    list[other] = held;
    if (last % drawsAtOnce === 0) await pace.rest();
  }
}
