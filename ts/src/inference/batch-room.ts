/** How much a queue takes in, and when a caller that was refused may come again. */
import { check, OverloadedError } from '../runtime/errors.ts';

/** Weight of the last run in the measured rate. */
const newest = 0.1;
/** Share of its time within which a call has to be done by what is expected: runs differ. */
const expectedShare = 3 / 4;
/** Bounds of the time after which a refused caller may come again, in milliseconds. */
const soonest = 20;
const latest = 60_000;

export class Room {
  readonly #maxItems: number;
  #taken = 0;
  /** Items and milliseconds of recent runs, the last ones counting most. */
  #itemsLately = 0;
  #timeLately = 0;
  /** Token rows and milliseconds of runs that were at least half full, the last ones counting most; 0 before the first. */
  #fullRows = 0;
  #fullTime = 0;

  constructor(maxItems: number) {
    this.#maxItems = maxItems;
  }

  /** Items that were let in and are not done. */
  get taken(): number {
    return this.#taken;
  }

  /** Items done in a second, by recent runs; 0 before the first run. */
  get rate(): number {
    return this.#timeLately === 0 ? 0 : (1000 * this.#itemsLately) / this.#timeLately;
  }

  /**
   * Lets the items of a call in, or refuses all of them.
   *
   * @throws MomeError `MOME_OVERLOADED`; `MOME_TOO_LARGE` for more than there is ever room for
   */
  enter(where: string, count: number): void {
    const most = this.#maxItems;
    check(count <= most, 'MOME_TOO_LARGE', `${where}: expected at most ${most} items in one call, got ${count}`);
    if (this.#taken + count > most) {
      const missing = this.#taken + count - most;
      const time = this.rate === 0 ? 1000 : (1000 * missing) / this.rate;
      throw refusal(where, `room for ${count} more items, the queue holds ${this.#taken} of ${most}`, time);
    }
    this.#taken += count;
  }

  /**
   * Refuses a call that would wait in vain: it is told at once, and takes no time from others.
   *
   * @param rows token rows that are to be done until it is
   * @param left milliseconds that it has
   * @throws MomeError `MOME_OVERLOADED`
   */
  requireTime(where: string, rows: number, left: number): void {
    if (this.#fullTime === 0) return;
    const time = (rows * this.#fullTime) / this.#fullRows;
    if (time <= expectedShare * left) return;
    const [needed, given] = [time, left].map(Math.round);
    throw refusal(
      where,
      `to be done within ${given} ms, the queue needs about ${needed} ms`,
      time - expectedShare * left,
    );
  }

  leave(count: number): void {
    this.#taken -= count;
  }

  /** Notes a run that was done, of so many token rows, and how many it could have had. */
  measure(items: number, rows: number, budget: number, milliseconds: number): void {
    this.#itemsLately += items - newest * this.#itemsLately;
    this.#timeLately += milliseconds - newest * this.#timeLately;
    if (2 * rows < budget) return; // it says nothing of how fast full ones are
    // Not a mean of rates: of two runs whose ends are noticed in one turn of the event loop, the second seems to have taken no time.
    this.#fullRows += rows - newest * this.#fullRows;
    this.#fullTime += milliseconds - newest * this.#fullTime;
  }
}

function refusal(where: string, expected: string, time: number): OverloadedError {
  const retryAfter = Math.round(Math.min(latest, Math.max(soonest, time)));
  return new OverloadedError(`${where}: expected ${expected}; try again in ${retryAfter} ms`, retryAfter);
}
