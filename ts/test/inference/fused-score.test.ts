import { expect, it } from 'vitest';
import { fusedScore } from '../../src/inference/fused-score.ts';

it('adds the log-odds of a match and the scaled cosine', () => {
  expect(fusedScore(0.5, 0.25, 20)).toBe(5);
  expect(fusedScore(0.8, 0, 20)).toBeCloseTo(Math.log(4), 12);
  expect(fusedScore(0.8, 0.1, 20, 0.5)).toBeCloseTo(2 + Math.log(2), 12);
  expect(fusedScore(0.2, 0.1, 10)).toBeCloseTo(1 - Math.log(4), 12);
});

it('stays finite and in order at the ends', () => {
  const scores = [0, 1e-3, 0.5, 0.999, 1].map((match) => fusedScore(match, 0, 1));
  expect(scores.every(Number.isFinite)).toBe(true);
  expect(scores).toEqual([...scores].sort((a, b) => a - b));
});
