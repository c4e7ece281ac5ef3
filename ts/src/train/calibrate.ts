/**
 * What the matching head's number means as a probability: Platt's sigmoid over its log-odds, fitted on held-out pairs.
 */
import type { MatchCalibration } from '../checkpoint/index.ts';
import { checkKind, kinds } from '../runtime/arguments.ts';
import { check } from '../runtime/errors.ts';

/** Newton steps; a dozen are enough. */
const mostSteps = 100;
/** Groups of equal size that probabilities are compared in. */
const groups = 15;

/**
 * Fits `1 / (1 + exp(-(slope * logOdds + offset)))` to pairs of which is known whether they belong together, by maximum likelihood with
 * targets a little inside of 0 and 1, so that no number of pairs makes it infinitely sure.
 *
 * The share of right pairs among them is taken in: probabilities hold where about as many are right.
 *
 * @param logOdds of the matching head, see `matchLogOdds`
 * @param isRight 1 for a pair that belongs together, else 0
 * @throws MomeError `MOME_INVALID_SHAPE` for lists of different lengths, `MOME_INVALID_ARGUMENT` unless there are right and wrong pairs,
 *   `MOME_UNSUPPORTED` for a head that does not tell right pairs from wrong ones
 * @see Platt, Probabilistic outputs for support vector machines (1999); Lin, Lin and Weng (2007)
 */
export function fitCalibration(logOdds: ArrayLike<number>, isRight: ArrayLike<number>): MatchCalibration {
  checkKind('fitCalibration', 'logOdds', logOdds, kinds.numbers);
  checkKind('fitCalibration', 'isRight', isRight, kinds.numbers);
  const count = logOdds.length;
  check(
    count === isRight.length,
    'MOME_INVALID_SHAPE',
    `fitCalibration: expected a label for each of ${count} pairs, got ${isRight.length}`,
  );
  let right = 0;
  for (let i = 0; i < count; i++) if (isRight[i]) right++;
  check(
    right > 0 && right < count,
    'MOME_INVALID_ARGUMENT',
    `fitCalibration: expected right and wrong pairs, got ${right} right ones of ${count}`,
  );
  const targets = { right: (right + 1) / (right + 2), wrong: 1 / (count - right + 2) };
  const target = (i: number) => (isRight[i] ? targets.right : targets.wrong);
  const loss = (slope: number, offset: number) => {
    let sum = 0;
    for (let i = 0; i < count; i++) {
      const z = slope * logOdds[i]! + offset;
      sum += Math.max(z, 0) + Math.log1p(Math.exp(-Math.abs(z))) - target(i) * z;
    }
    return sum;
  };
  let [slope, offset] = [0, Math.log((right + 1) / (count - right + 1))];
  let value = loss(slope, offset);
  for (let step = 0; step < mostSteps; step++) {
    // Gradient, and the matrix of second derivatives with a little added so that it can be inverted.
    let [g1, g2, h11, h12, h22] = [0, 0, 1e-9, 0, 1e-9];
    for (let i = 0; i < count; i++) {
      const x = logOdds[i]!;
      const p = 1 / (1 + Math.exp(-(slope * x + offset)));
      const [difference, curvature] = [p - target(i), p * (1 - p)];
      g1 += difference * x;
      g2 += difference;
      h11 += curvature * x * x;
      h12 += curvature * x;
      h22 += curvature;
    }
    const determinant = h11 * h22 - h12 * h12;
    const [d1, d2] = [(h12 * g2 - h22 * g1) / determinant, (h12 * g1 - h11 * g2) / determinant];
    let size = 1;
    while (size > 1e-9 && loss(slope + size * d1, offset + size * d2) > value) size /= 2;
    slope += size * d1;
    offset += size * d2;
    const next = loss(slope, offset);
    if (value - next <= 1e-12 * value) break;
    value = next;
  }
  check(
    slope > 0 && Number.isFinite(slope) && Number.isFinite(offset),
    'MOME_UNSUPPORTED',
    `fitCalibration: expected a matching head that tells right pairs from wrong ones, got a slope of ${slope}`,
  );
  return { slope, offset };
}

/**
 * Mean distance between what is said and what is so: pairs are put into 15 groups of equal size by their probability, and in each the mean
 * probability is compared with the share of right pairs.
 *
 * @returns 0 where the probabilities hold; at most 1
 */
export function expectedCalibrationError(probabilities: ArrayLike<number>, isRight: ArrayLike<number>): number {
  checkKind('expectedCalibrationError', 'probabilities', probabilities, kinds.numbers);
  checkKind('expectedCalibrationError', 'isRight', isRight, kinds.numbers);
  const count = probabilities.length;
  check(
    count === isRight.length && count > 0,
    'MOME_INVALID_SHAPE',
    `expectedCalibrationError: expected as many labels as probabilities, above 0, got ${isRight.length} and ${count}`,
  );
  const order = Array.from({ length: count }, (_, i) => i).sort((a, b) => probabilities[a]! - probabilities[b]!);
  let error = 0;
  for (let group = 0; group < groups; group++) {
    let [said, so] = [0, 0];
    for (const i of order.slice(Math.floor((count * group) / groups), Math.floor((count * (group + 1)) / groups))) {
      said += probabilities[i]!;
      so += isRight[i]!;
    }
    error += Math.abs(said - so) / count;
  }
  return error;
}
