/**
 * Measures how long a piece of work holds the event loop, on machines that others use too.
 *
 * A probe runs once in each turn of the loop. Between two probes the loop was held for the time that passed, less the time in which
 * this thread was ready and waited for a core: Linux counts both for each thread in `schedstat`. Waiting for a lock or for a file
 * inside a turn holds the loop and counts.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { expect } from 'vitest';

/** The longest turn of the event loop during a piece of work. */
export interface LoopGap<Result> {
  /** Milliseconds that the longest turn held the loop, without waiting for a core. */
  readonly held: number;
  /** Milliseconds of the longest turn by the clock. */
  readonly elapsed: number;
  /** What the work gave; undefined when it was refused. */
  readonly result: Result | undefined;
  /** What the work threw or rejected with. */
  readonly error: unknown;
}

/** Nanoseconds that the calling thread has waited for a core so far; 0 where the system does not tell. */
class CoreWaits {
  readonly #file: number | undefined;
  readonly #text = Buffer.alloc(96);

  constructor() {
    try {
      this.#file = openSync('/proc/thread-self/schedstat', 'r');
    } catch {
      this.#file = undefined;
    }
  }

  read(): number {
    if (this.#file === undefined) return 0;
    const length = readSync(this.#file, this.#text, 0, this.#text.length, 0);
    // "<ns on a core> <ns ready and waiting for one> <turns>"
    return Number(this.#text.toString('latin1', 0, length).split(' ')[1] ?? 0);
  }

  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
  }
}

/** Runs `work` once and watches the loop from its call to the turn after its end. A failure of it is a result as well. */
export async function loopGap<Result>(work: () => Promise<Result> | Result): Promise<LoopGap<Result>> {
  const waits = new CoreWaits();
  let held = 0;
  let elapsed = 0;
  let time = performance.now();
  let waited = waits.read();
  const probe = () => {
    const now = performance.now();
    const waitedNow = waits.read();
    elapsed = Math.max(elapsed, now - time);
    held = Math.max(held, now - time - (waitedNow - waited) / 1e6);
    time = now;
    waited = waitedNow;
  };
  let next = setImmediate(function again() {
    probe();
    next = setImmediate(again);
  });
  let result: Result | undefined;
  let error: unknown;
  try {
    result = await work();
  } catch (failure) {
    error = failure;
  }
  await new Promise((resolve) => setImmediate(resolve));
  clearImmediate(next);
  probe();
  waits.close();
  return { held, elapsed, result, error };
}

/**
 * Expects `work` to hold the loop for less than `most` milliseconds. Other load can only lengthen a turn (collected garbage waits for
 * helper threads, which wait for cores), so that the best of three runs counts.
 *
 * @param work is called anew for each run
 * @returns what the last run gave. @throws what the work throws
 */
export async function expectShortTurns<Result>(work: () => Promise<Result> | Result, most = 50): Promise<Result> {
  let best = Number.POSITIVE_INFINITY;
  for (let run = 0; ; run++) {
    const { held, result, error } = await loopGap(work);
    if (error !== undefined) throw error;
    best = Math.min(best, held);
    if (best < most || run === 2) {
      expect(best, 'milliseconds that one turn of the event loop took').toBeLessThan(most);
      return result as Result;
    }
  }
}
