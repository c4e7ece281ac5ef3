import { execFileSync } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { Vlmo } from '../../src/inference/index.ts';
import { openPairs } from '../../src/train/data/open-pairs.ts';
import type { PairDataset } from '../../src/train/data/pairs.ts';
import { evaluatePairs, type PairsEvaluation, type QueryResult } from '../../src/train/evaluate-pairs.ts';
import { expectCode, temporaryFolder } from '../helpers.ts';

/** A data set whose picture i has the colour i, and a model whose vectors and re-ranking are given. */
function fake(captions: readonly (readonly string[])[], groups = captions.map((_, i) => i)): PairDataset {
  return {
    length: captions.length,
    size: 1,
    channels: 3,
    image: (index) => Uint8Array.of(index, index, index),
    captions: (index) => captions[index]!,
    group: (index) => groups[index]!,
    source: (index) => `picture ${index}`,
  };
}
type Vector = readonly [number, number];
function fakeModel(
  images: readonly Vector[],
  texts: Readonly<Record<string, Vector>>,
  scoreOf: (image: number, text: string) => number = () => 0,
) {
  const embeddings = (vectors: readonly Vector[]) => ({
    embeddings: Float32Array.from(vectors.flat()),
    count: vectors.length,
    width: 2,
  });
  const imageOf = ({ data }: { readonly data: Uint8Array }) => data[0]!;
  const calls: { candidates: number; rule: unknown; similarities: number[] }[] = [];
  const model = {
    config: { imageSize: 1, width: 2 },
    embedImages: async (shown: readonly { readonly data: Uint8Array }[]) =>
      embeddings(shown.map((each) => images[imageOf(each)]!)),
    embedTexts: async (shown: readonly string[]) => embeddings(shown.map((text) => texts[text]!)),
    rerank: async (
      query: { readonly text?: string; readonly image?: { readonly data: Uint8Array } },
      candidates: readonly unknown[],
      { rule, similarities }: { readonly rule?: unknown; readonly similarities: Float32Array },
    ) => {
      calls.push({ candidates: candidates.length, rule, similarities: [...similarities] });
      return candidates
        .map((candidate, index) => ({
          index,
          score:
            query.text === undefined
              ? scoreOf(imageOf(query.image!), candidate as string)
              : scoreOf(imageOf(candidate as { data: Uint8Array }), query.text),
        }))
        .sort((a, b) => b.score - a.score || a.index - b.index);
    },
  };
  return { model: model as unknown as Vlmo, calls };
}
const evaluate = (options: PairsEvaluation) => evaluatePairs(options);

