import { describe, expect, it } from 'vitest';
import { initialParameters } from '../../src/model/initialise.ts';
import { createRandom } from '../../src/train/random.ts';
import { Trainer, type TrainerOptions, type TrainingBatch } from '../../src/train/trainer.ts';
import { tinyConfig } from './tiny-model.ts';

const vocabulary = { vocabularySize: 40, maskId: 4, isSpecial: (id: number) => id < 5, isContinuation: () => false };
const schedule = { learningRate: 1e-3, totalSteps: 100, warmupSteps: 0, decay: 'cosine' } as const;
const config = { ...tinyConfig, answers: 5, visualTokens: 7 };

// With a larger eps, AdamW makes less of the last bits of gradients that are almost 0.
const create = async (options: Partial<TrainerOptions>) =>
  Trainer.create(
    config,
    await initialParameters(config, createRandom(5)),
    vocabulary,
    { objectives: ['itc', 'itm', 'mlm'], schedule, clipNorm: 1, seed: 3, eps: 1e-6, ...options },
    { threads: 1 },
  );

/** Pairs of a step, and what else objectives read. `picturesPerText` is 2 for statements. */
function batchOf(step: number, pairs: number, picturesPerText = 1): TrainingBatch {
  const random = createRandom(9, step);
  const bytes = new Uint8Array(pairs * picturesPerText * 16 * 16 * 3);
  for (let i = 0; i < bytes.length; i++) bytes[i] = random.integer(256);
  const each = <T>(make: (i: number) => T) => Array.from({ length: pairs }, (_, i) => make(i));
  return {
    bytes,
    texts: each((i) => Int32Array.of(2, ...Array.from({ length: 1 + (i % 4) }, () => 5 + random.integer(35)), 3)),
    groups: Int32Array.from(each((i) => Math.floor(i / 2))),
    answers: each(() => ({ labels: [random.integer(5)], scores: [0.5] })),
    truth: Int32Array.from(each(() => random.integer(2))),
    visualTokens: Int32Array.from({ length: pairs * picturesPerText * 4 }, () => random.integer(7)),
  };
}

/** Largest difference of the two, in relation to the largest value of the first. */
function difference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [most, largest] = [0, 1e-30];
  for (let i = 0; i < a.length; i++) {
    most = Math.max(most, Math.abs(a[i]! - b[i]!));
    largest = Math.max(largest, Math.abs(a[i]!));
  }
  return most / largest;
}

/** Losses, gradient norms and, at the end, weights of some steps. */
async function course(trainer: Trainer, batches: readonly TrainingBatch[]) {
  const numbers: number[] = [];
  const accuracies: number[] = [];
  for (const batch of batches) {
    const { losses, gradientNorm, accuracies: right } = await trainer.train(batch);
    numbers.push(...Object.values(losses), gradientNorm!);
    accuracies.push(...Object.values(right));
  }
  const weights = [...(await trainer.parameters()).values()];
  const { arenaBytes } = trainer.engine.memory();
  trainer.dispose();
  return { numbers, accuracies, weights, arenaBytes };
}

describe('micro-batches', () => {
  it.each([
    { title: 'of pairs', options: { vlBranch: true } },
    { title: 'of pairs in groups', options: { groups: true } },
    { title: 'with drop path, its experts apart', options: { dropPath: 0.3, dropExpertsApart: true } },
    { title: 'with activations computed again', options: { checkpointActivations: true, vlBranch: false } },
    { title: 'of some fused pairs', options: { fusedPairs: 5 } },
    { title: 'of retrieval', options: { objectives: ['irtr'] as const } },
    { title: 'of questions', options: { objectives: ['vqa', 'mlm'] as const } },
    { title: 'of statements', options: { objectives: ['nlvr2'] as const }, picturesPerText: 2 },
    { title: 'of texts', options: { objectives: ['textmlm'] as const }, picturesPerText: 0 },
    { title: 'of masked pictures', options: { objectives: ['mim'] as const, maskedPatchShare: 0.5 } },
  ])('$title give the losses, gradients and weights of the undivided batch', async ({ options, picturesPerText }) => {
    const batches = Array.from({ length: 10 }, (_, step) => batchOf(step, 11, picturesPerText));
    const undivided = await course(await create(options), batches);
    // The last micro-batch is smaller than the others, and of the second size a single one.
    for (const microBatch of [4, 11]) {
      const divided = await course(await create({ ...options, microBatch }), batches);
      expect(difference(undivided.numbers, divided.numbers)).toBeLessThan(1e-5);
      expect(difference(undivided.accuracies, divided.accuracies)).toBeLessThan(1e-6);
      for (const [i, weights] of undivided.weights.entries())
        expect(difference(weights, divided.weights[i]!)).toBeLessThan(1e-5);
    }
    // What plain averaging gives, as the planted error: the micro-batches are compared each by itself.
    const averaged = await create({ ...options, accumulate: 2 });
    const [first] = batches;
    await averaged.train(part(first!, 0, 4, picturesPerText));
    const { gradientNorm } = await averaged.train(part(first!, 4, 11, picturesPerText));
    averaged.dispose();
    const norm = undivided.numbers[Object.keys(options.objectives ?? ['itc', 'itm', 'mlm']).length]!;
    expect(Math.abs(gradientNorm! - norm) / norm).toBeGreaterThan(1e-4);
  });

  it('take the memory of one of them', async () => {
    const batch = [batchOf(0, 64)];
    const micro = await course(await create({ microBatch: 8, vlBranch: true }), batch);
    const small = await course(await create({ vlBranch: true }), [batchOf(0, 8)]);
    const whole = await course(await create({ vlBranch: true }), batch);
    expect(micro.arenaBytes).toBeLessThan(1.3 * small.arenaBytes);
    expect(whole.arenaBytes).toBeGreaterThan(5 * micro.arenaBytes);
  });
});

function part(batch: TrainingBatch, begin: number, end: number, picturesPerText = 1): TrainingBatch {
  const pictures = [begin * picturesPerText, end * picturesPerText] as const;
  return {
    bytes: batch.bytes!.slice(768 * pictures[0], 768 * pictures[1]),
    texts: batch.texts.slice(begin, end),
    groups: batch.groups!.slice(begin, end),
    answers: batch.answers!.slice(begin, end),
    truth: batch.truth!.slice(begin, end),
    visualTokens: batch.visualTokens!.slice(4 * pictures[0], 4 * pictures[1]),
  };
}
