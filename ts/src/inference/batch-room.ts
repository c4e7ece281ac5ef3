/** How much a queue takes in, and when a caller that was refused may come again. */
import { check, OverloadedError } from '../runtime/errors.ts';

/** Weight of the last run in the measured rate. */
const newest = 0.1;
/** Bounds of the time after which a refused caller may come again, in milliseconds. */
const soonest = 20;
const latest = 60_000;

export class Room {
  readonly #maxItems: number;
  #taken = 0;
  /** Items and milliseconds of late, the last runs counting most. */
  #itemsLately = 0;
  #timeLately = 0;

  constructor(maxItems: number) {
    this.#maxItems = maxItems;
  }

  /** Items that were let in and are not done. */
  get taken(): number {
    return this.#taken;
  }

  /** Items done in a second, of late; 0 before the first run. */
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
      const retryAfter = Math.round(Math.min(latest, Math.max(soonest, time)));
      throw new OverloadedError(
        `${where}: expected room for ${count} more items, the queue holds ${this.#taken} of ${most}; try again in ${retryAfter} ms`,
        retryAfter,
      );
    }
    this.#taken += count;
  }

  leave(count: number): void {
    this.#taken -= count;
  }

  /** Notes a run that was done. */
  measure(items: number, milliseconds: number): void {
    this.#itemsLately += items - newest * this.#itemsLately;
    this.#timeLately += milliseconds - newest * this.#timeLately;
  }
}
