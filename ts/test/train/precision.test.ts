/** Training whose products multiply bfloat16, on kernel sets that do. */
import { describe, expect, it } from 'vitest';
import { initialParameters } from '../../src/model/initialise.ts';
import { addon } from '../../src/runtime/addon.ts';
import { createRandom } from '../../src/train/random.ts';
import { Trainer, type TrainerOptions, type TrainingBatch } from '../../src/train/trainer.ts';
import { expectCode } from '../helpers.ts';
import { tinyConfig } from './tiny-model.ts';

const vocabulary = { vocabularySize: 40, maskId: 4, isSpecial: (id: number) => id < 5, isContinuation: () => false };
const { targets } = addon().cpuInfo();
const narrow = targets.filter((target) => /_bf16$|^amx$/.test(target));

const create = async (options: Partial<TrainerOptions>, target?: string) =>
  Trainer.create(
    tinyConfig,
    await initialParameters(tinyConfig, createRandom(5)),
    vocabulary,
    {
      objectives: ['itc', 'itm', 'mlm'],
      schedule: { learningRate: 2e-3, totalSteps: 100, warmupSteps: 5, decay: 'constant' },
      clipNorm: 1,
      seed: 3,
      ...options,
    },
    { threads: 1, ...(target && { target }) },
  );

/** Pairs in which the text names the colour of the picture. */
function batchOf(step: number): TrainingBatch {
  const random = createRandom(9, step);
  const bytes = Uint8Array.from(
    { length: 8 * 768 },
    (_, at) => ((Math.floor(at / 768) >> (at % 3)) & 1) * 200 + random.integer(30),
  );
  return { bytes, texts: Array.from({ length: 8 }, (_, i) => Int32Array.of(2, 10 + i, 20 + (i % 2), 3)) };
}

async function lossesOf(options: Partial<TrainerOptions>, target?: string): Promise<number[]> {
  const trainer = await create(options, target);
  try {
    const losses: number[] = [];
    for (let step = 0; step < 30; step++) losses.push((await trainer.train(batchOf(step))).loss);
    return losses;
  } finally {
    trainer.dispose();
  }
}

describe.skipIf(narrow.length === 0)('products in bfloat16', () => {
  it.each(narrow)('learn on %s as those in float32 do', async (target) => {
    const wide = await lossesOf({}, target);
    const losses = await lossesOf({ precision: 'bfloat16' }, target);
    expect(losses).not.toEqual(wide);
    expect(wide.at(-1)).toBeLessThan(0.7 * wide[0]!);
    // 5e-4 seen. Later, small differences choose other hard negatives.
    for (const [step, loss] of losses.slice(0, 10).entries())
      expect(Math.abs(loss / wide[step]! - 1)).toBeLessThan(1e-3);
    expect(Math.abs(losses.at(-1)! / wide.at(-1)! - 1)).toBeLessThan(0.05);
  });

  it.each(narrow)('leave float32 weights on %s', async (target) => {
    const trainer = await create({ precision: 'bfloat16' }, target);
    await trainer.train(batchOf(0));
    await trainer.train(batchOf(1));
    const values = (await trainer.parameters()).get('transformer.blocks.0.mlp_text.fc1.weight')!;
    const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
    // Of bfloat16 the low half is 0.
    expect(bits.filter((word) => (word & 0xffff) !== 0).length).toBeGreaterThan(0.99 * bits.length);
    trainer.dispose();
  });
});

it.each(targets.filter((target) => !narrow.includes(target)))('is refused on %s', async (target) => {
  const error = await expectCode(() => create({ precision: 'bfloat16' }, target), 'MOME_UNSUPPORTED');
  expect(error.message).toContain(target);
});