describe('recall on pairs', () => {
  // Cosines by hand, with texts as rows: a: 1, 0.6, 0; b: 0.6, 1, 0.8; c: 0, 0.8, 1; d is as b.
  const images: readonly Vector[] = [
    [1, 0],
    [0.6, 0.8],
    [0, 1],
  ];
  const texts = { a: [1, 0], b: [0.6, 0.8], c: [0, 1], d: [0.6, 0.8] } as const;

  it('counts a caption whose picture comes first, and a picture any of whose captions does', async () => {
    // Picture 0 has a and b: a is its own best, b is nearest to picture 1. Picture 1 has c, picture 2 has d.
    const { model } = fakeModel(images, texts);
    const report = await evaluate({ model, dataset: fake([['a', 'b'], ['c'], ['d']]), k: 0 });
    expect(report).toMatchObject({ pictures: 3, captions: 4, folds: 1, leftOut: 0, reranked: null });
    // a is right; b, c and d are not at 1, and all are among five.
    expect(report.dual.textToImage).toEqual({ r1: 1 / 4, r5: 1, r10: 1 });
    // Picture 0 finds a. Picture 1 finds b and d, which have the same cosine, before c. Picture 2 finds c before d.
    expect(report.dual.imageToText).toEqual({ r1: 1 / 3, r5: 1, r10: 1 });
    expect(report.dual.mean).toBeCloseTo((1 / 4 + 1 + 1 + 1 / 3 + 1 + 1) / 6, 12);
  });

  it('gives equal scores the order of the set', async () => {
    const queries: QueryResult[] = [];
    const { model } = fakeModel([images[1]!, images[1]!], texts);
    await evaluate({ model, dataset: fake([['b'], ['d']]), k: 0, onQuery: (query) => queries.push(query) });
    // Both pictures and both texts are the same vector: whatever stands first is found first.
    expect(queries.map(({ direction, query, rank, best }) => [direction, query, rank, best])).toEqual([
      ['textToImage', 'b', 1, 'picture 0'],
      ['textToImage', 'd', 2, 'picture 0'],
      ['imageToText', 'picture 0', 1, 'b'],
      ['imageToText', 'picture 1', 2, 'b'],
    ]);
  });

  it('reads the first captions of each picture alone where it is asked to', async () => {
    const { model } = fakeModel(images, texts);
    const report = await evaluate({ model, dataset: fake([['a', 'b'], ['c'], ['d']]), k: 0, captions: 1 });
    expect(report.captions).toBe(3);
    expect(report.dual.textToImage.r1).toBe(1 / 3);
  });

  it('takes items of one picture as one', async () => {
    const { model } = fakeModel(images, texts);
    const report = await evaluate({ model, dataset: fake([['a'], ['c'], ['b']], [0, 1, 0]), k: 0 });
    expect(report).toMatchObject({ pictures: 2, captions: 3 });
  });

  it('gives the mean of folds, and leaves out what fills none', async () => {
    // Fold 0: pictures 0 and 1 with a and b, all right. Fold 1: pictures 2 and 1 with their captions exchanged, all wrong at 1.
    const { model } = fakeModel([images[0]!, images[1]!, images[2]!, images[1]!, images[0]!], texts);
    const dataset = fake([['a'], ['b'], ['d'], ['c'], ['a']]);
    const report = await evaluate({ model, dataset, k: 0, fold: 2 });
    expect(report).toMatchObject({ pictures: 4, captions: 4, folds: 2, leftOut: 1 });
    expect(report.dual.textToImage).toEqual({ r1: 0.5, r5: 1, r10: 1 });
    expect(report.dual.imageToText.r1).toBe(0.5);
  });

  it('re-ranks the first candidates and leaves the others where they are', async () => {
    // Whoever judges likes picture 2 with everything, and texts by their letter.
    const { model, calls } = fakeModel(images, texts, (image, text) => image * 10 + text.charCodeAt(0));
    const queries: QueryResult[] = [];
    const report = await evaluate({
      model,
      dataset: fake([['a'], ['b'], ['c']]),
      k: 2,
      rule: 'original',
      onQuery: (query) => queries.push(query),
    });
    expect(report.dual.textToImage.r1).toBe(1);
    // Of a, picture 0 and 1 are judged and exchange places; of b, 1 and 2; of c, 2 stays before 1.
    expect(
      queries.filter(({ direction }) => direction === 'textToImage').map(({ rerankedRank }) => rerankedRank),
    ).toEqual([2, 2, 1]);
    expect(report.reranked!.textToImage).toEqual({ r1: 1 / 3, r5: 1, r10: 1 });
    expect(calls).toHaveLength(6);
    expect(calls[0]).toMatchObject({ candidates: 2, rule: 'original' });
    expect(calls[0]!.similarities[1]).toBeCloseTo(0.6, 6);
  });

  it('counts up to the end', async () => {
    for (const k of [0, 2]) {
      const { model } = fakeModel(images, texts);
      const seen: (readonly [number, number])[] = [];
      const dataset = fake([['a', 'b'], ['c'], ['d']]);
      await evaluate({ model, dataset, k, onProgress: (done, total) => seen.push([done, total]) });
      expect(seen.at(-1)).toEqual(k === 0 ? [7, 7] : [14, 14]);
    }
  });

  it('refuses what makes no sense, and stops', async () => {
    const { model } = fakeModel(images, texts);
    const dataset = fake([['a'], ['b']]);
    for (const wrong of [{ fold: 3 }, { fold: 0 }, { k: -1 }, { captions: 0 }, { captions: 1.5 }])
      await expectCode(() => evaluate({ model, dataset, ...wrong }), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => evaluate({ model, dataset: { ...dataset, size: 2 } }), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => evaluate({ model, dataset, signal: AbortSignal.abort() }), 'MOME_ABORTED');
  });

  it('is that of rerank for a real model', async () => {
    await using model = await Vlmo.load(undefined, { threads: 1 });
    const size = model.config.imageSize;
    const colours = ['#e03030', '#30c040', '#3050e0', '#f0d020'];
    const names = ['red heart', 'green apple', 'blue circle', 'yellow star'];
    const pixels = await Promise.all(
      colours.map((background) =>
        sharp({ create: { width: size, height: size, channels: 3, background } })
          .raw()
          .toBuffer(),
      ),
    );
    const dataset: PairDataset = {
      ...fake(names.map((name) => [name])),
      size,
      image: (index) => new Uint8Array(pixels[index]!),
    };
    const queries: QueryResult[] = [];
    await evaluate({ model, dataset, k: 3, onQuery: (query) => queries.push(query) });
    const shown = pixels.map((data) => ({ data, width: size, height: size, channels: 3 as const }));
    const { embeddings } = await model.embedImages(shown);
    for (const [i, text] of names.entries()) {
      const { embeddings: own, width } = await model.embedTexts([text]);
      const cosines = shown.map((_, j) => own.reduce((sum, value, at) => sum + value * embeddings[j * width + at]!, 0));
      const first = [0, 1, 2, 3].sort((a, b) => cosines[b]! - cosines[a]!);
      const judged = await model.rerank(
        { text },
        first.slice(0, 3).map((j) => shown[j]!),
      );
      const order = [...judged.map(({ index }) => first[index]), first[3]];
      expect(queries[i]).toMatchObject({ rank: first.indexOf(i) + 1, rerankedRank: order.indexOf(i) + 1 });
    }
  });
});

