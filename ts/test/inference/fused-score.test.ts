import { expect, it } from 'vitest';
import { fusedScore, matchLogOdds, matchProbability } from '../../src/inference/fused-score.ts';

const model = { similarityScale: 20, fusionWeight: 1 };

it('adds the weighted log-odds of a match and the scaled cosine', () => {
  expect(fusedScore({ match: 0.5, similarity: 0.25 }, model)).toBe(5);
  expect(fusedScore({ match: 0.8, similarity: 0 }, model)).toBeCloseTo(Math.log(4), 12);
  expect(fusedScore({ match: 0.8, similarity: 0.1 }, { ...model, fusionWeight: 0.5 })).toBeCloseTo(2 + Math.log(2), 12);
  expect(fusedScore({ match: 0.2, similarity: 0.1 }, { ...model, similarityScale: 10 })).toBeCloseTo(
    1 - Math.log(4),
    12,
  );
});

it('stays finite and in order at the ends', () => {
  const scores = [0, 1e-3, 0.5, 0.999, 1].map((match) => fusedScore({ match, similarity: 0 }, model));
  expect(scores.every(Number.isFinite)).toBe(true);
  expect(scores).toEqual([...scores].sort((a, b) => a - b));
});

it('does not change with the calibration that a match was given by', () => {
  const matchCalibration = { slope: 0.6, offset: -1.5 };
  for (const logOdds of [-7, -0.3, 0, 2, 9]) {
    const plain = fusedScore({ match: matchProbability(logOdds), similarity: 0.3 }, model);
    const match = matchProbability(logOdds, matchCalibration);
    expect(match).not.toBeCloseTo(matchProbability(logOdds), 5);
    expect(fusedScore({ match, similarity: 0.3 }, { ...model, matchCalibration })).toBeCloseTo(plain, 9);
    expect(matchLogOdds(match, matchCalibration)).toBeCloseTo(logOdds, 9);
  }
});
