/** A queue in front of a model: exact results, sharing, order, refusal and giving up. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { convertCheckpoint } from '../../src/checkpoint/index.ts';
import { BatchQueue, type Priority } from '../../src/inference/batch-queue.ts';
import { type Batcher, type RunReport, Vlmo } from '../../src/inference/index.ts';
import { Program } from '../../src/runtime/engine.ts';
import { OverloadedError } from '../../src/runtime/errors.ts';
import { expectCode, testImage, tinyModel } from '../helpers.ts';

let model: Vlmo;
let pictures: Buffer[] = [];
beforeAll(async () => {
  model = await Vlmo.load(await tinyModel());
  pictures = await Promise.all(
    Array.from({ length: 12 }, (_, i) => {
      const image = testImage(i, 40 + i);
      return sharp(image.data, { raw: image }).png().toBuffer();
    }),
  );
});
afterAll(() => model.dispose());

const texts = Array.from(
  { length: 30 },
  (_, i) => `a ${['red', 'green', 'blue'][i % 3]} ${'circle '.repeat(1 + (i % 5))}`,
);
const bits = (values: Float32Array) => [...new Uint32Array(values.buffer, values.byteOffset, values.length)];

/** A run that goes on until so many items wait for the next. */
function held(batcher: Batcher, items: number): Promise<unknown> {
  const { run: compute } = Program.prototype;
  const spy = vi.spyOn(Program.prototype, 'run').mockImplementation(async function (this: Program, ...args) {
    spy.mockRestore();
    while (batcher.state.ready < items) await setImmediate();
    return compute.apply(this, args);
  });
  return batcher.embedTexts(['the first run']);
}

/** Calls `action` and gives the runs that were done meanwhile. */
async function reported(
  options: ConstructorParameters<typeof Object>[0],
  action: (batcher: Batcher) => Promise<unknown>,
) {
  const runs: RunReport[] = [];
  const batcher = model.batcher({ ...options, onRun: (run) => runs.push(run) });
  await action(batcher);
  return runs;
}

