/**
 * Runs of the preset `original` beside PyTorch: one on texts alone, one on pairs that begins with its weights, and one for each task from
 * those. The runs are those of `mome train`; the batches are the recorded ones.
 */
import { mkdir, writeFile } from 'node:fs/promises';
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

/** A folder with a vocabulary, and with pairs, questions and statements on pictures of one colour. */
async function dataFolder(): Promise<string> {
  const folder = await temporaryFolder();
  const write = (name: string, value: unknown) => writeFile(join(folder, name), JSON.stringify(value));
  const pieces = Array.from({ length: vocabulary.vocabularySize }, (_, id) =>
    vocabulary.isContinuation(id) ? `##s${id}` : (['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'][id] ?? `word${id}`),
  );
  await writeFile(join(folder, 'vocab.txt'), `${pieces.join('\n')}\n`);
  const picture = sharp({ create: { width: 24, height: 24, channels: 3, background: '#f00' } }).png();
  await mkdir(join(folder, 'pairs'));
  await writeFile(join(folder, 'pairs', 'a.txt'), 'word5\nword6\nword7\nword8\n');
  for (const name of ['pairs/a', 'COCO_val2014_000000000001', 'dev-0-0-img0', 'dev-0-0-img1'])
    await picture.toFile(join(folder, `${name}.png`));
  const questions = ['one', 'red', 'blue', 'left', 'cat', 'dog', 'tree'].map((answer, i) => ({
    question: { image_id: 1, question_id: i, question: 'word5' },
    annotation: {
      image_id: 1,
      question_id: i,
      multiple_choice_answer: answer,
      answers: Array.from({ length: 10 }, (_, person) => ({ answer, answer_id: person + 1 })),
    },
  }));
  await write('questions.json', { questions: questions.map(({ question }) => question) });
  await write('annotations.json', { annotations: questions.map(({ annotation }) => annotation) });
  const statements = [0, 1, 2, 3].map((i) => ({ identifier: `dev-0-0-${i}`, sentence: 'word5', label: 'True' }));
  await writeFile(join(folder, 'statements.json'), statements.map((each) => `${JSON.stringify(each)}\n`).join(''));
  return folder;
}

const questions = { questions: 'questions.json', annotations: 'annotations.json', images: '.', answers: { fewest: 1 } };
const statements = { statements: 'statements.json', images: '.' };

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
    data: { pairs: 'pairs' },
    headRate: settings.head_rate,
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

it('runs on texts, on pairs after it and on each task after that are those of PyTorch, from exact weights', async () => {
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

  for (const [name, data] of [
    ['original_retrieval', { pairs: 'pairs' }],
    ['original_vqa', questions],
    ['original_nlvr2', statements],
  ] as const) {
    const task = await ReferenceStage.open('relative', name);
    const third = await run(task, folder, second.output, { data });
    expect(third.start).toEqual(second.left);
    expect(failed(task, third)).toEqual([]);
  }
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
