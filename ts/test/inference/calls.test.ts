/** What callers do to their lists, options, signals and callbacks, and what errors say about it. */
import { getEventListeners } from 'node:events';
import { runInNewContext } from 'node:vm';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type MixedItems, Vlmo } from '../../src/inference/index.ts';
import { MomeError } from '../../src/runtime/errors.ts';
import { expectCode, testImage, tinyModel } from '../helpers.ts';
import { expectShortTurns } from '../loop-gap.ts';

let folder = '';
let model: Vlmo;
beforeAll(async () => {
  folder = await tinyModel();
  model = await Vlmo.load(folder);
});
afterAll(async () => model.dispose());

// biome-ignore lint/suspicious/noExplicitAny: what JavaScript callers may give
const any = (value: unknown): any => value;
const images = Array.from({ length: 90 }, (_, i) => testImage(i + 1, 12 + (i % 5)));
const texts = Array.from(
  { length: 90 },
  (_, i) => ['a red square', 'blue', 'green circles', ''][i % 4]! + ' red'.repeat(i % 9),
);
const settled = () => new Promise((resolve) => setTimeout(resolve, 20));
const pairs = () => images.map((image, i) => ({ image, text: texts[i]! }));

describe('a list that changes after the call began', () => {
  const changes: Record<string, (list: unknown[]) => void> = {
    emptied: (list) => {
      list.length = 0;
    },
    grown: (list) => list.push(...list.slice(0, 40)),
    reversed: (list) => list.reverse(),
    'given other items': (list) => list.fill(list[1]),
    'given things that are no items': (list) => list.fill(null),
  };
  it.each(Object.keys(changes))('is taken as it was when it is %s', async (change) => {
    const expected = await model.mixed({ images, texts, pairs: pairs() });
    const changed = async <T>(list: unknown[], start: (list: never[]) => Promise<T>): Promise<T> => {
      const running = start(list as never[]);
      changes[change]!(list);
      return running;
    };
    expect(await changed([...images], (list) => model.embedImages(list))).toEqual(expected.images);
    expect(await changed([...texts], (list) => model.embedTexts(list))).toEqual(expected.texts);
    expect(await changed(pairs(), (list) => model.match(list))).toEqual(expected.pairs);
    const all = { images: [...images], texts: [...texts], pairs: pairs() };
    const running = model.mixed(all);
    for (const list of [all.images, all.texts, all.pairs]) changes[change]!(list);
    Object.assign(all, { images: [], texts: ['blue'], pairs: null });
    expect(await running).toEqual(expected);
    const cosines = texts.map((_, i) => i / 100);
    const ranked = await model.rerank({ text: 'blue' }, images, { similarities: cosines });
    const candidates = [...images];
    const again = model.rerank({ text: 'blue' }, candidates, { similarities: cosines });
    changes[change]!(candidates);
    cosines.fill(0);
    expect(await again).toEqual(ranked);
  });

  it('is taken deeply: pairs, queries, pixels and their sizes', async () => {
    const own = pairs().slice(0, 4);
    const expected = await model.match(own);
    const running = model.match(own);
    for (const pair of own) Object.assign(pair, { image: images[50], text: 'blue' });
    expect(await running).toEqual(expected);
    const picture = { ...testImage(3, 20), data: new Uint8Array(testImage(3, 20).data) };
    const before = await model.embedImages([picture]);
    const changed = model.embedImages([picture]);
    picture.data.fill(0);
    Object.assign(picture, { width: 1 });
    expect(await changed).toEqual(before);
    const other = { ...testImage(3, 20), data: new Uint8Array(testImage(3, 20).data) };
    const moved = model.embedImages([other]);
    structuredClone(other.data, { transfer: [other.data.buffer] });
    expect(await moved).toEqual(before);
  });

  it('is read once, whatever its getters say later', async () => {
    const reads = { text: 0, onProgress: 0 };
    const pair = {
      image: images[0]!,
      get text() {
        return reads.text++ === 0 ? 'a red square' : any(5);
      },
    };
    const options = {
      get onProgress() {
        reads.onProgress++;
        return () => {};
      },
    };
    expect(await model.match([pair], options)).toEqual(
      await model.match([{ image: images[0]!, text: 'a red square' }]),
    );
    expect(reads).toEqual({ text: 1, onProgress: 1 });
    const watched = new Proxy([...texts], {});
    expect(await model.embedTexts(watched)).toEqual(await model.embedTexts(texts));
  });

  it('of another realm is a list too', async () => {
    const foreign = runInNewContext('["a red square", "blue"]') as string[];
    expect(await model.embedTexts(foreign)).toEqual(await model.embedTexts(['a red square', 'blue']));
  });
});

