/** Batches of any data set, made ahead of the step that trains on them. */

import { onAbort } from '../../runtime/abort.ts';
import { check, MomeError, requireNotAborted } from '../../runtime/errors.ts';
import type { TrainingBatch } from '../objectives/step.ts';
import { BatchMaker, type BatchOptions, type MadeBatch, type SkippedItem } from './batch-maker.ts';
import type { Dataset } from './dataset.ts';
import { checkOrder, orderedBatches } from './order.ts';
import type { Batch, BatchPosition } from './pairs.ts';

export interface LoaderOptions extends BatchOptions {
  /** Items of a batch, of all processes together. */
  readonly batchSize: number;
  /** Where to start; the beginning unless named. */
  readonly from?: BatchPosition;
  /** Items that stand together in the data set and stay together in a batch; 1 unless named. Files with chunks have an order of their own. */
  readonly neighbours?: number;
  /** Batches made ahead; 2 unless named. */
  readonly prefetch?: number;
  /** Largest share of damaged items, counted from {@link fewestSamples} samples on; 0.01 unless named. */
  readonly maxSkippedShare?: number;
}

export interface LoadedBatch {
  readonly training: TrainingBatch;
  /** Where the data have them: [items, grid * grid]. */
  readonly visualTokens?: Int32Array;
  /** Where to go on after this batch. */
  readonly position: BatchPosition;
  /** Names of its items, for messages. */
  readonly origins: readonly string[];
}

export interface LoaderStatistics {
  /** Time that `next` took, together. */
  readonly waitedSeconds: number;
  /** Items handed over. */
  readonly samples: number;
  /** Damaged items, which others replaced. */
  readonly skippedCount: number;
  /** The first of them. */
  readonly skipped: readonly SkippedItem[];
}

/** Samples before the share of damaged ones is judged. */
export const fewestSamples = 100;
/** Damaged items that are named. */
const mostNamed = 100;

/**
 * Batches of a data set without end. The same seed and position give the same batch, however many pictures are decoded at a time and however
 * many processes share the batch.
 *
 * @example
 * const loader = new BatchLoader(dataset, { config, tokenizer, batchSize: 256, seed: 7, augment: 'original' });
 * const { training, position } = await loader.next();
 */
export class BatchLoader {
  readonly #maker: BatchMaker;
  readonly #plans: AsyncGenerator<Batch, never>;
  readonly #queue: Promise<MadeBatch & { readonly position: BatchPosition }>[] = [];
  readonly #ahead: number;
  readonly #mostShare: number;
  readonly #closing = new AbortController();
  readonly #skipped: SkippedItem[] = [];
  #skippedCount = 0;
  #samples = 0;
  #waitedSeconds = 0;

  /** @throws MomeError `MOME_INVALID_ARGUMENT` for options out of range, `MOME_INVALID_CONFIG` for ones that do not suit the data */
  constructor(dataset: Dataset, options: LoaderOptions) {
    const {
      batchSize,
      seed,
      from = { epoch: 0, step: 0 },
      neighbours = 1,
      prefetch = 2,
      maxSkippedShare = 0.01,
    } = options;
    checkOrder(dataset, { batchSize, seed, from, neighbours });
    check(
      Number.isInteger(prefetch) && prefetch >= 0,
      'MOME_INVALID_ARGUMENT',
      `data: expected to prefetch 0 or more batches, got ${prefetch}`,
    );
    check(
      maxSkippedShare >= 0 && maxSkippedShare <= 1,
      'MOME_INVALID_ARGUMENT',
      `data: expected maxSkippedShare in [0, 1], got ${maxSkippedShare}`,
    );
    this.#ahead = prefetch;
    this.#mostShare = maxSkippedShare;
    this.#maker = new BatchMaker(dataset, options, this.#closing.signal);
    this.#plans = orderedBatches(dataset, { batchSize, seed, from, neighbours });
  }

  /**
   * The next batch.
   *
   * @param signal stops waiting; the batch is then the next one again
   * @throws MomeError `MOME_ABORTED`; `MOME_DISPOSED` once closed; `MOME_INVALID_FILE` where too many items are damaged; errors of reading
   *   that are not about one item, such as `MOME_IO`
   */
  async next(signal?: AbortSignal): Promise<LoadedBatch> {
    check(!this.#closing.signal.aborted, 'MOME_DISPOSED', 'data: expected an open loader, it was closed');
    requireNotAborted(signal, 'data');
    this.#fill(1);
    const started = performance.now();
    let ended = () => {};
    try {
      const aborted = new Promise<never>((_, reject) => {
        ended = onAbort(signal, () => {
          reject(new MomeError('MOME_ABORTED', 'data: aborted while a batch was read', { cause: signal?.reason }));
        });
      });
      const { skipped, ...batch } = await Promise.race([this.#queue[0]!, aborted]);
      void this.#queue.shift();
      this.#fill(this.#ahead);
      this.#count(batch.origins.length, skipped);
      return batch;
    } finally {
      ended();
      this.#waitedSeconds += (performance.now() - started) / 1000;
    }
  }

  get statistics(): LoaderStatistics {
    return {
      waitedSeconds: this.#waitedSeconds,
      samples: this.#samples,
      skippedCount: this.#skippedCount,
      skipped: [...this.#skipped],
    };
  }

  /** Stops making batches. The data set stays open. */
  close(): void {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort(new MomeError('MOME_DISPOSED', 'data: the loader was closed while a batch was read'));
    this.#queue.length = 0;
  }

  #fill(count: number): void {
    while (this.#queue.length < count) {
      const made = this.#plans.next().then(async ({ value }) => {
        return { ...(await this.#maker.make(value)), position: value.next };
      });
      // Failures are told when the batch is asked for.
      made.catch(() => {});
      this.#queue.push(made);
    }
  }

  #count(samples: number, skipped: readonly SkippedItem[]): void {
    this.#samples += samples;
    this.#skippedCount += skipped.length;
    this.#skipped.push(...skipped.slice(0, mostNamed - this.#skipped.length));
    const tried = this.#samples + this.#skippedCount;
    const [first] = this.#skipped;
    check(
      tried < fewestSamples || this.#skippedCount <= this.#mostShare * tried,
      'MOME_INVALID_FILE',
      `data: expected at most ${100 * this.#mostShare} % damaged items, got ${this.#skippedCount} of ${tried}; the first: ${first?.message}`,
    );
  }
}
