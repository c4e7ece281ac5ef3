import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Vlmo } from '../../src/inference/index.ts';
import type { TrainingArguments } from '../../src/model/contract.ts';
import { initialParameters } from '../../src/model/initialise.ts';
import type { Objective } from '../../src/model/objectives.ts';
import { writeModel } from '../../src/train/index.ts';
import { maskBudget, maskWords } from '../../src/train/masking.ts';
import { textProgram } from '../../src/train/objectives/text.ts';
import { singleProcess } from '../../src/train/process-group.ts';
import { createRandom } from '../../src/train/random.ts';
import { Trainer, type TrainerOptions, type TrainingBatch } from '../../src/train/trainer.ts';
import { WholeBatch } from '../../src/train/whole-batch.ts';
import { expectCode, temporaryFolder } from '../helpers.ts';
import { tinyConfig } from './tiny-model.ts';

const config = { ...tinyConfig, answers: 6 };
const vocabulary = {
  vocabularySize: 40,
  maskId: 4,
  isSpecial: (id: number) => id < 5,
  isContinuation: (id: number) => id >= 36,
};
const words = Array.from({ length: 40 }, (_, id) =>
  id < 5 ? ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'][id]! : id >= 36 ? `##p${id}` : `word${id}`,
);

/** A trainer whose learning rate is 0 in its first step, so that the weights are as they began. */
const create = async (objectives: readonly Objective[], options: Partial<TrainerOptions> = {}, warmupSteps = 5) =>
  Trainer.create(
    config,
    await initialParameters(config, createRandom(5)),
    vocabulary,
    {
      objectives,
      schedule: { learningRate: 3e-3, totalSteps: 100, warmupSteps, decay: 'constant' },
      clipNorm: 1,
      seed: 3,
      ...options,
    },
    { threads: 1 },
  );

/** Pictures of one colour each, with noise. */
function pictures(count: number, seed: number): Uint8Array {
  const random = createRandom(seed);
  return Uint8Array.from({ length: count * 768 }, (_, at) => {
    const picture = Math.floor(at / 768);
    return ((picture >> (at % 3)) & 1) * 200 + random.integer(30);
  });
}
const texts = (count: number) =>
  Array.from({ length: count }, (_, i) => Int32Array.of(2, 10 + (i % 8), 20 + (i % 2), 3));

/** What inference says of the trainer's weights. */
async function model(trainer: Trainer): Promise<Vlmo> {
  const folder = await temporaryFolder();
  await writeFile(join(folder, 'vocab.txt'), words.join('\n'));
  await writeModel(folder, config, await trainer.parameters(), { dtype: 'float32', vocabularyFiles: [] });
  return Vlmo.load(folder, { threads: 1 });
}
const textOf = (ids: Int32Array) => [...ids.subarray(1, -1)].map((id) => words[id]).join(' ');
const pictureOf = (bytes: Uint8Array, i: number) => ({
  data: bytes.subarray(i * 768, (i + 1) * 768),
  width: 16,
  height: 16,
  channels: 3 as const,
});

async function losses(trainer: Trainer, batch: TrainingBatch, steps: number) {
  const all = [];
  for (let step = 0; step < steps; step++) all.push(await trainer.train(batch));
  return all;
}

