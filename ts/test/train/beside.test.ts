import { describe, expect, it } from 'vitest';
import { initialParameters } from '../../src/model/initialise.ts';
import { createRandom } from '../../src/train/random.ts';
import { Trainer, type TrainerOptions, type TrainingBatch } from '../../src/train/trainer.ts';
import { expectCode } from '../helpers.ts';
import { tinyConfig } from './tiny-model.ts';

const config = { ...tinyConfig, answers: 4 };
const vocabulary = { vocabularySize: 40, maskId: 4, isSpecial: (id: number) => id < 5, isContinuation: () => false };
const schedule = { learningRate: 3e-3, totalSteps: 200, warmupSteps: 5, decay: 'constant' } as const;
const pairsOptions: TrainerOptions = { objectives: ['itc'], vlBranch: false, schedule, clipNorm: 1, seed: 3 };
const questionOptions: TrainerOptions = { objectives: ['vqa'], schedule, clipNorm: 1, seed: 4 };

/** Pictures of eight colours, with texts that name them, and with answers that tell their red part. */
function batchOf(step: number, asks: boolean): TrainingBatch {
  const random = createRandom(9, step);
  const bytes = new Uint8Array(8 * 16 * 16 * 3);
  for (let i = 0; i < 8; i++)
    for (let p = 0; p < 16 * 16; p++)
      for (let c = 0; c < 3; c++) bytes[(i * 256 + p) * 3 + c] = ((i >> c) & 1) * 200 + random.integer(30);
  const texts = Array.from({ length: 8 }, (_, i) => Int32Array.of(2, asks ? 30 : 10 + i, 3));
  return { bytes, texts, ...(asks && { answers: texts.map((_, i) => ({ labels: [i & 1], scores: [1] })) }) };
}
const start = async () =>
  Trainer.create(config, await initialParameters(config, createRandom(5)), vocabulary, pairsOptions, { threads: 1 });

describe('a trainer beside another one', () => {
  it('takes the steps of a trainer of its own on the same weights', async () => {
    const [pairs, alone] = [
      await start(),
      await Trainer.create(config, await initialParameters(config, createRandom(5)), vocabulary, questionOptions, {
        threads: 1,
      }),
    ];
    const questions = pairs.beside(questionOptions);
    const [own, other] = [await questions.train(batchOf(0, true)), await alone.train(batchOf(0, true))];
    expect(own).toEqual(other);
    expect(await pairs.parameters()).toEqual(await alone.parameters());
    expect([pairs.step, questions.step]).toEqual([0, 1]);
    // A planted error: another seed, another batch or another rate gives other weights.
    await questions.train(batchOf(1, true));
    expect(await pairs.parameters()).not.toEqual(await alone.parameters());
    questions.dispose();
    await pairs.train(batchOf(0, false));
    pairs.dispose();
    alone.dispose();
  });

  it('lets one model learn both tasks', async () => {
    const pairs = await start();
    const questions = pairs.beside(questionOptions);
    const losses = { itc: [] as number[], vqa: [] as number[] };
    for (let step = 0; step < 120; step++) {
      losses.itc.push((await pairs.train(batchOf(step, false))).losses.itc!);
      losses.vqa.push((await questions.train(batchOf(step, true))).losses.vqa!);
    }
    // Chance is ln 8 = 2.08 for pairs; questions begin with the losses of four answers.
    expect(losses.itc.at(-1)).toBeLessThan(0.7);
    expect(losses.vqa.at(-1)).toBeLessThan(losses.vqa[0]! / 4);
    pairs.dispose();
  });

  it('has the precision of the weights and options that make sense', async () => {
    const pairs = await start();
    await expectCode(async () => pairs.beside({ ...questionOptions, precision: 'bfloat16' }), 'MOME_INVALID_ARGUMENT');
    await expectCode(async () => pairs.beside({ ...questionOptions, objectives: ['itm'] }), 'MOME_INVALID_ARGUMENT');
    pairs.dispose();
  });
});
