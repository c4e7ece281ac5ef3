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

describe('alternate that does not come to its end', () => {
  const quick = () => sleep(1);

  it('goes on without a contestant that may fail, and not without others', async () => {
    let calls = 0;
    const broken = async () => {
      if (++calls > 2) throw new Error('it broke');
    };
    const failed: string[] = [];
    const mayFail = (name: string) => name === 'peer' && failed.push(name) > 0;
    const seconds = await alternate({ ours: quick, peer: broken }, 3, { mayFail });
    expect(Object.keys(seconds)).toEqual(['ours']);
    expect([seconds.ours!.length, failed.length]).toEqual([3, 1]);
    calls = 2;
    await expect(alternate({ ours: broken, peer: quick }, 3, { mayFail })).rejects.toThrow('it broke');
  });

  it('keeps whole rounds when it is interrupted, where they are enough, and waits for no call', async () => {
    const interruptedIn = async (round: number) => {
      const controller = new AbortController();
      let calls = 0;
      const ours = () => {
        if (++calls <= round) return quick();
        controller.abort(new Error('interrupted'));
        return new Promise(() => {});
      };
      return alternate({ peer: quick, ours }, 9, { signal: controller.signal });
    };
    const seconds = await interruptedIn(5);
    expect(Object.values(seconds).map(({ length }) => length)).toEqual([4, 4]);
    await expect(interruptedIn(3)).rejects.toThrow('interrupted');
    await expect(interruptedIn(0)).rejects.toThrow('interrupted');
  });
});
