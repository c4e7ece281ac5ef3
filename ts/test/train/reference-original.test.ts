/**
 * Two runs of the preset `original`, one on texts alone and one on pairs that begins with its weights, beside PyTorch. The runs are those of
 * `mome train`; the batches are the recorded ones.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterEach, expect, it, vi } from 'vitest';
import { runTraining } from '../../src/train/run.ts';
import { type StepMetrics, Trainer } from '../../src/train/trainer.ts';
import { CaseTensors } from '../../src/verify/case-files.ts';
import { temporaryFolder } from '../helpers.ts';
import { checksOfRun, given, ReferenceStage, vocabulary, weightsOf } from './reference-stage.ts';

vi.mock('../../src/train/masking.ts', async () => ({
  // The preset masks within the budget, and no other way.
  maskBudget: (ids: Int32Array) => given.stage!.nextMasked(ids),
}));
vi.mock('../../src/train/objectives/programs.ts', async (original) => {
  const { programsOf } = await original<typeof import('../../src/train/objectives/programs.ts')>();
  return {
    programsOf: (setting: Parameters<typeof programsOf>[0]) =>
      programsOf(setting).map((program) => given.stage!.withDraws(program)),
  };
});
afterEach(() => {
  vi.restoreAllMocks();
});

/** A folder with four captions of one picture, and a vocabulary. */
async function dataFolder(): Promise<string> {
  const folder = await temporaryFolder();
  const pieces = Array.from({ length: vocabulary.vocabularySize }, (_, id) =>
    vocabulary.isContinuation(id) ? `##s${id}` : (['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'][id] ?? `word${id}`),
  );
  await writeFile(join(folder, 'vocab.txt'), `${pieces.join('\n')}\n`);
  await writeFile(join(folder, 'a.txt'), 'word5\nword6\nword7\nword8\n');
  await sharp({ create: { width: 24, height: 24, channels: 3, background: '#f00' } })
    .png()
    .toFile(join(folder, 'a.png'));
  return folder;
}

/** Runs a recipe with the preset and the recorded batches of a stage: what it reported, began with and left. */
async function run(stage: ReferenceStage, folder: string, init: string, changes: Record<string, unknown> = {}) {
  given.stage = stage;
  const { vocabularySize, ...model } = stage.config;
  const { settings } = stage;
  const recipe = {
    preset: 'original',
    model,
    init,
    vocabulary: 'vocab.txt',
    data: { pairs: '.' },
    batchSize: 4,
    phases: [
      {
        objectives: settings.objectives,
        steps: settings.steps,
        learningRate: settings.learning_rate,
        warmupSteps: settings.warmup_steps / settings.total_steps,
        ...(settings.trainable && { trainable: settings.trainable.join('|').replaceAll('.', '\\.') }),
      },
    ],
    threads: 1,
    ...changes,
  };
  await writeFile(join(folder, 'recipe.json'), JSON.stringify(recipe));
  const metrics: StepMetrics[] = [];
  let start: ReadonlyMap<string, Float32Array> = new Map();
  const train = Trainer.prototype.train;
  vi.spyOn(Trainer.prototype, 'train').mockImplementation(async function (this: Trainer, _, signal) {
    if (metrics.length === 0) start = await this.parameters();
    metrics.push(await train.call(this, stage.batch(metrics.length), signal));
    return metrics.at(-1)!;
  });
  const output = join(folder, settings.objectives.join('-'));
  await runTraining(join(folder, 'recipe.json'), { output, quiet: true, overwrite: true });
  vi.restoreAllMocks();
  const file = await CaseTensors.open(join(output, 'model.safetensors'));
  const left = new Map<string, Float32Array>();
  for (const name of stage.parameters.keys()) left.set(name, await file.floats(name));
  for (const [name, values] of start) stage.untouched.set(name, values);
  return { start, left, output, types: new Set([...file.entries.values()].map(({ dtype }) => dtype)), metrics };
}

const failed = (stage: ReferenceStage, { metrics, left }: Awaited<ReturnType<typeof run>>) =>
  checksOfRun(stage, metrics, left).filter(({ passed }) => !passed);

it('a run on texts and one on pairs after it are those of PyTorch, and the weights between them are exact', async () => {
  const folder = await dataFolder();
  const texts = await ReferenceStage.open('relative', 'original_text');
  const first = await run(texts, folder, weightsOf('relative'));
  expect(first.start).toEqual(texts.parameters);
  expect(failed(texts, first)).toEqual([]);

  const pairs = await ReferenceStage.open('relative', 'original_pairs');
  const second = await run(pairs, folder, first.output);
  expect(second.types).toEqual(new Set(['F32']));
  expect(second.start).toEqual(first.left);
  expect(failed(pairs, second)).toEqual([]);
});

it.each([
  ['weights in 16 bits', { dtype: 'bfloat16' }],
  ['a clipped gradient', { clipNorm: 0.5 }],
  ['another decay', { weightDecay: 0 }],
])('notices %s', async (_, changes) => {
  const folder = await dataFolder();
  const texts = await ReferenceStage.open('relative', 'original_text');
  expect(failed(texts, await run(texts, folder, weightsOf('relative'), changes))).not.toEqual([]);
});

it.each([
  ['masking by share of words', { masking: 'words' }],
  ['experts that are dropped together', { dropExpertsApart: false }],
  ['another drop path', { dropPath: 0.2 }],
  ['no dropout of texts', { textDropout: 0 }],
])('notices %s', async (_, changes) => {
  const pairs = await ReferenceStage.open('relative', 'original_pairs');
  await expect(run(pairs, await dataFolder(), weightsOf('relative'), changes)).rejects.toThrow();
});