describe('one run after the other', () => {
  it('gives what one item alone gives, for any mix', async () => {
    const items: Required<MixedItems> = {
      images: images.slice(0, 70),
      texts: texts.slice(0, 23),
      pairs: pairs().slice(0, 41),
    };
    const all = await model.mixed(items);
    const width = model.config.width;
    for (const i of [0, 22, 40, 69]) {
      const { embeddings } = await model.embedImages([items.images[i]!]);
      expect(all.images.embeddings.slice(i * width, (i + 1) * width)).toEqual(embeddings);
      if (items.pairs[i]) expect(all.pairs[i]).toBe((await model.match([items.pairs[i]]))[0]);
      if (!items.texts[i]) continue;
      const text = await model.embedTexts([items.texts[i]]);
      expect(all.texts.embeddings.slice(i * width, (i + 1) * width)).toEqual(text.embeddings);
    }
  });
});

describe('an error', () => {
  const broken = Buffer.from('broken');
  const long = `${' '.repeat(200_000)}red`;
  it.each<[string, () => Promise<unknown>, Partial<MomeError>, string]>([
    [
      'of a picture',
      () => model.embedImages(any(images.with(77, any(broken)))),
      { kind: 'picture', index: 77 },
      'picture 77 (',
    ],
    [
      'of a path',
      () => model.embedImages([images[0]!, '/nowhere/cat.png']),
      { index: 1, item: '/nowhere/cat.png' },
      'picture 1 (',
    ],
    ['of a text', () => model.embedTexts(texts.with(61, long)), { kind: 'text', index: 61 }, 'text 61 ("  '],
    [
      'of a pair',
      () => model.match(pairs().with(83, { image: any(broken), text: 'a' })),
      { kind: 'pair', index: 83 },
      'pair 83',
    ],
    [
      "of a pair's text",
      () => model.match(pairs().with(33, { image: images[0]!, text: long })),
      { kind: 'pair', index: 33 },
      'pair 33',
    ],
    [
      'of a mixed picture',
      () => model.mixed({ texts, images: any(images.with(88, any(broken))), pairs: pairs() }),
      { kind: 'picture', index: 88 },
      'mixed: picture 88',
    ],
    [
      'of a mixed pair',
      () => model.mixed({ texts, images, pairs: pairs().with(89, { image: any(broken), text: '' }) }),
      { kind: 'pair', index: 89 },
      'mixed: pair 89',
    ],
    [
      'of a candidate',
      () => model.rerank({ text: 'a' }, any([...images.slice(0, 60), broken])),
      { kind: 'candidate', index: 60 },
      'rerank: candidate 60',
    ],
    ['of a query', () => model.rerank({ image: any(broken) }, texts), { kind: 'query' }, 'rerank: query ('],
    [
      'of a query with similarities',
      () => model.rerank({ image: any(broken) }, ['a'], { similarities: [0] }),
      { kind: 'query' },
      'rerank: query (',
    ],
    ['of a long query', () => model.rerank({ text: long }, images), { kind: 'query' }, 'rerank: query ("'],
    [
      'of two pictures',
      () => model.reason([images[0]!, any(broken)], 'red'),
      { kind: 'picture', index: 1 },
      'reason: picture 1',
    ],
    ['of a question', () => model.answer(images[0]!, long), { kind: 'question' }, 'answer: question ("'],
    ['of a masked text', () => model.fillMask(null, long), { kind: 'text' }, 'fillMask: text ("'],
  ])('%s says which', async (_, call, about, words) => {
    const failure = await call().catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(MomeError);
    expect(failure).toMatchObject(about);
    const { message, code, item } = failure as MomeError;
    expect(message).toContain(words);
    expect(message).toMatch(/: expected /);
    expect(message.length).toBeLessThan(400);
    expect(item!.length).toBeLessThan(110);
    expect(['MOME_INVALID_IMAGE', 'MOME_NOT_FOUND', 'MOME_TOO_LARGE']).toContain(code);
  });

  it('of a hole or nothing says where', async () => {
    // biome-ignore lint/suspicious/noSparseArray: what is refused
    const holes = [images[0], , images[1]];
    expect(await expectCode(() => model.embedImages(any(holes)), 'MOME_INVALID_ARGUMENT')).toMatchObject({ index: 1 });
    for (const nothing of [null, undefined]) {
      const list = any([texts[0], texts[1], nothing]);
      expect(await expectCode(() => model.embedTexts(list), 'MOME_INVALID_ARGUMENT')).toMatchObject({ index: 2 });
      const some = any([...pairs().slice(0, 3), nothing]);
      expect(await expectCode(() => model.match(some), 'MOME_INVALID_ARGUMENT')).toMatchObject({ index: 3 });
      const half = any([{ image: nothing, text: 'a' }]);
      expect(await expectCode(() => model.match(half), 'MOME_INVALID_ARGUMENT')).toMatchObject({ index: 0 });
    }
  });
});