describe('answers to questions', () => {
  const bytes = pictures(4, 1);
  const batch: TrainingBatch = {
    bytes,
    texts: texts(4),
    answers: [
      { labels: [0, 3], scores: [1, 0.3] },
      { labels: [1], scores: [0.9] },
      { labels: [], scores: [] },
      { labels: Int32Array.of(5), scores: Float32Array.of(0.5) },
    ],
  };

  it('have the binary cross-entropy of their soft targets, summed over answers', async () => {
    const trainer = await create(['vqa']);
    await using inference = await model(trainer);
    const questions = batch.texts.map((text, i) => ({ image: pictureOf(bytes, i), text: textOf(text) }));
    let expected = 0;
    for (const [i, { image, text }] of questions.entries()) {
      const scores = await inference.answer(image, text, { k: config.answers });
      for (const { answer, score } of scores) {
        const label = Number(answer.replace(/\D/g, ''));
        const place = Array.from(batch.answers![i]!.labels).indexOf(label);
        const target = place < 0 ? 0 : batch.answers![i]!.scores[place]!;
        expected -= (target * Math.log(score) + (1 - target) * Math.log(1 - score)) / questions.length;
      }
    }
    const [{ loss, accuracies }] = (await losses(trainer, batch, 1)) as [Awaited<ReturnType<Trainer['train']>>];
    expect(loss).toBeCloseTo(expected, 4);
    expect(accuracies.vqa).toBeGreaterThanOrEqual(0);
    trainer.dispose();
  });

  it('have the same loss beside masked words, whose sequences stand before them', async () => {
    const [alone, both] = [await create(['vqa']), await create(['mlm', 'vqa'])];
    const [a, b] = [await alone.train(batch), await both.train(batch)];
    expect(b.losses.vqa).toBeCloseTo(a.losses.vqa!, 5);
    expect(b.losses.mlm).toBeGreaterThan(0.1);
    alone.dispose();
    both.dispose();
  });

  it('are learned, at a rate of their own', async () => {
    const trainer = await create(['vqa'], { headRate: 3 }, 1);
    const steps = await losses(trainer, batch, 60);
    expect(steps.at(-1)!.loss).toBeLessThan(0.75 * steps[0]!.loss);
    // The best answers of the four questions score 1, 0.9, none and 0.5.
    expect(steps.at(-1)!.accuracies.vqa).toBeCloseTo(0.6, 5);
    trainer.dispose();
  });

  it('move the head further for a higher rate, and other parameters as far', async () => {
    const moved = async (headRate: number) => {
      const trainer = await create(['vqa'], { headRate, clipNorm: 0 }, 1);
      const before = await trainer.parameters();
      await losses(trainer, batch, 2);
      const after = await trainer.parameters();
      trainer.dispose();
      const distance = (name: string) =>
        Math.hypot(...after.get(name)!.map((value, i) => value - before.get(name)![i]!));
      return [distance('vqa_classifier.3.weight'), distance('transformer.blocks.2.mlp_vl.fc1.weight')] as const;
    };
    const [slow, fast] = [await moved(1), await moved(20)];
    expect(fast[0] / slow[0]).toBeCloseTo(20, 0);
    expect(fast[1]).toBe(slow[1]);
  });

  it('are refused where they do not fit', async () => {
    const trainer = await create(['vqa']);
    const withAnswers = (answers: unknown) => trainer.train({ ...batch, answers } as TrainingBatch);
    for (const [answers, code] of [
      [undefined, 'MOME_INVALID_ARGUMENT'],
      [batch.answers!.slice(1), 'MOME_INVALID_SHAPE'],
      [[...batch.answers!.slice(1), { labels: [6], scores: [1] }], 'MOME_INVALID_ARGUMENT'],
      [[...batch.answers!.slice(1), { labels: [1, 1], scores: [1, 1] }], 'MOME_INVALID_ARGUMENT'],
      [[...batch.answers!.slice(1), { labels: [1], scores: [1.1] }], 'MOME_INVALID_ARGUMENT'],
      [[...batch.answers!.slice(1), { labels: [1], scores: [Number.NaN] }], 'MOME_INVALID_ARGUMENT'],
      [[...batch.answers!.slice(1), { labels: [1], scores: [] }], 'MOME_INVALID_ARGUMENT'],
      [[...batch.answers!.slice(1), { labels: 'a', scores: [1] }], 'MOME_INVALID_ARGUMENT'],
      [[...batch.answers!.slice(1), null], 'MOME_INVALID_ARGUMENT'],
    ] as const)
      await expectCode(() => withAnswers(answers), code);
    trainer.dispose();
  });
});

describe('statements about two pictures', () => {
  const bytes = pictures(8, 2);
  const batch: TrainingBatch = { bytes, texts: texts(4), truth: Int32Array.of(1, 0, 0, 1) };

  it('have the cross-entropy of the judgement on both pictures in their order', async () => {
    const trainer = await create(['nlvr2']);
    await using inference = await model(trainer);
    let expected = 0;
    for (const [i, text] of batch.texts.entries()) {
      const { probability } = await inference.reason(
        [pictureOf(bytes, 2 * i), pictureOf(bytes, 2 * i + 1)],
        textOf(text),
      );
      expected -= Math.log(batch.truth![i] ? probability : 1 - probability) / 4;
    }
    const { loss } = await trainer.train(batch);
    expect(loss).toBeCloseTo(expected, 4);
    trainer.dispose();
  });

  it('are learned', async () => {
    const trainer = await create(['nlvr2'], {}, 1);
    const steps = await losses(trainer, batch, 60);
    expect(steps.at(-1)!.loss).toBeLessThan(0.1);
    expect(steps.at(-1)!.accuracies.nlvr2).toBe(1);
    trainer.dispose();
  });

  it('are refused without two pictures each, without truth, and beside objectives that read one picture', async () => {
    const trainer = await create(['nlvr2']);
    await expectCode(() => trainer.train({ ...batch, bytes: bytes.subarray(768) }), 'MOME_INVALID_SHAPE');
    await expectCode(() => trainer.train({ bytes, texts: batch.texts }), 'MOME_INVALID_SHAPE');
    await expectCode(() => trainer.train({ ...batch, truth: Int32Array.of(1, 0, 2, 1) }), 'MOME_INVALID_ARGUMENT');
    trainer.dispose();
    await expectCode(() => create(['nlvr2', 'mlm']), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => create(['itc', 'irtr']), 'MOME_INVALID_ARGUMENT');
  });
});

