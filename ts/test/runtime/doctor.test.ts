import { describe, expect, it } from 'vitest';
import { targetDetail } from '../../src/runtime/doctor.ts';

describe('a kernel set in the report', () => {
  it('is said to run, with the time of its self-check', () => {
    expect(targetDetail('avx512_bf16', 3.06)).toBe('runs, self-check passed in 3.1 ms');
  });
  it('has no self-check where it is what others are checked against', () => {
    expect(targetDetail('ref', 0)).toBe('runs');
  });
  it('is marked where no run on such a processor was recorded', () => {
    expect(targetDetail('amx', 2)).toBe(
      'runs, self-check passed in 2.0 ms; no run of these kernels on such a processor was recorded before',
    );
  });
});
