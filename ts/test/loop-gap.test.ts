import { execFileSync, spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { expectShortTurns, loopGap } from './loop-gap.ts';

function spin(milliseconds: number): void {
  // By time on a core: a spinning thread that waits for one does no work.
  const start = process.cpuUsage();
  for (;;) {
    const { user, system } = process.cpuUsage(start);
    if (user + system >= 1000 * milliseconds) return;
  }
}

async function spinInPieces(): Promise<number> {
  for (let piece = 0; piece < 12; piece++) {
    spin(10);
    await setImmediate();
  }
  return 12;
}

describe('loopGap', () => {
  it('finds the longest turn, at the beginning, inside and at the end', async () => {
    expect((await loopGap(() => spin(120))).held).toBeGreaterThan(90);
    const inside = async () => {
      await setImmediate();
      spin(120);
      await setImmediate();
    };
    expect((await loopGap(inside)).held).toBeGreaterThan(90);
    const last = async () => {
      await setImmediate();
      await setImmediate();
      spin(120);
    };
    expect((await loopGap(last)).held).toBeGreaterThan(90);
  });

  it('counts waiting inside a turn', async () => {
    const { held } = await loopGap(() => execFileSync('sleep', ['0.15']));
    expect(held).toBeGreaterThan(100);
  });

  it('gives results and failures', async () => {
    expect((await loopGap(async () => 7)).result).toBe(7);
    const failure = new Error('as wanted');
    expect((await loopGap(() => Promise.reject(failure))).error).toBe(failure);
    await expect(expectShortTurns(() => Promise.reject(failure))).rejects.toBe(failure);
  });

  it('subtracts waiting for a core', async () => {
    const others = Array.from({ length: 3 * availableParallelism() }, () =>
      spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' }),
    );
    try {
      // Held up by the others, or there is nothing to subtract.
      expect((await loopGap(spinInPieces)).elapsed).toBeGreaterThan(30);
      expect(await expectShortTurns(spinInPieces)).toBe(12);
    } finally {
      for (const other of others) other.kill('SIGKILL');
    }
  });

  it('refuses long turns', async () => {
    await expect(expectShortTurns(() => spin(120))).rejects.toThrow(/turn of the event loop/);
  });
});