describe('misuse', () => {
  const misuses: Record<string, () => unknown> = {
    'options null': () => model.embedTexts(texts, any(null)),
    'options a text': () => model.embedTexts(texts, any('fast')),
    'options a function': () =>
      model.match(
        pairs(),
        any(() => {}),
      ),
    'options a list': () => model.mixed({}, any([])),
    'a signal in place of options': () => model.embedTexts(texts, any(new AbortController().signal)),
    'an unknown option': () => model.embedTexts(texts, any({ sginal: new AbortController().signal })),
    'a controller as signal': () => model.embedImages(images, { signal: any(new AbortController()) }),
    'signal null': () => model.embedImages(images, { signal: any(null) }),
    'signal true': () => model.answer(images[0]!, 'red?', { signal: any(true) }),
    'onProgress a text': () => model.embedTexts(texts, { onProgress: any('log') }),
    'k NaN': () => model.answer(images[0]!, 'red?', { k: Number.NaN }),
    'k Infinity': () => model.fillMask(null, 'a [MASK]', { k: Number.POSITIVE_INFINITY }),
    'k null': () => model.fillMask(null, 'a [MASK]', { k: any(null) }),
    'a typed array in place of texts': () => model.embedTexts(any(new Float32Array(3))),
    'a set': () => model.embedTexts(any(new Set(['a']))),
    'a generator': () => model.embedImages(any(images.values())),
    'a text as number': () => model.embedTexts(any([5])),
    'a text as Buffer': () => model.embedTexts(any([Buffer.from('a')])),
    'no arguments': () => any(model).embedTexts(),
    'no question': () => any(model).answer(images[0]),
    'no statement': () => any(model).reason([images[0], images[1]]),
    'three pictures': () => model.reason(any(images.slice(0, 3)), 'red'),
    'no picture': () => model.fillMask(any(undefined), 'a [MASK]'),
    'a pair as list': () => model.match(any([[images[0], 'a']])),
    'a misspelt kind': () => model.mixed(any({ image: images })),
    'a kind that is null': () => model.mixed(any({ texts: null })),
    'no query': () => any(model).rerank(undefined, images),
    'two queries': () => model.rerank(any({ text: 'a', image: images[0] }), images),
    'a query without a text': () => model.rerank(any({ text: null }), images),
    'too few similarities': () => model.rerank({ text: 'a' }, images, { similarities: [0.1] }),
    'similarities as texts': () => model.rerank({ text: 'a' }, images.slice(0, 1), { similarities: any(['0.1']) }),
    'a similarity that is NaN': () => model.rerank({ text: 'a' }, images.slice(0, 1), { similarities: [Number.NaN] }),
    'a similarity of percent': () => model.rerank({ text: 'a' }, images.slice(0, 1), { similarities: [31] }),
    'an unknown rule': () => model.rerank({ text: 'a' }, images, { rule: any('best') }),
    'a constructor': () => new (any(Vlmo))(),
    'a constructor with a path': () => new (any(Vlmo))(folder),
    'a method alone': () => {
      const { embedTexts } = model;
      return embedTexts(['a']);
    },
    'dispose alone': () => model.dispose.call(undefined),
    'memory of another object': () => model.memory.call(any({})),
    'a number as model': () => Vlmo.load(any(123)),
    'null as model': () => Vlmo.load(any(null)),
    'an empty path': () => Vlmo.load(''),
    'a web address': () => Vlmo.load(new URL('https://example.com/model')),
    'options as model': () => Vlmo.load(any({ dtype: 'int8' })),
    'load options a text': () => Vlmo.load(folder, any('int8')),
    'a misspelt load option': () => Vlmo.load(folder, any({ thread: 2 })),
    'threads 0': () => Vlmo.load(folder, { threads: 0 }),
    'threads 1.5': () => Vlmo.load(folder, { threads: 1.5 }),
    'threads "2"': () => Vlmo.load(folder, { threads: any('2') }),
    'threads 5000': () => Vlmo.load(folder, { threads: 5000 }),
    'an unknown type': () => Vlmo.load(folder, { dtype: any('float16') }),
    'a size between patches': () => Vlmo.load(folder, { imageSize: model.config.imageSize + 1 }),
    'a configuration without sizes': () => Vlmo.load(folder, { config: any({}) }),
    'a configuration of another kind': () => Vlmo.load(folder, { config: any([]) }),
  };
  it.each(Object.keys(misuses))('%s is refused by code, as a rejection', async (name) => {
    const { message } = await expectCode(misuses[name]!, 'MOME_INVALID_ARGUMENT');
    expect(message).toMatch(/: (.*: )?expected /s);
    expect(message.length).toBeLessThan(400);
  });

  it('rejects and does not throw', async () => {
    const calls = [any(model).embedTexts(null), any(model).match(), any(model).mixed(5, 5), any(Vlmo).load(5)];
    for (const call of calls) await expect(call).rejects.toBeInstanceOf(MomeError);
  });
});