describe('results', () => {
  it('are those of the model to the last bit, whatever shares a run', async () => {
    const batcher = model.batcher();
    const pairs = pictures.map((image, i) => ({ image, text: texts[i]! }));
    const [someTexts, others, images, matches, ranked, texted, answer, reason, masks, masked] = await Promise.all([
      batcher.embedTexts(texts.slice(0, 20)),
      batcher.embedTexts(texts.slice(10), { priority: 'bulk', client: 'b' }),
      batcher.embedImages(pictures, { client: 'c' }),
      batcher.match(pairs),
      batcher.rerank({ text: texts[0]! }, pictures),
      batcher.rerank({ image: pictures[0]! }, texts.slice(0, 4), { rule: 'original' }),
      batcher.answer(pictures[1]!, 'is it red'),
      batcher.reason([pictures[1]!, pictures[2]!], 'both are red'),
      batcher.fillMask(pictures[3]!, 'a [MASK] circle [MASK]'),
      batcher.fillMask(null, 'a red [MASK]'),
      ...pictures.map((picture, i) => batcher.answer(picture, `question ${i}`)),
      ...pictures.map((picture, i) => batcher.reason([picture, pictures[0]!], `statement ${i}`)),
      ...pictures.map((picture, i) => batcher.fillMask(i % 2 ? picture : null, `${'a '.repeat(i + 1)}[MASK]`)),
    ]);
    expect(bits(someTexts!.embeddings)).toEqual(bits((await model.embedTexts(texts.slice(0, 20))).embeddings));
    expect(bits(others!.embeddings)).toEqual(bits((await model.embedTexts(texts.slice(10))).embeddings));
    expect(bits(images!.embeddings)).toEqual(bits((await model.embedImages(pictures)).embeddings));
    expect(bits(matches!)).toEqual(bits(await model.match(pairs)));
    expect(ranked).toEqual(await model.rerank({ text: texts[0]! }, pictures));
    expect(texted).toEqual(await model.rerank({ image: pictures[0]! }, texts.slice(0, 4), { rule: 'original' }));
    expect(answer).toEqual(await model.answer(pictures[1]!, 'is it red'));
    expect(reason).toEqual(await model.reason([pictures[1]!, pictures[2]!], 'both are red'));
    expect(masks).toEqual(await model.fillMask(pictures[3]!, 'a [MASK] circle [MASK]'));
    expect(masked).toEqual(await model.fillMask(null, 'a red [MASK]'));
    expect(batcher.state).toMatchObject({ items: 0, ready: 0, unprepared: 0 });
    expect(batcher.state.itemsPerSecond).toBeGreaterThan(0);
    // A planted difference of one bit is noticed.
    const changed = images!.embeddings.slice();
    new Uint32Array(changed.buffer)[5]! ^= 1;
    expect(bits(changed)).not.toEqual(bits(images!.embeddings));
  });

  it('of one run that items of all kinds share are those of each alone', async () => {
    const ask = (batcher: Pick<Vlmo, 'answer' | 'reason' | 'fillMask' | 'embedTexts' | 'embedImages' | 'match'>) => [
      ...[0, 1].map((i) => batcher.embedTexts([texts[i]!])),
      ...[1, 2].map((i) => batcher.fillMask(null, `${texts[i]} [MASK] and [MASK]`)),
      ...[3, 4].map((i) => batcher.answer(pictures[i]!, texts[i]!)),
      ...[4, 5].map((i) => batcher.reason([pictures[i]!, pictures[0]!], texts[i]!)),
      ...[5, 6].map((i) => batcher.match([{ image: pictures[i]!, text: texts[i]! }])),
      ...[6, 7].map((i) => batcher.fillMask(pictures[i]!, `[MASK] ${texts[i]}`)),
      ...[7, 8].map((i) => batcher.embedImages([pictures[i]!])),
    ];
    let shared: unknown[] = [];
    const runs = await reported({}, async (batcher) => {
      const first = held(batcher, 14);
      const calls = ask(batcher as never);
      await first;
      shared = await Promise.all(calls);
    });
    expect(runs.map(({ heads, items }) => [heads.length, items])).toEqual([
      [1, 1],
      [5, 14],
    ]);
    expect(shared).toEqual(await Promise.all(ask(model)));
  });

  it('belong to their item when many calls of random sizes run at once', async () => {
    const batcher = model.batcher();
    const alone = (await model.embedTexts(texts)).embeddings;
    const { width } = model.config;
    await Promise.all(
      Array.from({ length: 60 }, async (_, call) => {
        const places = Array.from({ length: 1 + (call % 7) }, (_, i) => (call * 5 + i * 11) % texts.length);
        const { embeddings } = await batcher.embedTexts(
          places.map((place) => texts[place]!),
          { client: `${call % 4}` },
        );
        for (const [row, place] of places.entries())
          expect(bits(embeddings.slice(row * width, (row + 1) * width))).toEqual(
            bits(alone.slice(place * width, (place + 1) * width)),
          );
      }),
    );
  });
});

