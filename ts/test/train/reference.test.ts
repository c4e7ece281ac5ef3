import { describe, expect, it, vi } from 'vitest';
import { addon } from '../../src/runtime/addon.ts';
import { type StepMetrics, Trainer, type TrainerOptions } from '../../src/train/trainer.ts';
import type { Check } from '../../src/verify/compare.ts';
import { checksOfGradients, checksOfRun, given, ReferenceStage, vocabulary } from './reference-stage.ts';

// The trainer is the product's own; what it would draw is what was recorded.
vi.mock('../../src/train/masking.ts', async () => ({
  maskWords: (ids: Int32Array) => given.stage!.nextMasked(ids),
  maskBudget: (ids: Int32Array) => given.stage!.nextMasked(ids),
}));
vi.mock('../../src/train/objectives/programs.ts', async (original) => {
  const { programsOf } = await original<typeof import('../../src/train/objectives/programs.ts')>();
  return {
    programsOf: (setting: Parameters<typeof programsOf>[0]) =>
      programsOf(setting).map((program) => given.stage!.withDraws(program)),
  };
});

/** Trains a stage and compares all of it. @param options that a planted error changes */
async function train(
  stage: ReferenceStage,
  { target, ...options }: Partial<TrainerOptions> & { readonly target?: string } = {},
): Promise<Check[]> {
  given.stage = stage;
  const trainer = await Trainer.create(
    stage.config,
    stage.parameters,
    vocabulary,
    { ...stage.trainerOptions, ...options },
    { threads: 1, ...(target && { target }) },
  );
  try {
    const metrics: StepMetrics[] = [];
    const checks: Check[] = [];
    for (let step = 0; step < stage.settings.steps; step++) {
      metrics.push(await trainer.train(stage.batch(step)));
      if (step === 0) checks.push(...(await checksOfGradients(stage, trainer)));
    }
    return [...checks, ...checksOfRun(stage, metrics, await trainer.parameters())];
  } finally {
    trainer.dispose();
  }
}

const failed = (checks: readonly Check[]) => checks.filter(({ passed }) => !passed).map(({ name }) => name);

/** Stages whose draws are the same for a batch in parts, and those with dropout of texts, whose draws are not. */
const stages = ['text', 'pairs', 'retrieval', 'vqa', 'nlvr2', 'pairs_drop_path'];
const withDropout = ['text_dropped', 'pairs_dropped', 'nlvr2_dropped'];
const casesOf = (names: readonly string[]) =>
  (['relative', 'absolute'] as const).flatMap((positions) => names.map((stage) => [positions, stage] as const));
// In float32 targets with a longer name compute with the kernels of the one that it begins with, and amx with those of avx512.
const targets = addon()
  .cpuInfo()
  .targets.filter((target) => !target.includes('_') && target !== 'amx');

describe.each(targets)('ten steps of PyTorch on %s', (target) => {
  it.each(casesOf([...stages, ...withDropout]))('%s positions, %s', async (positions, name) => {
    const stage = await ReferenceStage.open(positions, name);
    const checks = await train(stage, { target });
    expect(checks.filter(({ passed }) => !passed)).toEqual([]);
    // Each parameter's gradient and end, each loss at first and in all steps, and the rates.
    expect(checks).toHaveLength(2 * stage.parameters.size + 2 * stage.settings.objectives.length + 1);
  });
});

describe('ten steps of PyTorch in micro-batches', () => {
  // Of four texts the last one is alone.
  it.each(casesOf(stages))('%s positions, %s', async (positions, name) => {
    const checks = await train(await ReferenceStage.open(positions, name), { microBatch: 3 });
    expect(checks.filter(({ passed }) => !passed)).toEqual([]);
  });
});