describe('texts alone', () => {
  it('are read at the pieces that are masked', async () => {
    const options = { objectives: ['textmlm'] as const, maskProbability: 0.5 };
    const batch = { texts: [Int32Array.of(2, 10, 11, 3), Int32Array.of(2, 12, 36, 13, 14, 3)] };
    let args: TrainingArguments | undefined;
    await textProgram({ config, vocabulary, options, trainable: undefined }).run({
      whole: await WholeBatch.of(singleProcess, batch, 768),
      random: createRandom(1),
      group: singleProcess,
      isLastProgram: true,
      run: async (_, given) => {
        args = given;
        return { 'loss.textmlm': Float32Array.of(1) };
      },
      losses: {},
      accuracies: {},
    });
    const { inputs, dims } = args!;
    const pieces = batch.texts.flatMap((text) => [...text]);
    const read = [...inputs.kept_mlm!].map((place) => pieces[inputs.kept[place]!]);
    expect(read).toEqual([...inputs.mlm_labels!]);
    expect(read.length).toBe(dims.mlm_rows);
    expect(read.length).toBeGreaterThan(1);
  });

  it('train the text expert and leave what is frozen as it is, to the last bit', async () => {
    const learns = /^text_embeddings|^token_type|mlp_text|norm2_text|mlm_score|transformer\.norm/;
    const trainer = await create(['textmlm'], { trainable: (name) => learns.test(name) }, 1);
    const before = await trainer.parameters();
    const batch = { texts: texts(8) };
    const steps = await losses(trainer, batch, 80);
    const mean = (part: typeof steps) => part.reduce((sum, { loss }) => sum + loss, 0) / part.length;
    expect(mean(steps.slice(-10))).toBeLessThan(0.7 * mean(steps.slice(0, 10)));
    for (const [name, values] of await trainer.parameters()) {
      const touched = learns.test(name) && !/^token_type|mlp_vl|norm2_vl/.test(name);
      if (!learns.test(name)) expect(values, name).toEqual(before.get(name));
      else if (touched && name.includes('mlp_text')) expect(values, name).not.toEqual(before.get(name));
    }
    trainer.dispose();
  });

  it('need no pictures, and pairs train on them beside', async () => {
    const trainer = await create(['textmlm']);
    await expectCode(() => trainer.train({ texts: texts(2), bytes: new Uint8Array(5) }), 'MOME_INVALID_SHAPE');
    trainer.dispose();
    const both = await create(['irtr', 'itm', 'mlm', 'textmlm']);
    const { losses: named } = await both.train({ bytes: pictures(4, 3), texts: texts(4) });
    expect(Object.keys(named).sort()).toEqual(['irtr', 'itm', 'mlm', 'textmlm']);
    both.dispose();
  });
});

describe('weights of losses', () => {
  it('multiply losses and gradients', async () => {
    const batch = { bytes: pictures(4, 3), texts: texts(4) };
    const once = await create(['mlm'], { clipNorm: 0 });
    const four = await create(['mlm'], { clipNorm: 0, lossWeights: { mlm: 1 } });
    const [a, b] = [await once.train(batch), await four.train(batch)];
    expect(b.losses.mlm! / a.losses.mlm!).toBeCloseTo(4, 5);
    expect(b.gradientNorm! / a.gradientNorm!).toBeCloseTo(4, 4);
    once.dispose();
    four.dispose();
    await expectCode(() => create(['mlm'], { lossWeights: { mlm: -1 } }), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => create(['mlm'], { lossWeights: { mml: 1 } as never }), 'MOME_INVALID_ARGUMENT');
    const idle = await expectCode(() => create(['mlm'], { lossWeights: { vqa: 1 } }), 'MOME_INVALID_ARGUMENT');
    expect(idle.message).toContain('got one of vqa');
  });
});

