/** Streams of inputs: read no further ahead than three batches, ended with their consumer, and lost nowhere. */
import { Readable } from 'node:stream';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type StreamedEmbedding, Vlmo } from '../../src/inference/index.ts';
import { MomeError } from '../../src/runtime/errors.ts';
import { expectCode, testImage, tinyModel } from '../helpers.ts';

let vlmo: Vlmo;
let folder = '';
beforeAll(async () => {
  folder = await tinyModel();
  vlmo = await Vlmo.load(folder);
}, 120_000);
afterAll(() => vlmo.dispose());

const words = ['a red square', 'blue', 'green circles', '', 'a picture of red'];
const textOf = (i: number) => `${words[i % words.length]}${' red'.repeat(i % 3)}`;
const images = Array.from({ length: 7 }, (_, i) => testImage(i + 1, 12 + i));

/** A source that counts what was pulled, and says whether it was ended. */
function counted<T>(items: Iterable<T>, failAt = Number.POSITIVE_INFINITY) {
  const seen = { pulled: 0, ended: false };
  async function* source(): AsyncGenerator<T> {
    try {
      for (const item of items) {
        if (seen.pulled === failAt) throw new RangeError('the disk is gone');
        seen.pulled++;
        yield item;
      }
    } finally {
      seen.ended = true;
    }
  }
  return { seen, source: source() };
}

function* numbered(count: number): Generator<string> {
  for (let i = 0; i < count; i++) yield textOf(i);
}

async function all<T>(stream: AsyncIterable<StreamedEmbedding<T>>): Promise<StreamedEmbedding<T>[]> {
  const results: StreamedEmbedding<T>[] = [];
  for await (const result of stream) results.push(result);
  return results;
}

