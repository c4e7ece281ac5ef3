import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { VlmoConfig } from '../../src/architecture/config.ts';
import { parameterShapes } from '../../src/architecture/parameters.ts';
import { openCheckpoint } from '../../src/checkpoint/index.ts';
import { inferConfig } from '../../src/checkpoint/infer-config.ts';
import { initialParameters } from '../../src/model/initialise.ts';
import { Trainer, type TrainingBatch, writeModel } from '../../src/train/index.ts';
import { createRandom } from '../../src/train/random.ts';
import { temporaryFolder } from '../helpers.ts';
import { tinyConfig } from '../train/tiny-model.ts';

const sharedConfig: VlmoConfig = { ...tinyConfig, sharedFfn: true };
const vocabulary = { vocabularySize: 40, maskId: 4, isSpecial: (id: number) => id < 5, isContinuation: () => false };

/** Parameters of the model with experts, each a copy of what all rows of the other model share. */
function copies(shared: ReadonlyMap<string, Float32Array>): Map<string, Float32Array> {
  const source = (name: string) => name.replace(/\.(mlp|norm2)_(?:text|imag|vl)\./, '.$1_shared.');
  return new Map([...parameterShapes(tinyConfig).keys()].map((name) => [name, shared.get(source(name))!.slice()]));
}

async function trainerOf(config: VlmoConfig, parameters: Map<string, Float32Array>, learningRate = 2e-3) {
  const schedule = { learningRate, totalSteps: 100, warmupSteps: 0, decay: 'constant' } as const;
  const options = { objectives: ['itc', 'itm', 'mlm'], schedule, seed: 3, vlBranch: true } as const;
  return Trainer.create(config, parameters, vocabulary, options, { threads: 1 });
}

function batchOf(pairs: number): TrainingBatch {
  const random = createRandom(9);
  const bytes = Uint8Array.from({ length: pairs * 16 * 16 * 3 }, (_, at) => ((at >> 8) % 5) * 40 + random.integer(30));
  const texts = Array.from({ length: pairs }, (_, i) => Int32Array.of(2, 10 + i, 20 + (i % 3), 3));
  return { bytes, texts };
}

describe('one feed-forward layer for all rows', () => {
  it('takes the place of all experts', () => {
    const names = [...parameterShapes(sharedConfig).keys()].filter((name) => /mlp_|norm2_/.test(name));
    expect(new Set(names.map((name) => /(?:mlp|norm2)_(\w+)/.exec(name)![1]))).toEqual(new Set(['shared']));
    expect(names).toHaveLength(6 * sharedConfig.layers);
  });

  it('gives the bits that experts with the same weights give, in every objective and the branch of fused layers', async () => {
    const shared = await initialParameters(sharedConfig, createRandom(5));
    const one = await trainerOf(sharedConfig, shared);
    const apart = await trainerOf(tinyConfig, copies(shared));
    const [own, theirs] = [await one.train(batchOf(8)), await apart.train(batchOf(8))];
    expect(own.losses).toEqual(theirs.losses);
    one.dispose();
    apart.dispose();

    // Another weight in one expert is seen.
    const changed = copies(shared);
    changed.get('transformer.blocks.1.mlp_text.fc2.weight')![0]! += 0.5;
    const other = await trainerOf(tinyConfig, changed);
    expect((await other.train(batchOf(8))).losses).not.toEqual(own.losses);
    other.dispose();
  });

  it('learns from text and picture alike', async () => {
    const trainer = await trainerOf(sharedConfig, await initialParameters(sharedConfig, createRandom(5)));
    const losses: number[] = [];
    for (let step = 0; step < 30; step++) losses.push((await trainer.train(batchOf(8))).losses.itc!);
    trainer.dispose();
    expect(losses.at(-1)!).toBeLessThan(0.7 * losses[0]!);
  });

  it('is told from the tensors of a file that brings no configuration', async () => {
    const folder = await temporaryFolder();
    await writeModel(folder, sharedConfig, await initialParameters(sharedConfig, createRandom(5)), {
      dtype: 'float32',
      vocabularyFiles: [],
    });
    await rm(join(folder, 'config.json'));
    const checkpoint = await openCheckpoint(join(folder, 'model.safetensors'));
    expect(inferConfig(checkpoint, { heads: 2 })).toMatchObject({ sharedFfn: true, hiddenRatio: 2, layers: 3 });
  });
});