describe('a limit of the logit scale', () => {
  it('is ln(100) unless it is Infinity', async () => {
    const batch = { bytes: pictures(4, 3), texts: texts(4) };
    const scaleOf = async (options: Partial<TrainerOptions>) => {
      const parameters = await initialParameters(config, createRandom(5));
      parameters.get('logit_scale')!.fill(5);
      const trainer = await Trainer.create(
        config,
        parameters,
        vocabulary,
        {
          objectives: ['irtr'],
          schedule: { learningRate: 1e-6, totalSteps: 9, warmupSteps: 0, decay: 'constant' },
          ...options,
        },
        { threads: 1 },
      );
      await trainer.train(batch);
      const scale = (await trainer.parameters()).get('logit_scale')![0]!;
      trainer.dispose();
      return scale;
    };
    expect(await scaleOf({})).toBeCloseTo(Math.log(100), 6);
    expect(await scaleOf({ maxLogitScale: Number.POSITIVE_INFINITY })).toBeCloseTo(5, 4);
  });
});

describe('a budget of masked pieces', () => {
  const text = Int32Array.of(2, 10, 36, 37, 11, 12, 1, 3);
  const draws = Array.from({ length: 4000 }, (_, seed) => maskBudget(text, vocabulary, createRandom(seed), 40));

  it('is a share of the padded length, of which padding takes most', () => {
    for (const { positions } of draws) expect(positions.length).toBeLessThanOrEqual(6);
    // Of 36 words, 32 are padding and one is unknown. That of three pieces is taken, and then three others, where it is among the first
    // four drawn. Else six others are.
    const share = 2 / 35;
    const expected = (4 / 36) * (3 + 3 * share) + (32 / 36) * 6 * share;
    const mean = draws.reduce((sum, { positions }) => sum + positions.length, 0) / draws.length;
    expect(Math.abs(mean - expected)).toBeLessThan(0.05);
    expect(draws.some(({ positions }) => positions.length === 0)).toBe(true);
  });

  it('takes whole words and no special piece', () => {
    for (const { positions, labels, ids } of draws) {
      const chosen = new Set(positions);
      expect(chosen.has(1)).toBe(chosen.has(2));
      expect(chosen.has(2)).toBe(chosen.has(3));
      for (const special of [0, 6, 7]) expect(chosen.has(special)).toBe(false);
      expect([...labels]).toEqual([...positions].map((position) => text[position]));
      for (const [position, id] of ids.entries()) if (!chosen.has(position)) expect(id).toBe(text[position]);
    }
  });

  it('passes over words that are longer than what is left', () => {
    // Ten pieces of padded length give a budget of 2 (1.5, to the even neighbour): the word of three pieces never fits.
    for (let seed = 0; seed < 500; seed++)
      expect(maskBudget(text, vocabulary, createRandom(seed), 10).positions).not.toContain(1);
  });

  it('rounds a half to the even neighbour, as Python does', () => {
    const long = Int32Array.from({ length: 30 }, (_, i) => (i === 0 ? 2 : i === 29 ? 3 : 10));
    expect(maskBudget(long, vocabulary, createRandom(1), 30).positions.length).toBe(4);
  });

  it('draws any piece of the vocabulary, where a share of the words draws none that is special', () => {
    const ids = (mask: (seed: number) => { readonly ids: Int32Array; readonly positions: Int32Array }) =>
      new Set(
        Array.from({ length: 4000 }, (_, seed) => mask(seed)).flatMap(({ ids, positions }) =>
          [...positions].map((position) => ids[position]!),
        ),
      );
    const budget = ids((seed) => maskBudget(text, vocabulary, createRandom(seed), 8, 1));
    expect([0, 1, 2, 3].some((id) => budget.has(id))).toBe(true);
    const share = ids((seed) => maskWords(text, vocabulary, createRandom(seed), 1));
    expect([0, 1, 2, 3].some((id) => share.has(id))).toBe(false);
  });
});

describe('starting values', () => {
  it('of the original are normal with a deviation of 0.02 at any depth, and uniform in the patch projection', async () => {
    const parameters = await initialParameters({ ...config, width: 64, layers: 8 }, createRandom(1), 'original');
    const deviation = (name: string) => {
      const values = parameters.get(name)!;
      return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
    };
    for (const name of [
      'transformer.blocks.7.attn.proj.weight',
      'transformer.blocks.0.mlp_text.fc2.weight',
      'itc_text_proj.fc.weight',
    ])
      expect(deviation(name), name).toBeCloseTo(0.02, 3);
    const bound = 1 / Math.sqrt(3 * config.patchSize ** 2);
    const patches = parameters.get('transformer.patch_embed.proj.weight')!;
    expect(Math.max(...patches)).toBeLessThanOrEqual(bound);
    expect(Math.max(...patches)).toBeGreaterThan(0.99 * bound);
    expect(deviation('transformer.patch_embed.proj.bias')).toBeGreaterThan(0.3 * bound);
    expect(parameters.get('transformer.blocks.3.norm1.weight')!.every((value) => value === 1)).toBe(true);
  });
});