describe('runs', () => {
  it('take all that waits, and equal inputs once', async () => {
    // Of 80 texts five are different. How many meet depends on how long runs take and calls are prepared: the best of five counts.
    let least = { items: 80, runs: 80 };
    for (let round = 0; round < 5; round++) {
      const runs = await reported({}, (batcher) =>
        Promise.all(Array.from({ length: 40 }, (_, i) => batcher.embedTexts([texts[i % 4]!, 'the same']))),
      );
      const items = runs.reduce((sum, each) => sum + each.items, 0);
      if (items < least.items) least = { items, runs: runs.length };
    }
    expect(least.items).toBeLessThan(40);
    expect(least.runs).toBeLessThan(20);
    const decoded = await reported({}, (batcher) =>
      Promise.all(Array.from({ length: 10 }, () => batcher.embedImages([Buffer.from(pictures[0]!)]))),
    );
    expect(decoded.reduce((sum, { items }) => sum + items, 0)).toBe(1);
  });

  it('are spared by the cache, which gives the same bits and stays within its bytes', async () => {
    const runs = await reported({ cacheBytes: 1 << 20 }, async (batcher) => {
      const first = await batcher.embedTexts(texts.slice(0, 5));
      const image = await batcher.embedImages([pictures[0]!]);
      expect(bits((await batcher.embedTexts(texts.slice(0, 5))).embeddings)).toEqual(bits(first.embeddings));
      expect(bits((await batcher.embedImages([pictures[0]!])).embeddings)).toEqual(bits(image.embeddings));
      expect(batcher.state).toMatchObject({ cacheHits: 6, cacheMisses: 6 });
    });
    expect(runs.reduce((sum, { items }) => sum + items, 0)).toBe(6);
    const small = await reported({ cacheBytes: 1000 }, async (batcher) => {
      for (let i = 0; i < 2; i++) await batcher.embedTexts(texts.slice(0, 20));
    });
    expect(small.reduce((sum, { items }) => sum + items, 0)).toBeGreaterThan(new Set(texts.slice(0, 20)).size);
  });

  it('are not looked for in the cache where they are never kept', async () => {
    await reported({ cacheBytes: 1 << 20 }, async (batcher) => {
      for (let i = 0; i < 2; i++) await batcher.fillMask(null, 'a [MASK] circle');
      expect(batcher.state).toMatchObject({ cacheHits: 0, cacheMisses: 0 });
    });
  });

  it('leave out what nobody wants any more, and compute what another still wants', async () => {
    const runs = await reported({}, async (batcher) => {
      const busy = batcher.embedImages(pictures.slice(0, 4));
      const stop = new AbortController();
      const given = expectCode(() => batcher.embedTexts(texts, { signal: stop.signal }), 'MOME_ABORTED');
      const images = expectCode(() => batcher.embedImages(pictures.slice(6), { signal: stop.signal }), 'MOME_ABORTED');
      const kept = batcher.embedTexts([texts[3]!]);
      stop.abort(new Error('enough'));
      expect((await given).cause).toEqual(new Error('enough'));
      await images;
      await busy;
      expect(bits((await kept).embeddings)).toEqual(bits((await model.embedTexts([texts[3]!])).embeddings));
      expect(batcher.state).toMatchObject({ items: 0, ready: 0, unprepared: 0 });
    });
    expect(runs.reduce((sum, { items }) => sum + items, 0)).toBeLessThanOrEqual(5 + 4);
  });
});

