/**
 * The stages of one call of a queue, for whoever traces it: when its pictures were decoded, when its items waited, and the runs they had a
 * part in. Times are those of `performance.now()`.
 */
import type { RunReport } from './batch-scheduler.ts';

interface Span {
  readonly begun: number;
  readonly ended: number;
  /** What the call ended with in the middle of this stage. */
  readonly error?: unknown;
}

export type CallStage =
  /** From the first picture whose decoding began to the last one that was decoded. */
  | (Span & { readonly stage: 'decode'; readonly pictures: number })
  /** From the first item that was ready to the run that took it. */
  | (Span & { readonly stage: 'queue'; readonly items: number })
  /** A run that did items of this call; the same report goes to all calls that it served. Without, the call did not wait for its end. */
  | (Span & { readonly stage: 'run'; readonly items: number; readonly run?: RunReport });

/** What the stages need to know of an item. */
export interface StagedItem {
  readonly state: 'unprepared' | 'preparing' | 'ready' | 'running' | 'done';
  readonly pictures: readonly unknown[];
  readonly readyAt: number;
  readonly run?: { readonly begun: number };
}

export class CallStages {
  readonly #tell: (stage: CallStage) => void;
  readonly #begun = performance.now();
  #decodeBegun: number | undefined;
  #undecoded = 0;
  #pictures = 0;
  #isOver = false;

  constructor(tell: (stage: CallStage) => void) {
    this.#tell = tell;
  }

  /** The call waits for an item. */
  joined({ state, pictures }: StagedItem): void {
    if (state !== 'unprepared' && state !== 'preparing') return;
    this.#undecoded++;
    this.#pictures += pictures.length;
    if (state === 'preparing') this.decoding();
  }

  /** The pictures of one of its items are being decoded. */
  decoding(): void {
    this.#decodeBegun ??= performance.now();
  }

  /** They have been. */
  decoded(): void {
    if (--this.#undecoded === 0) this.#endDecoding();
  }

  #endDecoding(error?: unknown): void {
    if (this.#decodeBegun === undefined) return;
    this.#tell({ stage: 'decode', ...span(this.#decodeBegun, performance.now(), error), pictures: this.#pictures });
    this.#decodeBegun = undefined;
    this.#pictures = 0;
  }

  /** A run has ended that did items of the call. */
  ran(items: readonly StagedItem[], begun: number, ended: number, run: RunReport, error?: unknown): void {
    this.#waited(items, begun);
    this.#tell({ stage: 'run', ...span(Math.max(begun, this.#begun), ended, error), items: items.length, run });
  }

  #waited(items: readonly StagedItem[], ended: number, error?: unknown): void {
    const begun = Math.max(this.#begun, Math.min(...items.map(({ readyAt }) => readyAt)));
    if (begun < ended) this.#tell({ stage: 'queue', ...span(begun, ended, error), items: items.length });
  }

  /** The call ends before all its items are done. */
  broke(items: readonly StagedItem[], error: unknown): void {
    if (this.#isOver) return;
    this.#isOver = true;
    const now = performance.now();
    if (this.#undecoded > 0) this.#endDecoding(error);
    const waiting = items.filter(({ state }) => state === 'ready');
    if (waiting.length > 0) this.#waited(waiting, now, error);
    const running = items.filter(({ state, run }) => state === 'running' && run);
    for (const run of new Set(running.map((item) => item.run!))) {
      const own = running.filter((item) => item.run === run);
      this.#waited(own, run.begun);
      this.#tell({ stage: 'run', ...span(Math.max(run.begun, this.#begun), now, error), items: own.length });
    }
  }
}

const span = (begun: number, ended: number, error: unknown): Span => ({
  begun,
  ended,
  ...(error !== undefined && { error }),
});
