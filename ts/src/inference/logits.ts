/**
 * What is read off logits: probabilities and the best few.
 */

/** Probability of the second of the two logits of a row. */
export function secondProbability(logits: Float32Array, row: number): number {
  return 1 / (1 + Math.exp(logits[2 * row]! - logits[2 * row + 1]!));
}

/** Fewest candidates that are worth sorting. */
const leastSorted = 64;

/**
 * Places of the `k` greatest values, greatest first; of equal ones the first comes first. The best so far are sorted and cut each time
 * that twice as many stand there, since sorting all of a vocabulary takes milliseconds.
 */
export function topOf(values: Float32Array, k: number): number[] {
  const byValue = (a: number, b: number) => values[b]! - values[a]! || a - b;
  const most = Math.max(2 * k, leastSorted);
  let best: number[] = [];
  let least = Number.NaN;
  for (let place = 0; place < values.length; place++) {
    if (values[place]! <= least) continue;
    best.push(place);
    if (best.length < most) continue;
    best = best.sort(byValue).slice(0, k);
    least = values[best[k - 1]!]!;
  }
  return best.sort(byValue).slice(0, k);
}

/** ln of the sum of exp(value). */
export function logSumExp(values: Float32Array): number {
  const highest = values.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY);
  return highest + Math.log(values.reduce((sum, value) => sum + Math.exp(value - highest), 0));
}
