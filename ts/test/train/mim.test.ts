import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { imageTokensOf, type VlmoConfig } from '../../src/architecture/config.ts';
import { parameterShapes } from '../../src/architecture/parameters.ts';
import type { TrainingArguments } from '../../src/model/contract.ts';
import { initialParameters } from '../../src/model/initialise.ts';
import { mimFunction, parametersWithGradient } from '../../src/model/objectives.ts';
import { Engine, type Program, type Weights } from '../../src/runtime/engine.ts';
import { maskBlocks } from '../../src/train/masking-blocks.ts';
import { maskedPictures } from '../../src/train/objectives/pictures.ts';
import { createRandom } from '../../src/train/random.ts';
import { learningRateAt, parameterGroups } from '../../src/train/schedule.ts';
import { Trainer, type TrainerOptions, type TrainingBatch } from '../../src/train/trainer.ts';
import { compare } from '../../src/verify/compare.ts';
import { expectCode } from '../helpers.ts';
import { tinyConfig } from './tiny-model.ts';

/** A case that scripts/reference/mim.py has computed. */
interface Case {
  readonly config: VlmoConfig;
  readonly masked: number;
  readonly loss: number;
  readonly gradients: Readonly<Record<string, string>>;
  readonly losses: readonly number[];
  readonly rates: readonly number[];
  readonly final: Readonly<Record<string, string>>;
}
const reference: {
  readonly settings: {
    readonly steps: number;
    readonly learningRate: number;
    readonly warmupSteps: number;
    readonly endLearningRate: number;
    readonly betas: readonly [number, number];
    readonly eps: number;
    readonly weightDecay: number;
  };
  readonly pictures: number;
  readonly cases: Readonly<Record<string, Case>>;
} = JSON.parse(readFileSync(new URL('mim-reference.json', import.meta.url), 'utf8'));

const floats = (base64: string) => new Float32Array(new Uint8Array(Buffer.from(base64, 'base64')).buffer);

/** The numbers in [0, 1) that the script draws too. */
function drawn(seed: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => {
    let mixed = (Math.imul(i, 2654435761) + seed * 40503 + 12345) >>> 0;
    mixed = Math.imul(mixed ^ (mixed >>> 15), 2246822519) >>> 0;
    mixed = Math.imul(mixed ^ (mixed >>> 13), 3266489917) >>> 0;
    return ((mixed ^ (mixed >>> 16)) >>> 0) / 2 ** 32;
  });
}

/** The parameters of the script, and any values for those that its pass does not read. */
async function parametersOf({ config, gradients }: Case): Promise<Map<string, Float32Array>> {
  const parameters = await initialParameters(config, createRandom(1));
  for (const [seed, name] of Object.keys(gradients).sort().entries()) {
    const values = Float32Array.from(drawn(seed, parameters.get(name)!.length), (value) => value - 0.5);
    parameters.set(name, /norm.*\.weight$/.test(name) ? values.map((value) => value + 1) : values);
  }
  return parameters;
}

/** The batch of the script. */
function batchOf({ config }: Case): { bytes: Uint8Array; masks: Int32Array; tokens: Int32Array } {
  const patches = imageTokensOf(config) - 1;
  const count = reference.pictures * patches;
  return {
    bytes: Uint8Array.from(drawn(1001, reference.pictures * 3 * config.imageSize ** 2), (value) => 256 * value),
    masks: Int32Array.from(drawn(1002, count), (value) => (value < 0.4 ? 1 : 0)),
    tokens: Int32Array.from(drawn(1003, count), (value) => config.visualTokens! * value),
  };
}

/** A model on an engine with the program of masked pictures. */
class Subject {
  readonly training;
  readonly weights: Weights;
  readonly #engine: Engine;
  readonly #program: Program<TrainingArguments>;

  private constructor(config: VlmoConfig, engine: Engine, weights: Weights) {
    this.training = mimFunction(config, { pixels: 'u8' });
    this.weights = weights;
    this.#engine = engine;
    this.#program = engine.createProgram(weights, this.training.lowered.text);
  }

