/** Figures of the last minutes, second by second, in bounded memory. */
import type { RunReport } from '../../inference/index.ts';
import type { ServedEngine } from '../engines.ts';
import type { LiveSample } from './messages.ts';

/** Seconds that are kept. */
export const secondsKept = 180;

/** Durations are counted in buckets whose bounds grow by this factor, from `shortest` milliseconds. */
const growth = 1.1;
const shortest = 0.1;
const buckets = 160; // up to seven minutes

/** How many durations of which length there were in a second. */
class Durations {
  readonly #counts = new Uint32Array(buckets);
  #total = 0;

  add(milliseconds: number): void {
    const bucket = Math.ceil(Math.log(Math.max(milliseconds, shortest) / shortest) / Math.log(growth));
    this.#counts[Math.min(bucket, buckets - 1)]!++;
    this.#total++;
  }

  /** The duration that `share` of all do not exceed, within 10 %; null where there are none. */
  quantile(share: number): number | null {
    if (this.#total === 0) return null;
    let left = Math.ceil(share * this.#total);
    let bucket = 0;
    for (; bucket < buckets - 1; bucket++) {
      left -= this.#counts[bucket]!;
      if (left <= 0) break;
    }
    return rounded(shortest * growth ** (bucket - 0.5));
  }

  clear(): void {
    this.#counts.fill(0);
    this.#total = 0;
  }
}

const rounded = (value: number): number => Number(value.toPrecision(3));

const nothing = { requests: 0, refused: 0, failed: 0, tokens: 0, runs: 0, fill: 0, busy: 0 };

/** Counts requests and runs; takes a sample of them each second until it is closed. */
export class LiveFigures {
  readonly #engines: () => readonly ServedEngine[];
  readonly #samples: LiveSample[] = [];
  readonly #durations = new Durations();
  readonly #timer: NodeJS.Timeout;
  #current = { ...nothing };
  #next = 0;

  constructor(engines: () => readonly ServedEngine[]) {
    this.#engines = engines;
    this.#timer = setInterval(() => this.sample(), 1000);
    this.#timer.unref();
  }

  /** Counts a request that asked for results. */
  request(status: number, milliseconds: number): void {
    if (status === 429) this.#current.refused++;
    else if (status >= 500) this.#current.failed++;
    else if (status < 400) {
      this.#current.requests++;
      this.#durations.add(milliseconds);
    }
  }

  /** Counts a run. */
  run({ rows, budget, milliseconds, failed }: RunReport): void {
    this.#current.busy += milliseconds / 1000;
    if (failed) return;
    this.#current.runs++;
    this.#current.tokens += rows;
    this.#current.fill += rows / budget;
  }

  /** Ends a second. Called by the timer; by tests as well. */
  sample(): void {
    const { fill, busy, ...counts } = this.#current;
    const states = this.#engines().map(({ batcher }) => batcher.state);
    this.#samples.push({
      at: Date.now(),
      ...counts,
      p50: this.#durations.quantile(0.5),
      p95: this.#durations.quantile(0.95),
      fill: counts.runs === 0 ? null : rounded(fill / counts.runs),
      busy: rounded(busy),
      queue: states.reduce((sum, { items }) => sum + items, 0),
      waiting: states.reduce((sum, { ready }) => sum + ready, 0),
    });
    this.#next++;
    if (this.#samples.length > secondsKept) this.#samples.shift();
    this.#current = { ...nothing };
    this.#durations.clear();
  }

  /** The samples since number `since`, as far as they are kept, and the number of the next. */
  since(since: number): { readonly next: number; readonly samples: readonly LiveSample[] } {
    const wanted = Math.min(this.#samples.length, Math.max(0, this.#next - since));
    return { next: this.#next, samples: wanted === 0 ? [] : this.#samples.slice(-wanted) };
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