describe('a planted error', () => {
  it.each([
    ['losses/itm', 0, ['first loss/itm', 'losses/itm']],
    ['losses/itc', 9, ['losses/itc']],
    ['learning_rates', 4, ['learning_rates']],
    ['gradient/transformer.blocks.2.mlp_vl.fc1.weight', 77, ['gradient/transformer.blocks.2.mlp_vl.fc1.weight']],
    ['final/relative_position_bias_table', 90, ['final/relative_position_bias_table']],
  ])('in the recorded %s is noticed', async (name, index, expected) => {
    const stage = await ReferenceStage.open('relative', 'pairs');
    stage.values(name)[index]! *= 1.001;
    stage.values(name)[index]! += 1e-5;
    expect(failed(await train(stage))).toEqual(expected);
  });

  it('in a parameter without a gradient is noticed, however small it is', async () => {
    const stage = await ReferenceStage.open('relative', 'text');
    const name = 'transformer.blocks.1.attn.qkv.weight';
    const values = stage.parameters.get(name)!;
    stage.recorded.set(`final/${name}`, { shape: [values.length], values: values.map((value) => value + 1e-6) });
    expect(failed(await train(stage))).toEqual([]);
    stage.recorded.delete(`final/${name}`);
    stage.untouched.set(
      name,
      values.map((value, i) => (i === 5 ? value * (1 + 2 ** -23) : value)),
    );
    expect(failed(await train(stage))).toEqual([`final/${name}`]);
  });

  it.each([
    ['pairs', 'negative_image', 2, 'losses/itm'],
    ['pairs', 'negative_text', 5, 'losses/itm'],
    ['text', 'mlm_labels', undefined, 'losses/textmlm'],
    ['pairs', 'masked_ids', undefined, 'losses/mlm'],
    ['pairs_dropped', 'keep/contrastive', 20, 'losses/itc'],
    ['pairs_dropped', 'keep/contrastive_branch', 3, 'losses/itc'],
    ['pairs_dropped', 'keep/fused', 51, 'losses/itm'],
    ['nlvr2_dropped', 'keep/statements', 30, 'losses/nlvr2'],
    ['pairs_dropped', 'seed/contrastive', 1, 'losses/itc'],
    ['text_dropped', 'seed/text', 1, 'losses/textmlm'],
  ] as const)('in the draws of %s, %s, is noticed', async (name, draw, place, expected) => {
    const stage = await ReferenceStage.open('absolute', name);
    const values = stage.values(`draw/${draw}`);
    // Of masked words the first that is predicted; else this place.
    const index = place ?? stage.values('draw/mlm_labels').findIndex((label) => label >= 0);
    values[index] = draw.startsWith('keep')
      ? 1 - values[index]!
      : draw.startsWith('negative')
        ? other(values, index)
        : 7;
    expect(failed(await train(stage))).toContain(expected);
  });

  it.each<[string, Partial<TrainerOptions>, string]>([
    ['pairs', { weightDecay: 0.02 }, 'final/transformer.cls_token'],
    ['pairs', { lossWeights: { mlm: 0.26 } }, 'losses/mlm'],
    ['pairs', { betas: [0.9, 0.981] }, 'losses/itc'],
    ['pairs', { clipNorm: 1 }, 'final/pooler.dense.weight'],
    ['pairs', { maxLogitScale: 2 }, 'final/logit_scale'],
    ['pairs', { vlBranch: false }, 'final/itc_vl_text_proj.fc.weight'],
    ['retrieval', { eps: 1e-4 }, 'final/transformer.cls_token'],
    ['vqa', { headRate: 19 }, 'final/vqa_classifier.3.bias'],
    ['text', { trainable: () => true }, 'final/transformer.blocks.0.attn.qkv.weight'],
    ['text', { trainable: (name) => name.includes('mlm_score') }, 'gradient/text_embeddings.word_embeddings.weight'],
  ])('in the options of %s is noticed: %o', async (name, options, expected) => {
    expect(failed(await train(await ReferenceStage.open('relative', name), options))).toContain(expected);
  });

  it('in the number of draws is noticed', async () => {
    const stage = await ReferenceStage.open('relative', 'pairs_dropped');
    await expect(train(stage, { dropExpertsApart: false })).rejects.toThrow(/expected to draw|draws were left/);
    await expect(train(stage, { dropPath: 0.2 })).rejects.toThrow(/expected to draw/);
    await expect(train(stage, { textDropout: 0 })).rejects.toThrow(/draws were left/);
  });
});

/** Another wrong picture or text than the one at `index`. */
function other(values: ArrayLike<number>, index: number): number {
  return [0, 1, 2, 3].find((candidate) => candidate !== index % 4 && candidate !== values[index])!;
}