describe("a file of Karpathy's splits", () => {
  const image = (filename: string, split: string, raws: readonly string[], more = {}) => ({
    filename,
    split,
    imgid: 1,
    sentences: raws.map((raw) => ({ raw, tokens: raw.split(' '), sentid: 5, imgid: 1 })),
    ...more,
  });
  const set = {
    dataset: 'coco',
    images: [
      image('1.png', 'train', ['one ', 'uno']),
      image('2.png', 'test', ['two'], { filepath: 'val', cocoid: 9 }),
      image('3.png', 'restval', ['three']),
      image('4.png', 'val', ['four']),
    ],
  };
  async function folderOf(value: unknown) {
    const folder = await temporaryFolder();
    await mkdir(join(folder, 'pictures', 'val'), { recursive: true });
    for (const name of ['1.png', 'val/2.png', '3.png', '4.png'])
      await sharp({ create: { width: 4, height: 4, channels: 3, background: '#f00' } }).toFile(
        join(folder, 'pictures', name),
      );
    const file = join(folder, 'set.json');
    await writeFile(file, typeof value === 'string' ? value : JSON.stringify(value));
    return { folder, file, options: { size: 4, images: join(folder, 'pictures') } };
  }

  it('gives the pictures of the parts that are named, training ones unless they are', async () => {
    const { file, options } = await folderOf(set);
    const training = await openPairs(file, options);
    expect([training.captions(0), training.captions(1)]).toEqual([['one', 'uno'], ['three']]);
    expect(training.length).toBe(2);
    // Flickr30k has no `restval`.
    const without = await folderOf({ images: set.images.filter(({ split }) => split !== 'restval') });
    expect((await openPairs(without.file, without.options)).length).toBe(1);
    const test = await openPairs(file, { ...options, splits: ['test'] });
    expect(test.length).toBe(1);
    expect(test.source!(0)).toBe(join('val', '2.png'));
    expect((await test.image(0)).length).toBe(48);
  });

  it('is refused with the picture named', async () => {
    const broken = (at: number, change: object) => ({
      images: set.images.map((each, i) => (i === at ? { ...each, ...change } : each)),
    });
    for (const [value, code] of [
      ['[]', 'MOME_INVALID_FILE'],
      ['{"images": 3}', 'MOME_INVALID_FILE'],
      ['{"images": [null]}', 'MOME_INVALID_FILE'],
      ['{"images": [', 'MOME_INVALID_FILE'],
      [broken(0, { sentences: [] }), 'MOME_INVALID_FILE'],
      [broken(0, { sentences: [{ raw: ' ' }] }), 'MOME_INVALID_FILE'],
      [broken(0, { filename: 'a\0b' }), 'MOME_INVALID_FILE'],
      [broken(0, { filename: 'gone.png' }), 'MOME_NOT_FOUND'],
      [{ images: [] }, 'MOME_INVALID_ARGUMENT'],
    ] as const) {
      const { file, options } = await folderOf(value);
      await expectCode(() => openPairs(file, options), code);
    }
    const { file, options } = await folderOf(set);
    await expectCode(() => openPairs(file, { ...options, splits: ['dev'] }), 'MOME_INVALID_ARGUMENT');
    const wrong = await folderOf(broken(2, { split: 7 }));
    await expect(openPairs(wrong.file, wrong.options)).rejects.toThrow(/image 2: .*split/);
  });

  it('is measured by the command line, with a file of queries', async () => {
    const { folder, file } = await folderOf(set);
    const run = (...args: string[]) =>
      execFileSync('node', ['dist/cli.mjs', 'eval', 'retrieval', '--data', file, '--quiet', ...args], {
        encoding: 'utf8',
      });
    const queries = join(folder, 'queries.jsonl');
    const args = ['--images', join(folder, 'pictures'), '--split', 'train,test,val', '-k', '2', '--queries', queries];
    const report = JSON.parse(run(...args, '--json'));
    expect(report).toMatchObject({ pictures: 3, captions: 4, folds: 1, k: 2 });
    expect(report.reranked.textToImage.r10).toBe(1);
    const lines = (await readFile(queries, 'utf8')).trim().split('\n');
    expect(lines).toHaveLength(7);
    expect(Object.keys(JSON.parse(lines[0]!))).toEqual(['fold', 'direction', 'query', 'rank', 'rerankedRank', 'best']);
    expect(run(...args, '--captions', '1')).toMatch(/pictures: 3, captions: 3[\s\S]*mean of the six/);
  });
});
