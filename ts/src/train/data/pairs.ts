/** Image-text pairs as training sees them, and the order in which it sees them. */
import { check } from '../../runtime/errors.ts';
import { createRandom, type Random } from '../random.ts';

/** A set of pictures with captions. All pictures have one size and one kind of pixel. */
export interface PairDataset {
  readonly length: number;
  /** Side of every picture in pixels. */
  readonly size: number;
  /** 3: RGB. 4: premultiplied RGBA, whose background is the reader's choice. */
  readonly channels: 3 | 4;
  /** Pixels, [size, size, channels]. May be shared memory: read only. */
  image(index: number): Uint8Array | Promise<Uint8Array>;
  /** At least one; the first is the one evaluation uses. */
  captions(index: number): readonly string[];
  /** Items of one group are positives of each other: the same thing drawn twice, or one picture listed twice. */
  group(index: number): number;
  /** Names what a picture is read from, the same wherever the set lies. */
  source?(index: number): string;
  /** Closes files, where the set keeps some open. */
  close?(): void;
}

/** The same set with an item for each caption, as the original reads it: a picture stands in it once for each of its captions. */
export function everyCaption(dataset: PairDataset): PairDataset {
  const items: number[] = [];
  const places: number[] = [];
  for (let item = 0; item < dataset.length; item++)
    for (let place = 0; place < dataset.captions(item).length; place++) {
      items.push(item);
      places.push(place);
    }
  const itemOf = (index: number): number => {
    const item = items[index];
    check(
      item !== undefined,
      'MOME_INVALID_ARGUMENT',
      `everyCaption: expected an index below ${items.length}, got ${index}`,
    );
    return item;
  };
  const { source } = dataset;
  return {
    length: items.length,
    size: dataset.size,
    channels: dataset.channels,
    image: (index) => dataset.image(itemOf(index)),
    captions: (index) => [dataset.captions(itemOf(index))[places[index]!]!],
    group: (index) => dataset.group(itemOf(index)),
    ...(source && { source: (index) => source(itemOf(index)) }),
    ...(dataset.close && { close: () => dataset.close!() }),
  };
}

/** Where a run of batches stands; plain JSON for a checkpoint. */
export interface BatchPosition {
  readonly epoch: number;
  /** Batch within the epoch. */
  readonly step: number;
}

export interface Batch extends BatchPosition {
  /** Items of the data set, [batchSize]; fewer in the last batch of an epoch where it is kept. */
  readonly indices: Uint32Array;
  /** Where to go on after this batch. */
  readonly next: BatchPosition;
}

export interface BatchOptions {
  readonly batchSize: number;
  readonly seed: number;
  /** Where to start; the beginning unless named. */
  readonly from?: BatchPosition;
  /** Ends before this epoch; goes on for ever unless named. */
  readonly epochs?: number;
  /** Keeps an incomplete last batch. Off: a contrastive loss depends on the batch size. */
  readonly keepLast?: boolean;
  /**
   * Items that follow each other in the data set and stay together in a batch; 1 unless named. Where the order of a set has a
   * meaning, neighbours are alike, and a batch of them holds harder negatives than one of strangers.
   */
  readonly neighbours?: number;
}

/**
 * Batches of a data set, every item once per epoch in an order that depends on the seed and the epoch alone, so that a run
 * started again at a {@link BatchPosition} sees what the first one would have seen.
 *
 * @throws MomeError `MOME_INVALID_ARGUMENT` for sizes that give no batch, or a position outside the epoch.
 * @example
 * for (const { indices, next } of sampleBatches(dataset, { batchSize: 256, seed: 7, epochs: 10 })) { ... }
 */
export function* sampleBatches(dataset: Pick<PairDataset, 'length'>, options: BatchOptions): Generator<Batch, void> {
  const {
    batchSize,
    seed,
    from = { epoch: 0, step: 0 },
    epochs = Number.POSITIVE_INFINITY,
    keepLast = false,
    neighbours = 1,
  } = options;
  check(
    Number.isInteger(neighbours) && neighbours >= 1,
    'MOME_INVALID_ARGUMENT',
    `sampleBatches: expected 1 or more neighbours, got ${neighbours}`,
  );
  const steps = batchesPerEpoch(dataset, { batchSize, keepLast });
  check(
    Number.isSafeInteger(from.epoch) && from.epoch >= 0 && Number.isInteger(from.step) && from.step >= 0,
    'MOME_INVALID_ARGUMENT',
    `sampleBatches: expected whole numbers as position, got epoch ${from.epoch}, step ${from.step}`,
  );
  check(
    from.step <= steps,
    'MOME_INVALID_ARGUMENT',
    `sampleBatches: expected a step of at most ${steps}, got ${from.step}; was the run made with another batch size?`,
  );
  let step = from.step;
  for (let epoch = from.epoch; epoch < epochs; epoch++) {
    const order = shuffledRuns(dataset.length, neighbours, createRandom(seed, epoch));
    for (; step < steps; step++) {
      const next = step + 1 < steps ? { epoch, step: step + 1 } : { epoch: epoch + 1, step: 0 };
      yield { epoch, step, indices: order.slice(step * batchSize, (step + 1) * batchSize), next };
    }
    step = 0;
  }
}

/** All of 0..length-1, cut into runs of `neighbours` from a random start (the end joins the beginning), the runs in random order. */
function shuffledRuns(length: number, neighbours: number, random: Random): Uint32Array {
  const starts = random.shuffle(
    Uint32Array.from({ length: Math.ceil(length / neighbours) }, (_, run) => run * neighbours),
  );
  const offset = neighbours === 1 ? 0 : random.integer(length);
  const order = new Uint32Array(length);
  let filled = 0;
  for (const start of starts) {
    for (let at = start; at < Math.min(start + neighbours, length); at++) order[filled++] = (at + offset) % length;
  }
  return order;
}

/**
 * @returns how many batches {@link sampleBatches} makes of one epoch.
 * @throws MomeError `MOME_INVALID_ARGUMENT` where that is none.
 */
export function batchesPerEpoch(
  dataset: Pick<PairDataset, 'length'>,
  options: Pick<BatchOptions, 'batchSize' | 'keepLast'>,
): number {
  const { batchSize, keepLast = false } = options;
  check(
    Number.isInteger(batchSize) && batchSize >= 1,
    'MOME_INVALID_ARGUMENT',
    `sampleBatches: expected a batch size of 1 or more, got ${batchSize}`,
  );
  const steps = keepLast ? Math.ceil(dataset.length / batchSize) : Math.floor(dataset.length / batchSize);
  check(
    steps > 0,
    'MOME_INVALID_ARGUMENT',
    `sampleBatches: expected at least ${keepLast ? 1 : batchSize} items for a batch, got ${dataset.length}`,
  );
  return steps;
}
