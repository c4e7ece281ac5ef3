/** Models that nobody can reach any more and nobody disposed. */
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { Vlmo } from '../../src/inference/vlmo.ts';

/** Loads the shipped model, lets it work, and drops it. */
async function loadAndDrop(): Promise<number> {
  const model = await Vlmo.load(undefined, { threads: 1 });
  await model.embedTexts(['a cat']);
  const { arenaBytes, weightBytes } = model.memory();
  return arenaBytes + weightBytes;
}

const external = () => process.memoryUsage().external;

describe('native memory', () => {
  it('is known to V8 while a model holds it', async () => {
    const before = external();
    const model = await Vlmo.load(undefined, { threads: 1 });
    await model.embedTexts(['a cat']);
    const { arenaBytes, weightBytes } = model.memory();
    expect(external() - before).toBeGreaterThan(0.9 * (arenaBytes + weightBytes));
    await model.dispose();
    expect(external() - before).toBeLessThan(0.1 * (arenaBytes + weightBytes));
  });

  it('is freed at the first collection after a model was dropped', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    collect();
    const before = external();
    const own = await loadAndDrop();
    expect(external() - before).toBeGreaterThan(0.9 * own);
    await sleep(1);
    collect();
    await sleep(50);
    expect(external() - before).toBeLessThan(0.1 * own);
  });

  it('is freed by its pressure alone', { timeout: 300_000 }, async () => {
    const own = await loadAndDrop();
    const before = process.memoryUsage.rss();
    for (let i = 0; i < 40; i++) await loadAndDrop();
    expect(process.memoryUsage.rss() - before).toBeLessThan(20 * own);
  });

  it('stays while a call is under way, whoever holds the model', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const texts = Array.from({ length: 600 }, (_, i) => `cat ${i}`);
    const running = (async () => (await Vlmo.load(undefined, { threads: 1 })).embedTexts(texts))();
    const timer = setInterval(collect, 5);
    expect((await running).count).toBe(600);
    clearInterval(timer);
  });
});