describe('a stream of texts', () => {
  it('gives what a list gives, to the last bit, in its order and with its inputs', async () => {
    const list = [...numbered(30)];
    const rows = (await vlmo.embedTexts(list)).rows();
    const sources = [
      counted(list).source,
      Readable.from(list),
      new ReadableStream<string>({
        start(controller) {
          for (const text of list) controller.enqueue(text);
          controller.close();
        },
      }),
    ];
    for (const source of sources) {
      const results = await all(vlmo.embedTexts(source as AsyncIterable<string>, { batchSize: 7 }));
      expect(results.map(({ index, input }) => [index, input])).toEqual([...list.entries()]);
      expect(results.map(({ embedding }) => [...embedding])).toEqual(rows.map((row) => [...row]));
    }
  }, 120_000);

  it('is pulled no further ahead than three batches, and not at all before it is asked', async () => {
    const { seen, source } = counted(numbered(200));
    const stream = vlmo.embedTexts(source, { batchSize: 5 });
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(seen.pulled).toBe(0);
    let taken = 0;
    let furthest = 0;
    for await (const { index } of stream) {
      expect(index).toBe(taken);
      // A slow consumer: the source could run away meanwhile.
      if (taken < 20) await new Promise((resolve) => setTimeout(resolve, 30));
      furthest = Math.max(furthest, seen.pulled - taken);
      taken++;
    }
    expect(taken).toBe(200);
    expect(furthest).toBeLessThanOrEqual(15);
    expect(furthest).toBeGreaterThan(5); // the next batches are on their way
    expect(seen.ended).toBe(true);
  }, 120_000);

  it('does not wait for a whole batch where the source is slow', async () => {
    let release = () => {};
    async function* source() {
      yield 'blue';
      await new Promise<void>((resolve) => {
        release = resolve;
      });
      yield 'red';
    }
    const stream = vlmo.embedTexts(source());
    expect((await stream.next()).value).toMatchObject({ index: 0, input: 'blue' });
    release();
    expect((await stream.next()).value).toMatchObject({ index: 1, input: 'red' });
    expect((await stream.next()).done).toBe(true);
  }, 60_000);

  it('ends its source where the consumer leaves', async () => {
    const { seen, source } = counted(numbered(100));
    for await (const { index } of vlmo.embedTexts(source, { batchSize: 4 })) if (index === 5) break;
    expect(seen.ended).toBe(true);
    const pulled = seen.pulled;
    expect(pulled).toBeLessThan(25);
    const node = Readable.from(numbered(100));
    for await (const _ of vlmo.embedTexts(node, { batchSize: 4 })) break;
    expect(node.destroyed).toBe(true);
    let cancelled = false;
    const web = new ReadableStream<string>({
      pull: (controller) => controller.enqueue('blue'),
      cancel: () => {
        cancelled = true;
      },
    });
    for await (const _ of vlmo.embedTexts(web as AsyncIterable<string>, { batchSize: 4 })) break;
    expect(cancelled).toBe(true);
    await expectIdle();
    expect(seen.pulled).toBe(pulled);
  }, 60_000);

  it('ends at once when its signal fires, also while the source waits for ever', async () => {
    const stop = new AbortController();
    let ended = false;
    const source: AsyncIterable<string> = {
      [Symbol.asyncIterator]: () => ({
        next: () => new Promise(() => {}),
        return: async () => {
          ended = true;
          return { done: true, value: undefined };
        },
      }),
    };
    const waiting = all(vlmo.embedTexts(source, { signal: stop.signal }));
    setTimeout(() => stop.abort(new Error('enough')), 30);
    const error = await expectCode(() => waiting, 'MOME_ABORTED');
    expect(error.cause).toEqual(new Error('enough'));
    expect(ended).toBe(true);
    const { seen, source: running } = counted(numbered(10_000));
    const during = new AbortController();
    await expectCode(async () => {
      for await (const { index } of vlmo.embedTexts(running, { signal: during.signal, batchSize: 4 }))
        if (index === 6) during.abort();
    }, 'MOME_ABORTED');
    await expectIdle();
    expect(seen.pulled).toBeLessThan(25);
    await expectCode(() => vlmo.embedTexts(numberedStream(), { signal: AbortSignal.abort() }), 'MOME_ABORTED');
  }, 60_000);

  it('gives what came before an error of the source, then the error itself', async () => {
    const { seen, source } = counted(numbered(100), 9);
    const results: number[] = [];
    const failing = async () => {
      for await (const { index } of vlmo.embedTexts(source, { batchSize: 4 })) results.push(index);
    };
    await expect(failing()).rejects.toThrow(new RangeError('the disk is gone'));
    expect(results).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
    expect(seen.ended).toBe(true);
    await expectIdle();
  }, 60_000);

  it('says which item is none, and ends the source', async () => {
    const { seen, source } = counted(['blue', 'red', 7 as unknown as string, 'green']);
    const results: string[] = [];
    const error = await expectCode(async () => {
      for await (const { input } of vlmo.embedTexts(source, { batchSize: 2 })) results.push(input);
    }, 'MOME_INVALID_ARGUMENT');
    expect(error).toMatchObject({ kind: 'text', index: 2, message: 'embedTexts: text 2: expected a text, got 7' });
    expect(results).toEqual(['blue', 'red']);
    expect(seen.ended).toBe(true);
  }, 60_000);

  it('refuses wrong arguments at once, and streams that cannot be read', async () => {
    // biome-ignore lint/suspicious/noExplicitAny: what JavaScript callers may give
    const any = (value: unknown): any => value;
    await expectCode(() => vlmo.embedTexts(numberedStream(), any({ batch: 3 })), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => vlmo.embedTexts(numberedStream(), { batchSize: 0 }), 'MOME_INVALID_ARGUMENT');
    const bytes = await expectCode(() => vlmo.embedTexts(any(new Readable())), 'MOME_INVALID_ARGUMENT');
    expect(bytes.message).toMatch(/got a stream of bytes/);
    const locked = new ReadableStream<string>();
    locked.getReader();
    await expectCode(() => all(vlmo.embedTexts(locked)), 'MOME_INVALID_ARGUMENT');
    for (const broken of [{ [Symbol.asyncIterator]: 7 }, { [Symbol.asyncIterator]: () => ({}) }])
      await expectCode(() => all(vlmo.embedTexts(broken as never as AsyncIterable<string>)), 'MOME_INVALID_ARGUMENT');
    const nothing = { [Symbol.asyncIterator]: () => ({ next: async () => 5 }) };
    await expectCode(() => all(vlmo.embedTexts(nothing as never as AsyncIterable<string>)), 'MOME_INVALID_ARGUMENT');
    const own = await Vlmo.load(folder);
    const stream = own.embedTexts(numberedStream());
    await own.dispose();
    await expectCode(() => all(stream), 'MOME_ABORTED');
    await expectCode(() => own.embedTexts(numberedStream()), 'MOME_DISPOSED');
    await expectCode(() => vlmo.embedTexts(any(new Set(['blue']))), 'MOME_INVALID_ARGUMENT');
  }, 60_000);

  it('may be empty', async () => {
    expect(await all(vlmo.embedTexts(counted<string>([]).source))).toEqual([]);
  });
});

