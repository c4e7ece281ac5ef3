/**
 * One number to order candidates by, from both encoders, and what the matching head's number means as a probability.
 */

import type { MatchCalibration } from '../checkpoint/index.ts';
import { describe, isObject } from '../runtime/arguments.ts';
import { check } from '../runtime/errors.ts';

/** What {@link fusedScore} needs of a model: a `Vlmo` has it. */
export interface Fusion {
  /** What the contrastive loss multiplies cosines with: `exp(logit_scale)`. */
  readonly similarityScale: number;
  /** How much the matching head counts: 1 for one that is as sure as it is right. */
  readonly fusionWeight: number;
  /** What makes a probability of the head's log-odds; undefined where nothing was fitted. */
  readonly matchCalibration?: MatchCalibration | undefined;
}

/** What both encoders say of a pair. */
export interface Judgement {
  /** Cosine of its embeddings. */
  readonly similarity: number;
  /** What `match` of the same model gives. */
  readonly match: number;
}

/**
 * The score that `rerank` and `search` order by, for those who keep vectors elsewhere: any real number, the higher the better. Scores of
 * one query can be compared with each other.
 *
 * The matching head is trained on negatives drawn in proportion to exp(scale * cosine). At its best it therefore gives the log-odds of
 * a match over what the similarity already says, and the log-odds over an even draw are its logit plus scale * cosine. A young head is too
 * sure of what it has not seen; `fusionWeight` makes it count less.
 *
 * @param fusion the model, or its numbers
 * @throws MomeError `MOME_INVALID_ARGUMENT` for numbers that are missing or not finite
 * @example
 * const [match] = await vlmo.match([{ image: 'cat.png', text: 'a cat' }]);
 * const score = fusedScore({ similarity: 0.31, match: match! }, vlmo);
 */
export function fusedScore(judgement: Judgement, fusion: Fusion): number {
  const { similarity, match }: Partial<Judgement> = judgement ?? {};
  check(
    Number.isFinite(similarity) && Number.isFinite(match),
    'MOME_INVALID_ARGUMENT',
    `fusedScore: expected { similarity, match } as numbers, got ${describe(similarity)} and ${describe(match)}`,
  );
  check(isObject(fusion), 'MOME_INVALID_ARGUMENT', `fusedScore: expected a model, got ${describe(fusion)}`);
  return fusedLogOdds(similarity, matchLogOdds(match, fusion.matchCalibration), fusion);
}

/** The same from the log-odds of the matching head: not rounded, and independent of the calibration. */
export function fusedLogOdds(similarity: number, logOdds: number, fusion: Fusion): number {
  return fusion.fusionWeight * logOdds + fusion.similarityScale * similarity;
}

/** The probability that stands for log-odds of the matching head. */
export function matchProbability(logOdds: number, calibration?: MatchCalibration): number {
  const { slope, offset } = calibration ?? uncalibrated;
  return 1 / (1 + Math.exp(-(slope * logOdds + offset)));
}

/** The log-odds of the matching head that a probability stands for. */
export function matchLogOdds(match: number, calibration?: MatchCalibration): number {
  const { slope, offset } = calibration ?? uncalibrated;
  const bounded = Math.min(1 - tiny, Math.max(tiny, match));
  return (Math.log(bounded / (1 - bounded)) - offset) / slope;
}

const uncalibrated: MatchCalibration = { slope: 1, offset: 0 };

/** Keeps log-odds finite; float32 probabilities are no finer near 1. */
const tiny = 1e-7;
