import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { logSumExp, secondProbability, topOf } from '../../src/inference/logits.ts';

/** The definition: all places sorted. */
const sorted = (values: Float32Array, k: number) =>
  [...values.keys()].sort((a, b) => values[b]! - values[a]! || a - b).slice(0, k);

describe('topOf', () => {
  it('gives the order of sorting everything, ties by place', () => {
    const values = fc.array(fc.integer({ min: -20, max: 20 }), { maxLength: 400 });
    fc.assert(
      fc.property(values, fc.integer({ min: 1, max: 420 }), (some, k) => {
        const floats = Float32Array.from(some);
        expect(topOf(floats, k)).toEqual(sorted(floats, k));
      }),
    );
    const rising = Float32Array.from({ length: 1000 }, (_, i) => i >> 1);
    for (const k of [1, 5, 31, 32, 33, 999, 1000]) expect(topOf(rising, k)).toEqual(sorted(rising, k));
    const lowest = new Float32Array(200).fill(Number.NEGATIVE_INFINITY);
    expect(topOf(lowest, 3)).toEqual([0, 1, 2]);
  });

  it('looks at most values once', () => {
    let reads = 0;
    const values = Float32Array.from({ length: 30_522 }, (_, i) => Math.sin(i * i));
    const counted = new Proxy(values, {
      get: (target, key) => {
        const value = Reflect.get(target, key, target);
        if (typeof value === 'number' && key !== 'length') reads++;
        return value;
      },
    });
    expect(topOf(counted, 5)).toEqual(sorted(values, 5));
    // Sorting everything reads each value some 30 times.
    expect(reads).toBeLessThan(3 * values.length);
  });
});

describe('probabilities', () => {
  it('are those of a softmax', () => {
    const logits = Float32Array.of(1, 3, 1000, 0);
    expect(secondProbability(logits, 0)).toBeCloseTo(1 / (1 + Math.exp(-2)), 12);
    expect(secondProbability(logits, 1)).toBe(0);
    expect(logSumExp(Float32Array.of(1000, 1000))).toBeCloseTo(1000 + Math.LN2, 10);
  });
});