describe('a stream of pictures', () => {
  it('gives what a list gives, and takes each picture over when it is read', async () => {
    const rows = (await vlmo.embedImages(images)).rows();
    async function* reusing() {
      const memory = { data: new Uint8Array(0), width: 0, height: 0 };
      for (const image of images) {
        Object.assign(memory, { ...image, data: image.data.slice() });
        yield memory;
        memory.data.fill(0);
      }
    }
    const results = await all(vlmo.embedImages(reusing(), { batchSize: 3 }));
    expect(results.map(({ embedding }) => [...embedding])).toEqual(rows.map((row) => [...row]));
    expect(new Set(results.map(({ embedding }) => embedding.buffer)).size).toBe(images.length);
  }, 60_000);

  it('leaves out what cannot be read where onError is given, and rejects where it is not', async () => {
    const given = [images[0]!, 'missing.png', images[1]!, new Uint8Array(9), images[2]!];
    const failed: [number, unknown][] = [];
    const onError = (index: number, error: unknown) => {
      failed.push([index, error]);
    };
    const results = await all(vlmo.embedImages(counted(given).source, { onError }));
    expect(results.map(({ index }) => index)).toEqual([0, 2, 4]);
    expect(results[1]!.input).toBe(images[1]);
    expect(failed.map(([index, error]) => [index, (error as MomeError).code, (error as MomeError).index])).toEqual([
      [1, 'MOME_NOT_FOUND', 1],
      [3, 'MOME_INVALID_IMAGE', 3],
    ]);
    const error = await expectCode(() => all(vlmo.embedImages(counted(given).source)), 'MOME_NOT_FOUND');
    expect(error).toMatchObject({ kind: 'picture', index: 1, item: 'missing.png' });
    const thrown = new Error('stop here');
    const throwing = all(
      vlmo.embedImages(counted(given).source, {
        onError: () => {
          throw thrown;
        },
      }),
    );
    await expect(throwing).rejects.toBe(thrown);
    expect(thrown).not.toBeInstanceOf(MomeError);
  }, 60_000);

  it('reads pictures that are streams to their end, also when another of their batch cannot be read', async () => {
    const image = images[0]!;
    const file = await sharp(image.data, { raw: image }).png().toBuffer();
    const slow = async function* () {
      for (let at = 0; at < file.length; at += 100) {
        await new Promise((resolve) => setTimeout(resolve, 2));
        yield file.subarray(at, at + 100);
      }
    };
    const given = [Readable.from(slow()), 'missing.png', new Response(new Uint8Array(file)), Readable.from(slow())];
    const failed: unknown[] = [];
    const onError = (index: number, error: unknown) => {
      failed.push([index, (error as MomeError).code]);
    };
    const results = await all(vlmo.embedImages(Readable.from(given), { onError }));
    expect(failed).toEqual([[1, 'MOME_NOT_FOUND']]);
    const { embeddings } = await vlmo.embedImages([image]);
    expect(results.map(({ embedding }) => embedding)).toEqual([embeddings, embeddings, embeddings]);
  }, 60_000);
});

async function* numberedStream() {
  yield* numbered(3);
}

/** Whatever a stream began is over soon. */
async function expectIdle() {
  await expect.poll(() => vlmo.state, { timeout: 20_000 }).toEqual({ running: 0, pending: 0 });
}
