/**
 * Hard negatives of image-text matching: drawn by the softmax of the contrastive similarities of the same step.
 */
import { checkKind, kinds } from '../runtime/arguments.ts';
import { check } from '../runtime/errors.ts';
import { type Random, randomKind } from './random.ts';

/** For each pair of the batch, a picture that does not fit its text and a text that does not fit its picture. */
export interface Negatives {
  readonly image: Int32Array;
  readonly text: Int32Array;
}

/**
 * @param similarity rows x rows scaled similarities, image by text
 * @param count draw for the first `count` pairs only
 * @param sharpness similarities are multiplied by this: 1 as in the paper, 0 draws evenly. A fusion encoder that starts from nothing
 *   learns on easy negatives first
 * @param group pairs of the same group match each other and are never drawn; undefined = only the own pair matches
 * @throws MomeError `MOME_INVALID_ARGUMENT`, `MOME_INVALID_SHAPE`
 * @see arXiv 2111.02358, section 2.3; ALBEF (arXiv 2107.07651)
 */
export function drawHardNegatives(
  similarity: Float32Array,
  rows: number,
  count: number,
  random: Random,
  group?: Int32Array,
  sharpness = 1,
): Negatives {
  const where = 'drawHardNegatives';
  checkKind(where, 'similarity', similarity, kinds.floats);
  checkKind(where, 'rows', rows, kinds.size);
  checkKind(where, 'count', count, kinds.size);
  checkKind(where, 'random', random, randomKind);
  checkKind(where, 'sharpness', sharpness, kinds.number);
  if (group !== undefined) checkKind(where, 'group', group, kinds.integers);
  check(
    count <= rows && similarity.length >= rows * rows && (group === undefined || group.length >= rows),
    'MOME_INVALID_SHAPE',
    `${where}: expected ${rows} x ${rows} similarities, at most as many pairs and a group for each, got ${similarity.length} and ${count}`,
  );
  const image = new Int32Array(count);
  const text = new Int32Array(count);
  const scores = new Float64Array(rows);
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < rows; j++) scores[j] = sharpness * similarity[j * rows + i]!;
    image[i] = draw(scores, i, random, group);
    for (let j = 0; j < rows; j++) scores[j] = sharpness * similarity[i * rows + j]!;
    text[i] = draw(scores, i, random, group);
  }
  return { image, text };
}

/** Draws an index by softmax of `scores`, leaving out those that match `own`. Falls back to the next row when all match. */
function draw(scores: Float64Array, own: number, random: Random, group: Int32Array | undefined): number {
  const matches = (j: number): boolean => j === own || (group !== undefined && group[j] === group[own]);
  let highest = Number.NEGATIVE_INFINITY;
  for (let j = 0; j < scores.length; j++) if (!matches(j)) highest = Math.max(highest, scores[j]!);
  if (highest === Number.NEGATIVE_INFINITY) return (own + 1) % scores.length;
  let sum = 0;
  for (let j = 0; j < scores.length; j++) if (!matches(j)) sum += Math.exp(scores[j]! - highest);
  let rest = random.uniform(0, 1) * sum;
  let last = own;
  for (let j = 0; j < scores.length; j++) {
    if (matches(j)) continue;
    last = j;
    rest -= Math.exp(scores[j]! - highest);
    if (rest <= 0) return j;
  }
  return last;
}
