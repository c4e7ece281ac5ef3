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

/** Items done between two looks at the clock. */
const pieceLength = 2 ** 16;

/** Calls `work` on [0, count) in pieces [begin, end), and lets other events run between them. */
export async function inPieces(count: number, work: (begin: number, end: number) => void): Promise<void> {
  const pace = new Pace();
  for (let begin = 0; begin < count; begin += pieceLength) {
    work(begin, Math.min(count, begin + pieceLength));
    await pace.rest();
  }
}