  static async create(config: VlmoConfig, parameters: ReadonlyMap<string, Float32Array>): Promise<Subject> {
    const engine = new Engine({ threads: 1 });
    const weights = engine.createWeights();
    for (const [name, shape] of parameterShapes(config)) await weights.add(name, shape, parameters.get(name)!);
    await weights.enableTraining();
    return new Subject(config, engine, weights);
  }

  /** Forward and backward; the loss. */
  async run({ dims, inputs }: ReturnType<typeof maskedPictures>, bytes: Uint8Array): Promise<number> {
    await this.weights.zeroGradients();
    return (await this.#program.run({ dims, inputs: { ...inputs, bytes } }))['loss.mim']![0]!;
  }

  gradients(names: readonly string[]): Promise<[string, Float32Array][]> {
    return Promise.all(
      names.map(
        async (name): Promise<[string, Float32Array]> => [name, await this.weights.readState(name, 'gradient')],
      ),
    );
  }

  dispose(): void {
    this.#engine.dispose();
  }
}

describe.each(Object.entries(reference.cases))('masked pictures with %s positions', (_, given) => {
  const { config } = given;
  const { bytes, masks, tokens } = batchOf(given);
  const names = Object.keys(given.gradients);

  it('have the loss and the gradients that PyTorch has', async () => {
    const subject = await Subject.create(config, await parametersOf(given));
    const batch = maskedPictures(config, tokens, masks);
    expect(batch.dims.mim_rows).toBe(given.masked);
    expect(await subject.run(batch, bytes)).toBeCloseTo(given.loss, 5);
    const trained = parametersWithGradient(subject.training, batch.dims);
    expect([...trained].sort()).toEqual([...names].sort());
    for (const [name, gradient] of await subject.gradients(names)) {
      const { relL2, passed } = compare(name, 'gradient', gradient, floats(given.gradients[name]!), 1e-5);
      expect(passed, `${name}: ${relL2}`).toBe(true);
    }
    subject.dispose();
  });

  it('have others where one mask, one token or one parameter is another', async () => {
    const parameters = await parametersOf(given);
    const subject = await Subject.create(config, parameters);
    const wrongOf = async (batch: ReturnType<typeof maskedPictures>) => {
      const loss = await subject.run(batch, bytes);
      const all = await subject.gradients(names);
      const wrong = all.filter(
        ([name, gradient]) => !compare(name, 'gradient', gradient, floats(given.gradients[name]!), 1e-4).passed,
      );
      return { loss: Math.abs(loss - given.loss), wrong: wrong.length };
    };
    const oneMore = masks.slice();
    oneMore[masks.indexOf(0)] = 1;
    const otherToken = tokens.slice();
    otherToken[masks.indexOf(1)] = (tokens[masks.indexOf(1)]! + 1) % config.visualTokens!;
    for (const batch of [maskedPictures(config, tokens, oneMore), maskedPictures(config, otherToken, masks)]) {
      const { loss, wrong } = await wrongOf(batch);
      expect(loss).toBeGreaterThan(1e-3);
      expect(wrong).toBeGreaterThan(names.length / 2);
    }
    // The right labels of pictures that the model sees whole.
    const right = maskedPictures(config, tokens, masks);
    const seen = { ...right, inputs: { ...right.inputs, patch_mask: new Int32Array(masks.length) } };
    expect((await wrongOf(seen)).wrong).toBeGreaterThan(names.length / 2);
    subject.dispose();
  });

  it('train as PyTorch does, ten steps long', async () => {
    const { steps, betas, eps, weightDecay, ...rest } = reference.settings;
    const schedule = { ...rest, totalSteps: steps, decay: 'cosine' } as const;
    const batch = maskedPictures(config, tokens, masks);
    const deviations = async (decay: number) => {
      const subject = await Subject.create(config, await parametersOf(given));
      const groups = parameterGroups(parametersWithGradient(subject.training, batch.dims), decay);
      const losses: number[] = [];
      for (let step = 0; step < steps; step++) {
        losses.push(await subject.run(batch, bytes));
        const learningRate = learningRateAt(schedule, step);
        expect(learningRate).toBeCloseTo(given.rates[step]!, 12);
        const settings = { step: step + 1, learningRate, beta1: betas[0], beta2: betas[1], eps, gradientScale: 1 };
        await subject.weights.adamw({ ...settings, groups });
      }
      const checks = [compare('losses', 'training', losses, given.losses, 1e-5)];
      for (const name of names)
        checks.push(compare(name, 'training', await subject.weights.read(name), floats(given.final[name]!), 1e-4));
      subject.dispose();
      return checks;
    };
    for (const { name, relL2, passed } of await deviations(weightDecay)) expect(passed, `${name}: ${relL2}`).toBe(true);
    expect((await deviations(0)).filter(({ passed }) => !passed).length).toBeGreaterThan(5);
  });
});

const config: VlmoConfig = { ...tinyConfig, imageSize: 32, visualTokens: 8 };
const vocabulary = { vocabularySize: 40, maskId: 4, isSpecial: (id: number) => id < 5, isContinuation: () => false };
const patches = 16;

const create = async (options: Partial<TrainerOptions> = {}, sizes: VlmoConfig = config) =>
  Trainer.create(
    sizes,
    await initialParameters(sizes, createRandom(5)),
    vocabulary,
    {
      objectives: ['mim'],
      schedule: { learningRate: 4e-3, totalSteps: 100, warmupSteps: 5, decay: 'constant' },
      clipNorm: 3,
      seed: 3,
      ...options,
    },
    { threads: 1 },
  );

/** Pictures of one of eight colours with noise; the token of every patch is the number of the colour. */
function pictures(count: number, seed: number): TrainingBatch & { visualTokens: Int32Array; bytes: Uint8Array } {
  const random = createRandom(seed);
  const bytes = new Uint8Array(count * 3 * config.imageSize ** 2);
  const visualTokens = new Int32Array(count * patches);
  const size = bytes.length / count;
  for (let i = 0; i < count; i++) {
    const colour = random.integer(8);
    visualTokens.fill(colour, i * patches, (i + 1) * patches);
    for (let at = 0; at < size; at++) bytes[i * size + at] = ((colour >> (at % 3)) & 1) * 200 + random.integer(30);
  }
  return { bytes, texts: [], visualTokens };
}

describe('a trainer on masked pictures', () => {
  it('learns their tokens, and changes nothing that has no gradient', async () => {
    const frozen = /^transformer\.blocks\.0\.|^transformer\.pos_embed$/;
    const trainer = await create({ trainable: (name) => !frozen.test(name) });
    const before = await trainer.parameters();
    const steps = [];
    for (let step = 0; step < 60; step++) steps.push(await trainer.train(pictures(8, step)));
    expect(steps[0]!.loss).toBeGreaterThan(1.8);
    expect(steps[0]!.losses).toEqual({ mim: steps[0]!.loss });
    const last = steps.slice(-10);
    expect(last.reduce((sum, { loss }) => sum + loss, 0) / 10).toBeLessThan(0.5);
    expect(last.reduce((sum, { accuracies }) => sum + accuracies.mim!, 0) / 10).toBeGreaterThan(0.8);
    const touched = /^transformer\.(?!blocks)|_imag\.|attn\.|norm1|^token_type_embeddings|^mim_score\./;
    for (const [name, values] of await trainer.parameters()) {
      const learns = touched.test(name) && !frozen.test(name);
      if (learns) expect(values, name).not.toEqual(before.get(name));
      else expect(values, name).toEqual(before.get(name));
    }
    trainer.dispose();
  });

  it('masks by its own generator, as many patches as it is told', async () => {
    const batch = pictures(4, 1);
    const trainer = await create({ maskedPatchShare: 0.25 });
    const random = createRandom(3, 0x7261696e);
    const masks = new Int32Array(4 * patches);
    for (let i = 0; i < 4; i++) masks.set(maskBlocks(4, random, { share: 0.25 }), i * patches);
    const subject = await Subject.create(config, await initialParameters(config, createRandom(5)));
    const expected = await subject.run(maskedPictures(config, batch.visualTokens, masks), batch.bytes);
    expect((await trainer.train(batch)).loss).toBe(expected);
    expect((await trainer.train(batch)).loss).not.toBe(expected);
    subject.dispose();
    trainer.dispose();
  });

  it('draws the same masks after an abort, and with drop path and checkpointed activations the same bits', async () => {
    const [kept, again] = [
      await create({ dropPath: 0.3 }),
      await create({ dropPath: 0.3, checkpointActivations: true }),
    ];
    for (let step = 0; step < 3; step++) {
      const batch = pictures(4, step);
      await expectCode(() => again.train(batch, AbortSignal.abort()), 'MOME_ABORTED');
      expect((await again.train(batch)).loss).toBe((await kept.train(batch)).loss);
    }
    kept.dispose();
    again.dispose();
  });

  it('learns from micro-batches as from the undivided batch', async () => {
    const [whole, parts] = [await create({ dropPath: 0.2 }), await create({ dropPath: 0.2, microBatch: 3 })];
    for (let step = 0; step < 3; step++) {
      const batch = pictures(8, step);
      const [a, b] = [await whole.train(batch), await parts.train(batch)];
      expect(Math.abs(b.loss / a.loss - 1)).toBeLessThan(1e-6);
      expect(Math.abs(b.gradientNorm! / a.gradientNorm! - 1)).toBeLessThan(1e-5);
      expect(b.accuracies.mim).toBeCloseTo(a.accuracies.mim!, 6);
    }
    whole.dispose();
    parts.dispose();
  });

  it('reads pictures beside pairs, and beside texts alone', async () => {
    const four = pictures(4, 1);
    const texts = Array.from({ length: 4 }, (_, i) => Int32Array.of(2, 10 + i, 20, 3));
    const pairs = await create({ objectives: ['irtr', 'mim'] });
    expect(Object.keys((await pairs.train({ ...four, texts })).losses).sort()).toEqual(['irtr', 'mim']);
    await expectCode(() => pairs.train({ ...four, texts: texts.slice(1) }), 'MOME_INVALID_SHAPE');
    pairs.dispose();
    const apart = await create({ objectives: ['textmlm', 'mim'] });
    const { losses } = await apart.train({ ...four, texts: texts.slice(1) });
    expect(Object.keys(losses).sort()).toEqual(['mim', 'textmlm']);
    await expectCode(() => apart.train(four), 'MOME_INVALID_ARGUMENT');
    apart.dispose();
  });

  it('refuses what does not fit, and a model without visual tokens', async () => {
    const trainer = await create();
    const batch = pictures(2, 1);
    for (const [wrong, code] of [
      [{ bytes: undefined }, 'MOME_INVALID_ARGUMENT'],
      [{ bytes: new Uint8Array(0) }, 'MOME_INVALID_SHAPE'],
      [{ bytes: batch.bytes.subarray(1) }, 'MOME_INVALID_SHAPE'],
      [{ bytes: batch.bytes.subarray(3 * config.imageSize ** 2) }, 'MOME_INVALID_SHAPE'],
      [{ visualTokens: undefined }, 'MOME_INVALID_ARGUMENT'],
      [{ visualTokens: [...batch.visualTokens] }, 'MOME_INVALID_ARGUMENT'],
      [{ visualTokens: batch.visualTokens.subarray(1) }, 'MOME_INVALID_SHAPE'],
      [{ visualTokens: batch.visualTokens.map(() => 8) }, 'MOME_INVALID_ARGUMENT'],
      [{ visualTokens: batch.visualTokens.map(() => -1) }, 'MOME_INVALID_ARGUMENT'],
    ] as const)
      await expectCode(() => trainer.train({ ...batch, ...wrong } as TrainingBatch), code);
    expect((await trainer.train(batch)).applied).toBe(true);
    trainer.dispose();
    await expectCode(() => create({}, { ...tinyConfig, imageSize: 32 }), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => create({}, { ...config, patchSize: 32 }), 'MOME_INVALID_ARGUMENT');
    for (const maskedPatchShare of [0, -1, 1.5, Number.NaN])
      await expectCode(() => create({ maskedPatchShare }), 'MOME_INVALID_ARGUMENT');
  });
});
