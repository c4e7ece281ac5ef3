/** Models that nobody can reach any more and nobody disposed. */
import { readdir } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { Vlmo } from '../../src/inference/index.ts';
import { addon } from '../../src/runtime/addon.ts';
import { Engine } from '../../src/runtime/engine.ts';

/** Loads the shipped model, lets it work, and drops it. */
async function loadAndDrop(): Promise<number> {
  const model = await Vlmo.load(undefined, { threads: 1 });
  await model.embedTexts(['a cat']);
  const { arenaBytes, weightBytes } = model.memory();
  return arenaBytes + weightBytes;
}

const threads = async () => (await readdir('/proc/self/task')).length;

/** Threads of the process while three models with six are held; they are dropped at the end. */
async function threadsWithThree(): Promise<number> {
  const models = await Promise.all([1, 2, 3].map((threads) => Vlmo.load(undefined, { threads })));
  await Promise.all(models.map((model) => model.embedTexts(['a cat'])));
  return threads();
}

describe('native memory', () => {
  it('is known to V8 while an engine holds it', () => {
    const { best } = addon().cpuInfo();
    const [probe, holder] = [1, 1].map(() => new (addon().NativeEngine)(1, best));
    const before = probe!.holds(0);
    expect(holder!.holds(2 ** 26) - before).toBe(2 ** 26);
    expect(holder!.holds(2 ** 20) - before).toBe(2 ** 20);
    holder!.dispose();
    expect(probe!.holds(0)).toBe(before);
    expect(holder!.holds(2 ** 26)).toBe(before); // nothing is held after dispose
    probe!.dispose();
  });

  it('is reported for weights and arena of a model that works', async () => {
    const engine = new Engine({ threads: 1 });
    const weights = engine.createWeights();
    await weights.add('w', [1000, 1000], new Float32Array(1e6));
    await weights.enableTraining();
    const probe = new (addon().NativeEngine)(1, addon().cpuInfo().best);
    const held = probe.holds(0);
    engine.dispose();
    expect(held - probe.holds(0)).toBeGreaterThanOrEqual(16e6); // values, gradient and two moments
    probe.dispose();
  });

  it('is freed at the first collection after a model was dropped, with its threads', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    collect();
    await sleep(100);
    const before = await threads();
    expect(await threadsWithThree()).toBeGreaterThanOrEqual(before + 6);
    await sleep(1);
    collect();
    for (let i = 0; i < 100 && (await threads()) > before; i++) await sleep(50);
    expect(await threads()).toBeLessThanOrEqual(before);
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
