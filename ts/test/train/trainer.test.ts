import { mkdir, open, readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { parameterShapes } from '../../src/architecture/parameters.ts';
import { openSafetensors, readTensor } from '../../src/checkpoint/index.ts';
import { Vlmo } from '../../src/inference/index.ts';
import { initialParameters } from '../../src/model/initialise.ts';
import { Program } from '../../src/runtime/engine.ts';
import { MomeError } from '../../src/runtime/errors.ts';
import { parameterFilter } from '../../src/train/parameter-filter.ts';
import { createRandom } from '../../src/train/random.ts';
import { isChain, parseChain, parseRecipe, readRecipe, readRecipeJson } from '../../src/train/recipe.ts';
import { runTraining } from '../../src/train/run.ts';
import { lockRun } from '../../src/train/run-lock.ts';
import { loadRun, saveRun } from '../../src/train/state.ts';
import { Trainer, type TrainerOptions, type TrainingBatch } from '../../src/train/trainer.ts';
import { expectCode, temporaryFolder } from '../helpers.ts';
import { tinyConfig, tinyRecipeModel } from './tiny-model.ts';

const config = tinyConfig;
const vocabulary = { vocabularySize: 40, maskId: 4, isSpecial: (id: number) => id < 5, isContinuation: () => false };
const schedule = { learningRate: 2e-3, totalSteps: 100, warmupSteps: 5, decay: 'cosine' } as const;

const trainer = async (options: Partial<TrainerOptions> = {}, threads = 1) =>
  Trainer.create(
    config,
    await initialParameters(config, createRandom(5)),
    vocabulary,
    { objectives: ['itc', 'itm', 'mlm'], schedule, clipNorm: 1, seed: 3, ...options },
    { threads },
  );

/** Pairs in which the text names the colour of the picture. */
function batchOf(step: number, pairs = 8): TrainingBatch {
  const random = createRandom(9, step);
  const bytes = new Uint8Array(pairs * 16 * 16 * 3);
  const texts: Int32Array[] = [];
  for (let i = 0; i < pairs; i++) {
    for (let p = 0; p < 16 * 16; p++)
      for (let c = 0; c < 3; c++) bytes[(i * 256 + p) * 3 + c] = ((i >> c) & 1) * 200 + random.integer(30);
    texts.push(Int32Array.of(2, 10 + i, 20 + (i % 2), 3));
  }
  return { bytes, texts };
}

/** A signal that goes off while the program that is run as the `nth` from now on is at work. */
function abortDuring(nth: number): AbortSignal {
  const controller = new AbortController();
  const run = Program.prototype.run;
  let runs = 0;
  vi.spyOn(Program.prototype, 'run').mockImplementation(function (this: Program, ...args) {
    const running = run.apply(this, args);
    if (++runs !== nth) return running;
    controller.abort();
    // A program as short as these may be through before it sees the signal.
    return running.then(() => {
      throw new MomeError('MOME_ABORTED', 'aborted at the end');
    });
  });
  return controller.signal;
}
afterEach(() => {
  vi.restoreAllMocks();
});

describe('activation checkpointing', () => {
  it('gives the same bits in less memory', async () => {
    const results = [];
    for (const checkpointActivations of [false, true]) {
      // Drop path and the VL branch, so that every kind of segment is computed again.
      const one = await trainer({ checkpointActivations, dropPath: 0.3, textDropout: 0.1 });
      const losses: number[] = [];
      for (let step = 0; step < 3; step++) losses.push((await one.train(batchOf(step, 16))).loss);
      results.push({ losses, weights: await weightsOf(one), arena: one.engine.memory().arenaBytes });
      one.dispose();
    }
    const [kept, again] = results as [(typeof results)[0], (typeof results)[0]];
    expect(again.losses).toEqual(kept.losses);
    expect(again.weights).toEqual(kept.weights);
    expect(again.arena).toBeLessThan(0.75 * kept.arena);
  });
});

async function weightsOf(one: Trainer): Promise<Record<string, Float32Array>> {
  const values: Record<string, Float32Array> = {};
  for (const name of parameterShapes(config).keys()) values[name] = await one.weights.read(name);
  return values;
}

const bytesOf = (weights: Record<string, Float32Array>, name: string) => Buffer.from(weights[name]!.buffer);

describe('Trainer', () => {
  it('learns pairs', async () => {
    const one = await trainer();
    const first = await one.train(batchOf(0));
    let last = first;
    for (let step = 1; step < 100; step++) last = await one.train(batchOf(step));
    expect(first.losses.itc).toBeGreaterThan(1.5);
    expect(last.losses.itc).toBeLessThan(0.5);
    expect(last.losses.mlm).toBeLessThan(first.losses.mlm! / 2);
    expect(last.losses.itm).toBeLessThan(first.losses.itm!);
    expect(last.itmAccuracy).toBeGreaterThan(0.66);
    one.dispose();
  });

  it('resumes exactly, to the last bit', async () => {
    const options = { textDropout: 0.1, dropPath: 0.1 };
    const straight = await trainer(options);
    for (let step = 0; step < 6; step++) await straight.train(batchOf(step));
    const before = await trainer(options);
    for (let step = 0; step < 3; step++) await before.train(batchOf(step));
    const path = join(await temporaryFolder(), 'checkpoint.safetensors');
    await saveRun(path, before, { epoch: 0, step: 3 });
    const after = await trainer({ ...options, seed: 99 });
    expect(await loadRun(path, after)).toEqual({ epoch: 0, step: 3 });
    for (let step = 3; step < 6; step++) await after.train(batchOf(step));
    expect(await weightsOf(after)).toEqual(await weightsOf(straight));
    for (const one of [straight, before, after]) one.dispose();
  });

  // A step of two micro-batches runs four programs: contrastive, fused, contrastive, fused.
  it.each([
    ['the contrastive run', 1, 1],
    ['the fused run', 1, 2],
    ['the first micro-batch of two', 2, 2],
    ['the contrastive run of the second micro-batch', 2, 3],
    ['the fused run of the second micro-batch', 2, 4],
  ])('goes on to the last bit after an abort in %s', async (_, accumulate, nth) => {
    const options = { textDropout: 0.1, dropPath: 0.1, accumulate };
    const straight = await trainer(options);
    const stopped = await trainer(options);
    for (let batch = 0; batch < accumulate; batch++) {
      await straight.train(batchOf(batch));
      await stopped.train(batchOf(batch));
    }
    const signal = abortDuring(nth);
    const before = stopped.state;
    await expectCode(async () => {
      for (let batch = accumulate; batch < 2 * accumulate; batch++) await stopped.train(batchOf(batch), signal);
    }, 'MOME_ABORTED');
    expect(stopped.state).toEqual(before);
    const path = join(await temporaryFolder(), 'checkpoint.safetensors');
    await saveRun(path, stopped, { epoch: 0, step: accumulate });
    const resumed = await trainer({ ...options, seed: 99 });
    await loadRun(path, resumed);
    for (const one of [straight, stopped, resumed])
      for (let batch = accumulate; batch < 3 * accumulate; batch++) await one.train(batchOf(batch));
    const expected = await weightsOf(straight);
    expect(await weightsOf(stopped)).toEqual(expected);
    expect(await weightsOf(resumed)).toEqual(expected);
    for (const one of [straight, stopped, resumed]) one.dispose();
  });

  it('does not depend on the number of threads', async () => {
    const [one, two] = [await trainer({}, 1), await trainer({}, 2)];
    for (let step = 0; step < 3; step++) expect(await one.train(batchOf(step))).toEqual(await two.train(batchOf(step)));
    expect(await weightsOf(one)).toEqual(await weightsOf(two));
    one.dispose();
    two.dispose();
  });

  it('averages accumulated gradients', async () => {
    const options = {
      objectives: ['itc'] as const,
      clipNorm: 0,
      vlBranch: false,
      schedule: { ...schedule, warmupSteps: 0 },
    };
    const once = await trainer(options);
    const twice = await trainer({ ...options, accumulate: 2 });
    await once.train(batchOf(0));
    expect(await twice.train(batchOf(0))).toMatchObject({ applied: false, gradientNorm: undefined, step: 0 });
    expect(await twice.train(batchOf(0))).toMatchObject({ applied: true, step: 1 });
    const [a, b] = [await weightsOf(once), await weightsOf(twice)];
    for (const [name, values] of Object.entries(a))
      for (const [i, value] of values.entries()) expect(b[name]![i]).toBeCloseTo(value, 4);
    once.dispose();
    twice.dispose();
  });

  it('leaves frozen parameters alone', async () => {
    const trainable = (name: string) => /mlp_vl|pooler|itm_score/.test(name);
    const one = await trainer({ trainable, weightDecay: 0.1, schedule: { ...schedule, warmupSteps: 0 } });
    const before = await weightsOf(one);
    for (let step = 0; step < 2; step++) expect((await one.train(batchOf(step))).gradientNorm).toBeGreaterThan(0);
    const after = await weightsOf(one);
    const changed = Object.keys(after).filter((name) => after[name]!.some((value, i) => value !== before[name]![i]));
    expect(changed.length).toBeGreaterThan(4);
    expect(changed.filter((name) => !trainable(name))).toEqual([]);
    // Nothing is computed for the others, or their gradients would count in clipping.
    for (const name of Object.keys(after).filter((each) => !trainable(each))) {
      expect((await one.weights.readState(name, 'gradient')).every((value) => value === 0)).toBe(true);
    }
    one.dispose();
  });

  it.each([
    {
      objectives: ['mlm'] as const,
      // Text and picture of a pair go through the VL expert in block 2, and through their own ones below.
      changed: [/^mlm_score/, /blocks\.[01]\.mlp_(?:text|imag)/, /blocks\.2\.mlp_vl/, /blocks\.2\.norm2_vl/],
      same: [
        /^itc_/,
        /^itm_score/,
        /^pooler/,
        /^logit_/,
        /^(?:vqa|nlvr2)_classifier/,
        /blocks\.2\.(?:mlp|norm2)_(?:text|imag)/,
      ],
    },
    {
      objectives: ['itc'] as const,
      changed: [/^itc_/, /^logit_/, /blocks\.2\.mlp_(?:text|imag|vl)/],
      same: [/^mlm_score/, /^itm_score/, /^pooler/, /^(?:vqa|nlvr2)_classifier/],
    },
    {
      objectives: ['itc'] as const,
      vlBranch: false,
      changed: [/^itc_(?:text|image)_proj/, /^logit_scale/, /blocks\.2\.mlp_(?:text|imag)/],
      same: [/^itc_vl/, /^logit_vl_scale/, /blocks\.2\.(?:mlp|norm2)_vl/, /^pooler/],
    },
  ])('leaves parameters without a gradient as they are, to the last bit: %j', async ({ changed, same, ...options }) => {
    // A scale above its highest value is brought down only where it is trained.
    const settings = { weightDecay: 0.1, maxLogitScale: 1, schedule: { ...schedule, warmupSteps: 0 } };
    const one = await trainer({ ...settings, ...options });
    const before = await weightsOf(one);
    for (let step = 0; step < 3; step++) await one.train(batchOf(step));
    const after = await weightsOf(one);
    const moved = Object.keys(before).filter(
      (name) => Buffer.compare(bytesOf(before, name), bytesOf(after, name)) !== 0,
    );
    for (const pattern of changed) expect(moved.filter((name) => pattern.test(name))).not.toEqual([]);
    for (const pattern of same) {
      expect(Object.keys(before).filter((name) => pattern.test(name))).not.toEqual([]);
      expect(moved.filter((name) => pattern.test(name))).toEqual([]);
    }
    one.dispose();
  });

  it('cuts the logit scales to their highest value after a step', async () => {
    const scalesAfterAStep = async (options: Partial<TrainerOptions>) => {
      const one = await trainer(options);
      await one.train(batchOf(0));
      const { logit_scale, logit_vl_scale } = await weightsOf(one);
      one.dispose();
      return [logit_scale![0], logit_vl_scale![0]];
    };
    const free = await scalesAfterAStep({ maxLogitScale: 50 });
    expect(Math.min(...(free as number[]))).toBeGreaterThan(2.5);
    expect(await scalesAfterAStep({ maxLogitScale: 2.3 })).toEqual([Math.fround(2.3), Math.fround(2.3)]);
    expect(await scalesAfterAStep({})).toEqual(free);
  });

  it('refuses what makes no sense', async () => {
    await expectCode(() => trainer({ objectives: [] }), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => trainer({ objectives: ['itm'] }), 'MOME_INVALID_ARGUMENT');
    const one = await trainer({ groups: true });
    await expectCode(() => one.train(batchOf(0)), 'MOME_INVALID_SHAPE');
    await expectCode(() => one.train({ bytes: new Uint8Array(3), texts: [Int32Array.of(2, 3)] }), 'MOME_INVALID_SHAPE');
    await expectCode(() => one.train({ bytes: new Uint8Array(0), texts: [] }), 'MOME_INVALID_ARGUMENT');
    one.dispose();
    await expectCode(() => one.train({ ...batchOf(0), groups: new Int32Array(8) }), 'MOME_DISPOSED');
  });
});

describe('recipes', () => {
  it('are checked', async () => {
    await expectCode(() => parseRecipe({ model: 'base' }), 'MOME_INVALID_CONFIG');
    const recipes = fileURLToPath(new URL('../../../recipes/', import.meta.url));
    for (const name of await readdir(recipes)) {
      const json = await readRecipeJson(join(recipes, name));
      if (isChain(json)) {
        expect(parseChain(json, name).length).toBeGreaterThan(1);
        continue;
      }
      const recipe = await readRecipe(join(recipes, name));
      for (const part of ['augment', 'captions']) {
        const { message } = await expectCode(
          () => parseRecipe({ ...recipe, [part]: { labl: 1 } }),
          'MOME_INVALID_CONFIG',
        );
        expect(message).toContain(part);
      }
    }
    await expectCode(() => runTraining('/nowhere.json', { output: '/tmp' }), 'MOME_NOT_FOUND');
  });

  it('name parameters by patterns that take no time', async () => {
    expect(parameterFilter('mlp_vl|pooler')('transformer.blocks.2.mlp_vl.fc1.weight')).toBe(true);
    expect(parameterFilter('^mlp_vl')('transformer.blocks.2.mlp_vl.fc1.weight')).toBe(false);
    // A backtracking engine needs minutes for this one.
    const started = performance.now();
    expect(parameterFilter('^(a|a)*(a|aa)+$')(`${'a'.repeat(60)}!`)).toBe(false);
    expect(performance.now() - started).toBeLessThan(1000);
    for (const pattern of ['(', '(?=a)b', '(a)\\1', '(a{500}){500}', 'a'.repeat(501)])
      await expectCode(() => parameterFilter(pattern), 'MOME_INVALID_CONFIG');
  });

  it('keep a folder for one run at a time', async () => {
    const folder = await temporaryFolder();
    const first = await lockRun(folder);
    const { message } = await expectCode(() => lockRun(folder), 'MOME_IO');
    expect(message).toContain('another run is writing to it');
    await first.release();
    const second = await lockRun(folder);
    // The lock of a run that is killed is left behind, and counts for nothing a few seconds later.
    await second.release();
    await mkdir(join(folder, '.run.lock'));
    await utimes(join(folder, '.run.lock'), new Date(), new Date(Date.now() - 60_000));
    const third = await lockRun(folder);
    expect(third.lost.aborted).toBe(false);
    await third.release();
    expect(await readdir(folder)).toEqual([]);
  }, 20_000);

  it('train, stop, go on and give a model that loads', async () => {
    const folder = await temporaryFolder();
    await mkdir(join(folder, 'pictures'));
    const lines: string[] = [];
    for (const [name, background] of Object.entries({ red: '#f00', green: '#0f0', blue: '#00f', white: '#fff' })) {
      await sharp({ create: { width: 20, height: 20, channels: 3, background } })
        .png()
        .toFile(join(folder, 'pictures', `${name}.png`));
      lines.push(JSON.stringify({ image: `pictures/${name}.png`, caption: `a ${name} square` }));
    }
    await writeFile(join(folder, 'pairs.jsonl'), lines.join('\n'));
    const recipe = {
      model: tinyRecipeModel,
      vocabulary: { size: 60 },
      data: { pairs: 'pairs.jsonl' },
      batchSize: 2,
      phases: [
        { objectives: ['itc'], steps: 4, learningRate: 1e-3, vlBranch: false },
        { objectives: ['itc', 'itm', 'mlm'], steps: 3, learningRate: 1e-3 },
      ],
      accumulate: 2,
      textDropout: 0.1,
      dropPath: 0.1,
      groups: false,
      checkpointEvery: 2,
    };
    await writeFile(join(folder, 'recipe.json'), JSON.stringify(recipe));
    const run = (name: string, extra = {}) =>
      runTraining(join(folder, 'recipe.json'), { output: join(folder, name), quiet: true, ...extra });
    const whole = await run('whole');
    expect(whole.steps).toBe(7);
    const lineCount = (await readFile(join(folder, 'whole', 'metrics.jsonl'), 'utf8')).trim().split('\n').length;
    expect(lineCount).toBe(7);
    await using trained = await Vlmo.load(join(folder, 'whole'));
    expect((await trained.embedTexts(['a red square'])).width).toBe(32);

    // The first phase runs 8 programs, a step of the second one 4: aborts in its fused runs, at the first and the last micro-batch.
    const weights = async (name: string) => readFile(join(folder, name, 'model.safetensors'));
    for (const [name, nth] of [
      ['first', 8 + 4 + 2],
      ['last', 8 + 4 + 4],
    ] as const) {
      await expectCode(() => run(name, { signal: abortDuring(nth) }), 'MOME_ABORTED');
      vi.restoreAllMocks();
      expect((await run(name, { resume: true })).steps).toBe(7);
      expect((await weights(name)).equals(await weights('whole'))).toBe(true);
    }

    // A finished run is a model to start from, by its folder too: training that changes nothing gives the same weights.
    const frozen = [{ objectives: ['itc'], steps: 1, learningRate: 1e-3, trainable: '^itc_text', vlBranch: false }];
    const next = { ...recipe, phases: frozen, init: 'whole', vocabulary: 'whole/vocab.txt' };
    await writeFile(join(folder, 'recipe.json'), JSON.stringify(next));
    await run('next');
    const tensor = async (name: string) =>
      readTensor(
        (await openSafetensors(join(folder, name, 'model.safetensors'))).entries.get('transformer.norm.weight')!,
      );
    expect(await tensor('next')).toEqual(await tensor('whole'));
  });

  it('do not start again where a checkpoint is too large for one read, or is none', async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, 'a.txt'), 'a red square');
    await sharp({ create: { width: 20, height: 20, channels: 3, background: '#f00' } }).toFile(join(folder, 'a.png'));
    const phases = [{ objectives: ['itc'], steps: 1, learningRate: 1e-3 }];
    const recipe = { model: tinyRecipeModel, vocabulary: { size: 60 }, data: { pairs: '.' }, batchSize: 1, phases };
    await writeFile(join(folder, 'recipe.json'), JSON.stringify(recipe));
    const output = join(folder, 'run');
    const run = (extra = {}) => runTraining(join(folder, 'recipe.json'), { output, quiet: true, ...extra });
    await run();
    const file = await open(join(output, 'checkpoint-0-1.safetensors'), 'w');
    await file.truncate(3 * 2 ** 30);
    await file.close();
    await expectCode(() => run({ resume: true }), 'MOME_INVALID_FILE');
  });
});
