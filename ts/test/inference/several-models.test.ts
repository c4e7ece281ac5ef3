import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import type { VlmoConfig } from '../../src/architecture/config.ts';
import { writeModel } from '../../src/checkpoint/index.ts';
import { Vlmo } from '../../src/inference/index.ts';
import { initialParameters } from '../../src/model/initialise.ts';
import { addon } from '../../src/runtime/addon.ts';
import { MomeError } from '../../src/runtime/errors.ts';
import { createRandom } from '../../src/train/random.ts';
import { temporaryFolder, testImage, tinyModel, tinyVocabulary } from '../helpers.ts';

describe('models of one process', () => {
  it('take turns at the cores, whatever their numbers of threads', async () => {
    const folder = await tinyModel();
    const cores = addon().cpuInfo().availableCores;
    const half = Math.max(1, Math.floor(cores / 2));
    await using large = await Vlmo.load(folder, { threads: cores });
    await using small = await Vlmo.load(folder, { threads: half });
    await using other = await Vlmo.load(folder, { threads: half });
    const models = [large, small, other];
    const calls = 150;
    const ended = models.map(() => 0);
    const mostOthers = models.map(() => 0);
    await Promise.all(
      models.map(async (model, me) => {
        while (Math.max(...ended) < calls) {
          const before = [...ended];
          await model.embedTexts(['a red square on white']);
          ended[me] = ended[me]! + 1;
          const during = ended.map((count, i) => (i === me ? 0 : count - before[i]!));
          mostOthers[me] = Math.max(mostOthers[me]!, ...during);
        }
      }),
    );
    // One that runs when the call is made, one that waits already, and one whose end is heard before the end of the call.
    expect(mostOthers[0]).toBeLessThanOrEqual(3);
    if (cores <= 3) expect(Math.max(...mostOthers)).toBeLessThanOrEqual(3);
  });
});

// One head over 65,537 tokens: each attention kernel is a single item of work that takes seconds.
describe('a call that takes long', () => {
  const config: VlmoConfig = {
    imageSize: 512,
    patchSize: 2,
    width: 8,
    layers: 6,
    heads: 1,
    hiddenRatio: 1,
    firstVlLayer: 6,
    positions: 'absolute',
    layerScale: 0.1,
    maxTextLength: 8,
    maxTextLengthOfInit: 8,
    vocabularySize: 120,
    answers: 2,
  };
  let folder = '';
  beforeAll(async () => {
    folder = await temporaryFolder();
    await writeFile(join(folder, 'vocab.txt'), `${tinyVocabulary().join('\n')}\n`);
    await writeModel(folder, config, await initialParameters(config, createRandom(1)), {
      dtype: 'float32',
      vocabularyFiles: [],
    });
  });

  /** Milliseconds from the call of `end`, made while the call runs, to the end of the call. */
  async function endedAfter(model: Vlmo, signal: AbortSignal, end: () => unknown): Promise<number> {
    let settled = false;
    const call = model.embedImages([testImage(1, 512)], { signal }).finally(() => {
      settled = true;
    });
    call.catch(() => undefined);
    await sleep(1000);
    expect(settled).toBe(false);
    const asked = performance.now();
    await end();
    await expect(call).rejects.toBeInstanceOf(MomeError);
    return performance.now() - asked;
  }

  it('ends within 200 ms of its signal', { timeout: 60_000, retry: 2 }, async () => {
    await using model = await Vlmo.load(folder, { threads: 1 });
    const controller = new AbortController();
    expect(await endedAfter(model, controller.signal, () => controller.abort())).toBeLessThan(200);
  });

  it('ends within 200 ms when its model is disposed of', { timeout: 60_000, retry: 2 }, async () => {
    const model = await Vlmo.load(folder, { threads: 1 });
    expect(await endedAfter(model, new AbortController().signal, () => model.dispose())).toBeLessThan(200);
  });
});