describe('signals and callbacks', () => {
  const warnings: unknown[] = [];
  const note = (warning: unknown) => warnings.push(warning);
  beforeEach(() => {
    warnings.length = 0;
    process.on('warning', note);
    process.on('unhandledRejection', note);
  });
  afterEach(() => {
    process.off('warning', note);
    process.off('unhandledRejection', note);
  });

  it('one signal may stop hundreds of calls without a warning, and keeps no listener', async () => {
    const { signal } = new AbortController();
    await Promise.all(texts.map((text) => model.embedTexts([text], { signal })));
    await Promise.all(images.slice(0, 30).map((image) => model.embedImages([image], { signal })));
    expect(getEventListeners(signal, 'abort')).toHaveLength(0);
    const loaded = await Promise.all(Array.from({ length: 12 }, () => Vlmo.load(folder, { threads: 1, signal })));
    for (const each of loaded) await each.dispose();
    const controller = new AbortController();
    const calls = Array.from({ length: 200 }, () => model.embedImages(images, { signal: controller.signal }));
    setTimeout(() => controller.abort('enough'), 5);
    for (const result of await Promise.allSettled(calls)) {
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'MOME_ABORTED', cause: 'enough' } });
    }
    expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0);
    await settled();
    expect(warnings).toEqual([]);
  });

  it('a signal of another library does the same', async () => {
    const listeners = new Set<() => void>();
    const foreign = {
      aborted: false,
      reason: undefined as unknown,
      addEventListener: (_: string, listener: () => void) => listeners.add(listener),
      removeEventListener: (_: string, listener: () => void) => listeners.delete(listener),
    };
    const running = model.embedImages([...images, ...images, ...images], { signal: any(foreign) });
    setTimeout(() => {
      Object.assign(foreign, { aborted: true, reason: 'mine' });
      for (const listener of [...listeners]) listener();
    }, 3);
    expect(await expectCode(() => running, 'MOME_ABORTED')).toMatchObject({ cause: 'mine' });
    expect(listeners.size).toBe(0);
  });

  it('a signal that fired stops a call with nothing to do as well', async () => {
    const signal = AbortSignal.abort(new Error('before'));
    for (const call of [
      () => model.embedTexts([], { signal }),
      () => model.mixed({}, { signal }),
      () => model.rerank({ text: 'a' }, [], { signal }),
      () => model.fillMask(null, 'no mask', { signal }),
    ]) {
      expect(await expectCode(call, 'MOME_ABORTED')).toMatchObject({ cause: { message: 'before' } });
    }
  });

  it('a callback that throws, or whose promise fails, ends the call with the same error', async () => {
    const boom = new TypeError('boom');
    for (const onProgress of [
      () => {
        throw boom;
      },
      async () => {
        throw boom;
      },
    ]) {
      await expect(model.embedTexts(texts, { onProgress })).rejects.toBe(boom);
      await expect(model.mixed({ images, pairs: pairs() }, { onProgress })).rejects.toBe(boom);
      await expect(model.rerank({ text: 'a' }, images, { onProgress })).rejects.toBe(boom);
    }
    expect((await model.embedTexts(['a'])).count).toBe(1);
    await settled();
    expect(warnings).toEqual([]);
  });

  it('progress counts the candidates of a re-ranking', async () => {
    const seen: [number, number][] = [];
    await model.rerank({ text: 'a' }, images, { onProgress: (done, total) => seen.push([done, total]) });
    expect(seen.length).toBeGreaterThan(1);
    expect(seen.at(-1)).toEqual([90, 90]);
  });
});

