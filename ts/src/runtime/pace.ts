/** Keeps long loops from holding up the event loop. */

/** Milliseconds of paced work in one turn of the event loop. */
const slice = 8;

/** What has been done of it in this turn. */
let worked = 0;
let isTurnWatched = false;
/** Work that waits for a turn of its own, in the order of arrival. */
const waiting: (() => void)[] = [];

function watchTurn(): void {
  if (isTurnWatched) return;
  isTurnWatched = true;
  setImmediate(nextTurn);
}

/** Lets one piece of work go on, and comes back in the next turn while others wait. */
function nextTurn(): void {
  isTurnWatched = false;
  worked = 0;
  const resume = waiting.shift();
  if (resume === undefined) return;
  watchTurn();
  resume();
}

/**
 * Call `await pace.rest()` inside a loop: it returns at once until the slice of this turn is used up, then lets other events run. All paces
 * of a turn share one slice, so that ten calls side by side hold the loop no longer than one.
 */
export class Pace {
  #since = performance.now();

  async rest(): Promise<void> {
    const now = performance.now();
    worked += now - this.#since;
    this.#since = now;
    watchTurn();
    if (worked < slice) return;
    await new Promise<void>((resolve) => waiting.push(resolve));
    this.#since = performance.now();
  }
}

/**
 * Calls `work` for each item in turn and lets other events run in between. For work of a few microseconds: the clock is looked at once in
 * a while, since even that takes time and leaves garbage.
 */
export async function forEachPaced<T>(items: readonly T[], work: (item: T, index: number) => void): Promise<void> {
  const pace = new Pace();
  for (let begin = 0; begin < items.length; begin += itemsAtOnce) {
    for (let i = begin; i < Math.min(items.length, begin + itemsAtOnce); i++) work(items[i]!, i);
    await pace.rest();
  }
}

/** Items done by `forEachPaced` between two looks at the clock. */
const itemsAtOnce = 256;
/** Items done by `inPieces` between two looks at the clock. */
const pieceLength = 2 ** 16;

/** Calls `work` on [0, count) in pieces [begin, end), and lets other events run between them. */
export async function inPieces(count: number, work: (begin: number, end: number) => void): Promise<void> {
  const pace = new Pace();
  for (let begin = 0; begin < count; begin += pieceLength) {
    work(begin, Math.min(count, begin + pieceLength));
    await pace.rest();
  }
}

/** Items sorted or merged between two looks at the clock. */
const sortedAtOnce = 4096;

/** A sorted copy of `items`, made as `toSorted` makes it, while other events run in between. */
export async function sortInPieces<T>(items: readonly T[], compare: (a: T, b: T) => number): Promise<T[]> {
  const pace = new Pace();
  let sorted: T[] = [];
  for (let first = 0; first < items.length; first += sortedAtOnce) {
    for (const item of items.slice(first, first + sortedAtOnce).sort(compare)) sorted.push(item);
    await pace.rest();
  }
  for (let block = sortedAtOnce; block < items.length; block *= 2) {
    const merged: T[] = [];
    for (let first = 0; first < items.length; first += 2 * block) {
      const middle = Math.min(items.length, first + block);
      const end = Math.min(items.length, first + 2 * block);
      for (let left = first, right = middle; left < middle || right < end; ) {
        const takesLeft = right === end || (left < middle && compare(sorted[left]!, sorted[right]!) <= 0);
        merged.push(takesLeft ? sorted[left++]! : sorted[right++]!);
        if (merged.length % sortedAtOnce === 0) await pace.rest();
      }
    }
    sorted = merged;
  }
  return sorted;
}

/** The order of texts by their code units, as `sort` has without a function. */
export const byCodeUnits = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
