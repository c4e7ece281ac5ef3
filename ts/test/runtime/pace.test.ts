import { describe, expect, it } from 'vitest';
import { Pace } from '../../src/runtime/pace.ts';
import { expectShortTurns } from '../loop-gap.ts';

/** Works for so many milliseconds. */
function work(milliseconds: number): void {
  const end = performance.now() + milliseconds;
  while (performance.now() < end);
}

describe('Pace', () => {
  it('gives all loops of a turn one slice together', async () => {
    let done = 0;
    const loop = async () => {
      const pace = new Pace();
      for (let step = 0; step < 30; step++) {
        work(1);
        await pace.rest();
      }
      done++;
    };
    // Eight loops with slices of their own would hold the event loop for 64 milliseconds.
    await expectShortTurns(() => Promise.all(Array.from({ length: 8 }, loop)), 30);
    expect(done % 8).toBe(0);
  });

  it('counts the loops that follow each other in a turn as one', async () => {
    await expectShortTurns(async () => {
      for (let i = 0; i < 20; i++) {
        const pace = new Pace();
        work(5);
        await pace.rest();
      }
    }, 30);
  });

  it('lets other events run, however many loops wait', async () => {
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    const loop = async () => {
      const pace = new Pace();
      for (let step = 0; step < 20; step++) {
        work(1);
        await pace.rest();
      }
    };
    await Promise.all(Array.from({ length: 10 }, loop));
    clearInterval(timer);
    // 200 milliseconds of work in slices of 8.
    expect(ticks).toBeGreaterThan(10);
  });
});