describe('the event loop', () => {
  it('stays free while a call takes over a long list', async () => {
    const paths = Array.from({ length: 50_000 }, (_, i) => `/nowhere/a/folder/with/a/long/name/picture-${i}.jpg`);
    const texts = paths.map((path) => path.slice(-9));
    await expectCode(() => model.embedImages(paths.slice(0, 1)), 'MOME_NOT_FOUND');
    await expectShortTurns(() => expectCode(() => model.embedImages(paths), 'MOME_NOT_FOUND'));
    // The list has been taken over when its first texts are done: a call that is let go on would end, sooner on a faster machine.
    const stopped = () => {
      const controller = new AbortController();
      return model.embedTexts(texts, { signal: controller.signal, onProgress: () => controller.abort() });
    };
    await expectShortTurns(() => expectCode(stopped, 'MOME_ABORTED'));
  });
});

describe('dispose', () => {
  it.each([0, 2, 15])(
    'stops calls that began before it after %i ms with MOME_ABORTED, later ones with MOME_DISPOSED',
    async (delay) => {
      const other = await Vlmo.load(folder);
      const many = Array.from({ length: 4000 }, (_, i) => texts[i % 90]!);
      const calls = [
        other.embedTexts(many),
        other.embedTexts(many),
        other.embedImages([...images, ...images, ...images]),
        other.match(pairs()),
        other.mixed({ images, texts: many, pairs: pairs() }),
        other.rerank({ text: 'red' }, images),
      ];
      await new Promise((resolve) => setTimeout(resolve, delay));
      await other.dispose();
      const codes = (await Promise.allSettled(calls)).map((each) =>
        each.status === 'rejected' ? each.reason.code : 'done',
      );
      expect(codes[1]).toBe('MOME_ABORTED');
      for (const code of codes) expect(['MOME_ABORTED', 'done']).toContain(code);
      for (const call of [
        () => other.embedTexts(['a']),
        () => other.embedImages([]),
        () => other.mixed({}),
        () => other.profile({ texts: ['a'] }),
        () => other.rerank({ text: 'a' }, []),
        () => other.answer(images[0]!, 'red?'),
        () => other.fillMask(null, 'no mask'),
      ])
        await expectCode(call, 'MOME_DISPOSED');
    },
  );

  it('stops a call that waits for its pictures', async () => {
    const other = await Vlmo.load(folder);
    let cancelled = false;
    const silent = new ReadableStream({
      cancel: () => {
        cancelled = true;
      },
    });
    const call = other.embedImages([silent]);
    await settled();
    const stopped = expectCode(() => call, 'MOME_ABORTED');
    await other.dispose();
    expect((await stopped).message).toMatch(/^embedImages: .*disposed/);
    expect(cancelled).toBe(true);
  });
});
