/**
 * How much of a large call one native run takes.
 */

/**
 * Most token rows one native run takes on a processor: enough to be compute-bound, and so few that latency stays bounded and that the
 * last-level cache keeps the q, k and v of a block, `cachedBytes` at most, until attention has read them.
 */
const processorRows = 1600;
const cachedBytes = 8 * 2 ** 20;
/** A CUDA device takes 64 pictures of 197 tokens, which fill the multiprocessors of a Hopper GPU evenly. */
const deviceRows = 64 * 197;

/** Most token rows one native run takes, unless a single item has more; about so many in a mixed run. */
export function rowsPerRun(onProcessor: boolean, width: number): number {
  return onProcessor ? Math.min(processorRows, Math.floor(cachedBytes / (3 * 4 * width))) : deviceRows;
}
