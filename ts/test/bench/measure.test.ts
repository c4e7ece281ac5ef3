import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { alternate } from '../../../bench/measure.mjs';

describe('alternate', () => {
  it('calls every contestant once a round and once to warm up, never two at a time, each round beginning with another', async () => {
    const calls: string[] = [];
    let running = 0;
    const contestant = (name: string, milliseconds: number) => () => {
      calls.push(name);
      expect(++running, 'contestants at a time').toBe(1);
      return sleep(milliseconds).then(() => void running--);
    };
    const contestants = { quick: contestant('quick', 5), slow: contestant('slow', 40) };
    const seconds = await alternate(contestants, 2);
    expect(calls).toEqual(['quick', 'slow', 'quick', 'slow', 'slow', 'quick']);
    expect(seconds.quick).toHaveLength(2);
    for (const time of seconds.slow!) expect(time).toBeGreaterThan(0.035);
  });
});
