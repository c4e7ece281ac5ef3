/** What a service needs around the calls: warm-up, progress of loading, a log, and how much there is to do. */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type LoadProgress, type LogFields, Vlmo } from '../../src/inference/index.ts';
import { Program } from '../../src/runtime/engine.ts';
import { expectCode, testImage, tinyModel } from '../helpers.ts';

let folder = '';
let vlmo: Vlmo;
beforeAll(async () => {
  folder = await tinyModel();
  vlmo = await Vlmo.load(folder);
}, 120_000);
afterAll(() => vlmo.dispose());

describe('warmup', () => {
  it('packs what the calls of the model need, so that they make nothing more', async () => {
    const lines: LogFields[] = [];
    await using model = await Vlmo.load(folder, { logger: { debug: (_, fields) => lines.push(fields) } });
    const progress: [number, number][] = [];
    await model.warmup({ onProgress: (done, total) => progress.push([done, total]) });
    expect(progress.map(([done]) => done)).toEqual(progress.map((_, i) => i + 1));
    expect(progress.at(-1)).toEqual([progress.length, progress.length]);
    const warmed = new Set(lines.map((fields) => fields.function));
    const { weightBytes } = model.memory();
    const image = testImage(1, 20);
    await model.embedTexts(['blue']);
    await model.embedImages([image]);
    await model.match([{ image, text: 'blue' }]);
    await model.rerank({ text: 'blue' }, [image]);
    if (model.abilities.has('answer')) await model.answer(image, 'a red');
    if (model.abilities.has('fillMask')) await model.fillMask(image, 'a [MASK]');
    if (model.abilities.has('reason')) await model.reason([image, image], 'red');
    expect(new Set(lines.map((fields) => fields.function))).toEqual(warmed);
    expect(model.memory().weightBytes).toBe(weightBytes);
    expect(warmed.size).toBeGreaterThan(3);
  }, 60_000);

  it('makes the calls that are asked for alone, and refuses others', async () => {
    const lines: LogFields[] = [];
    await using model = await Vlmo.load(folder, { logger: { debug: (_, fields) => lines.push(fields) } });
    await model.warmup({ calls: ['embed'] });
    expect(lines.map((fields) => fields.function)).toEqual(['embed']);
    // biome-ignore lint/suspicious/noExplicitAny: what JavaScript callers may give
    const wrong = (calls: unknown): any => ({ calls });
    await expectCode(() => model.warmup(wrong(['draw'])), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => model.warmup(wrong('embed')), 'MOME_INVALID_ARGUMENT');
    for (const call of [1n, Symbol('embed'), {}, null])
      await expectCode(() => model.warmup(wrong([call])), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => model.warmup({ signal: AbortSignal.abort() }), 'MOME_ABORTED');
    const missing = (['answer', 'reason', 'fillMask'] as const).find((each) => !model.abilities.has(each));
    if (missing) await expectCode(() => model.warmup({ calls: [missing] }), 'MOME_UNSUPPORTED');
    await model.dispose();
    await expectCode(() => model.warmup(), 'MOME_DISPOSED');
  }, 60_000);
});

describe('the progress of loading', () => {
  it('counts the bytes of the weights to their end, and is waited for', async () => {
    const seen: LoadProgress[] = [];
    await using model = await Vlmo.load(folder, { onProgress: (progress) => void seen.push(progress) });
    expect(model.dimensions).toBe(48);
    const last = seen.at(-1)!;
    expect(last).toMatchObject({ stage: 'read', file: 'model.safetensors', done: last.total });
    expect(last.total).toBeGreaterThan(1000);
    for (const [i, { done }] of seen.entries()) if (i > 0) expect(done).toBeGreaterThanOrEqual(seen[i - 1]!.done);
    const failure = new Error('no more');
    const failing = Vlmo.load(folder, {
      onProgress: async () => {
        throw failure;
      },
    });
    await expect(failing).rejects.toBe(failure);
  }, 60_000);
});

describe('the log', () => {
  it('is told of loading, runs and disposing', async () => {
    const lines: [string, string, LogFields][] = [];
    const level = (name: string) => (message: string, fields: LogFields) => void lines.push([name, message, fields]);
    const logger = { debug: level('debug'), info: level('info'), warn: level('warn') };
    const model = await Vlmo.load(folder, { device: 'cpu', logger });
    await model.embedTexts(['blue', 'red']);
    await model.dispose();
    expect(lines.map(([name, message]) => [name, message])).toEqual([
      ['info', 'mome: model loaded'],
      ['debug', 'mome: run ended'],
      ['info', 'mome: model disposed'],
    ]);
    expect(lines[0]![2]).toMatchObject({ model: folder, device: 'cpu', dtype: 'float32', target: model.target });
    expect(lines[1]![2]).toMatchObject({ call: 'embedTexts', function: 'embed', texts: 2, images: 0, pairs: 0 });
  }, 60_000);

  it('loses no result where it fails', async () => {
    const logger = {
      info: () => {
        throw new Error('full');
      },
      debug: async () => {
        throw new Error('full');
      },
    };
    await using model = await Vlmo.load(folder, { logger: logger as never });
    expect((await model.embedTexts(['blue'])).embeddings).toEqual((await vlmo.embedTexts(['blue'])).embeddings);
    await expectCode(() => Vlmo.load(folder, { logger: {} }), 'MOME_INVALID_ARGUMENT');
  }, 60_000);
});

describe('the state', () => {
  it('counts calls that run and wait, and those of a queue', async () => {
    expect(vlmo.state).toEqual({ running: 0, pending: 0 });
    const { run: compute } = Program.prototype;
    const running: number[] = [];
    const spy = vi.spyOn(Program.prototype, 'run').mockImplementation(async function (this: Program, ...args) {
      running.push(vlmo.state.running);
      return compute.apply(this, args);
    });
    const calls = [1, 2, 3].map((seed) => vlmo.embedImages([testImage(seed, 30)]));
    calls.push(vlmo.batcher().embedTexts(['blue']));
    const begun = vlmo.state;
    expect(begun.running + begun.pending).toBeGreaterThanOrEqual(3);
    await Promise.all(calls);
    spy.mockRestore();
    expect(running.length).toBeGreaterThanOrEqual(2);
    expect(new Set(running)).toEqual(new Set([1]));
    expect(vlmo.state).toEqual({ running: 0, pending: 0 });
    await expect(vlmo.embedImages(['missing.png'])).rejects.toThrow();
    expect(vlmo.state).toEqual({ running: 0, pending: 0 });
  }, 60_000);
});
