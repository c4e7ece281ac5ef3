/**
 * What is read off logits: probabilities and the best few.
 */

import { Pace } from '../runtime/pace.ts';
import type { Tokenizer } from '../text/tokenizer.ts';
import type { AnswerCandidate, MaskCandidates } from './results.ts';

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

/** The `k` likeliest answers. @param logits [answers] of the answer head, each of its own */
export function answersOf(logits: Float32Array, answers: readonly string[] | undefined, k: number): AnswerCandidate[] {
  return topOf(logits, k).map((index) => ({
    answer: answers?.[index] ?? `answer ${index}`,
    score: 1 / (1 + Math.exp(-logits[index]!)),
  }));
}

/** Places of the `[MASK]` pieces of a text. */
export function maskPositions(ids: Int32Array, { maskId }: Tokenizer): number[] {
  return [...ids.keys()].filter((position) => ids[position] === maskId);
}

/** The `k` likeliest pieces of each mask. @param logits [positions, vocabulary] of the masked-language head */
export async function masksOf(
  logits: Float32Array,
  positions: readonly number[],
  tokenizer: Tokenizer,
  k: number,
): Promise<MaskCandidates[]> {
  const width = logits.length / positions.length;
  const masks: MaskCandidates[] = [];
  const pace = new Pace();
  for (const [i, position] of positions.entries()) {
    const row = logits.subarray(i * width, (i + 1) * width);
    const normaliser = logSumExp(row);
    const candidates = topOf(row, k).map((id) => ({
      token: tokenizer.decode(Int32Array.of(id)),
      score: Math.exp(row[id]! - normaliser),
    }));
    masks.push({ position, candidates });
    await pace.rest();
  }
  return masks;
}