describe('refusals', () => {
  it('tell when there is room again', async () => {
    const batcher = model.batcher({ maxItems: 10 });
    await batcher.embedTexts(texts.slice(0, 10));
    const busy = batcher.embedTexts(texts.slice(0, 8));
    const error = await expectCode(() => batcher.embedTexts(texts.slice(0, 3)), 'MOME_OVERLOADED');
    expect(error).toBeInstanceOf(OverloadedError);
    expect((error as OverloadedError).retryAfterMs).toBeGreaterThanOrEqual(20);
    await expectCode(() => batcher.embedTexts(texts.slice(0, 11)), 'MOME_TOO_LARGE');
    await busy;
    expect((await batcher.embedTexts(texts.slice(0, 3))).count).toBe(3);
  });

  it('name the item of the call, also where two calls share it', async () => {
    const batcher = model.batcher();
    const broken = Buffer.from('no picture');
    const call = (images: Buffer[]) => expectCode(() => batcher.embedImages(images), 'MOME_INVALID_IMAGE');
    const [first, second] = await Promise.all([call([broken]), call([pictures[0]!, broken])]);
    expect([first!.index, second!.index]).toEqual([0, 1]);
    expect(second!.message).toMatch(/^embedImages: picture 1 \(Buffer of 10 bytes\): expected /);
    expect((await batcher.embedImages(pictures.slice(0, 2))).count).toBe(2);
    expect(batcher.state.items).toBe(0);
  });

  it('come when the time is over, and after closing', async () => {
    const batcher = model.batcher();
    const many = Array.from({ length: 2000 }, (_, i) => `text number ${i}`);
    const late = await expectCode(() => batcher.embedTexts(many, { timeout: 1 }), 'MOME_DEADLINE');
    expect(late.message).toContain('within 1 ms');
    // More than a timer of Node can hold.
    expect((await batcher.embedTexts(many, { timeout: 2 ** 31 })).count).toBe(many.length);
    const last = batcher.embedTexts(texts);
    await batcher.close();
    expect(batcher.state.items).toBe(0);
    expect((await last).count).toBe(texts.length);
    await expectCode(() => batcher.embedTexts(texts), 'MOME_DISPOSED');
  });

  it('are those of a head that is missing, of that call alone', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'mome-headless-'));
    await convertCheckpoint(await tinyModel(), folder, { omit: (name) => name.startsWith('vqa_classifier') });
    await using headless = await Vlmo.load(folder);
    const batcher = headless.batcher();
    const first = held(batcher, 2);
    const [answer, judged, embedded] = await Promise.allSettled([
      batcher.answer(pictures[0]!, 'is it red'),
      batcher.reason([pictures[0]!, pictures[1]!], 'both are red'),
      batcher.embedTexts(['red']),
    ]);
    expect(answer).toMatchObject({ status: 'rejected', reason: { code: 'MOME_UNSUPPORTED' } });
    expect([judged.status, embedded.status]).toEqual(['fulfilled', 'fulfilled']);
    await first;
    await rm(folder, { recursive: true });
  });

  it('are those of wrong arguments', async () => {
    const batcher = model.batcher();
    await expectCode(() => batcher.embedTexts('a' as never), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => batcher.embedTexts(['a'], { priority: 'first' as never }), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => batcher.decode([-1]), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => model.batcher({ maxItems: 0 }), 'MOME_INVALID_ARGUMENT');
    expect(batcher.countTokens('a red circle')).toBeGreaterThan(2);
  });
});

describe('the order', () => {
  const item = (client: string, priority: Priority = 'interactive', rows = 10) => ({ client, priority, rows });

  it('gives each client its turn', () => {
    const queue = new BatchQueue<ReturnType<typeof item>>();
    for (let i = 0; i < 6; i++) queue.add(item('greedy'));
    queue.add(item('modest'));
    expect(queue.take(30).map(({ client }) => client)).toEqual(['greedy', 'modest', 'greedy']);
  });

  it('lets interactive items go first and never forgets bulk ones', () => {
    const queue = new BatchQueue<ReturnType<typeof item>>();
    for (let i = 0; i < 5; i++) queue.add(item('b', 'bulk'));
    queue.add(item('a'));
    // A quarter of 120 rows: one interactive item and two bulk ones.
    expect(queue.take(120).map(({ priority }) => priority)).toEqual(['interactive', 'bulk', 'bulk']);
    const counts: number[] = [];
    for (let run = 0; run < 16; run++) {
      for (let i = 0; i < 12; i++) queue.add(item('a'));
      counts.push(queue.take(120).filter(({ priority }) => priority === 'bulk').length);
    }
    expect(counts.filter((count) => count > 0).length).toBe(1);
    expect(counts.reduce((a, b) => a + b)).toBe(3);
  });

  it('lets a large item have its own run', () => {
    const queue = new BatchQueue<ReturnType<typeof item>>();
    queue.add(item('a'));
    queue.add(item('a', 'interactive', 500));
    queue.add(item('a'));
    const runs = [queue.take(100), queue.take(100), queue.take(100), queue.take(100)];
    expect(runs.map((run) => run.map(({ rows }) => rows))).toEqual([[10], [500], [10], []]);
  });
});
