/** Keeps long loops from holding up the event loop. */
import { setImmediate } from 'node:timers/promises';

/** Milliseconds of work between two looks at other events. */
const slice = 8;

/** Call `await pace.rest()` inside a loop: it returns at once until a slice of time is used up, then lets other events run. */
export class Pace {
  #since = performance.now();

  async rest(): Promise<void> {
    if (performance.now() - this.#since < slice) return;
    await setImmediate();
    this.#since = performance.now();
  }
}
