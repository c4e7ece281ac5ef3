import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Vlmo } from '../../src/inference/index.ts';
import {
  boundsOf,
  evaluateQueries,
  picturesOfFolder,
  readQueries,
  type SearchedQuery,
  scoresOf,
} from '../../src/train/evaluate-queries.ts';
import { createRandom } from '../../src/train/random.ts';
import { expectCode, temporaryFolder } from '../helpers.ts';

type Vector = readonly [number, number];
const pixel = (value: number) =>
  ({ data: Uint8Array.of(value, value, value), width: 1, height: 1, channels: 3 }) as const;

/** A model with given vectors, whose re-ranking prefers the picture with the highest number. */
function fakeModel(images: readonly Vector[], texts: Readonly<Record<string, Vector>>): Vlmo {
  const rows = (vectors: readonly Vector[]) => ({ embeddings: Float32Array.from(vectors.flat()), width: 2 });
  return {
    config: { imageSize: 1, width: 2 },
    embedImages: async (shown: readonly { readonly data: Uint8Array }[]) =>
      rows(shown.map(({ data }) => images[data[0]!]!)),
    embedTexts: async (shown: readonly string[]) => rows(shown.map((text) => texts[text]!)),
    rerank: async (_: unknown, candidates: readonly { readonly data: Uint8Array }[]) =>
      candidates.map(({ data }, index) => ({ index, score: data[0]! })).sort((a, b) => b.score - a.score),
  } as unknown as Vlmo;
}

// Twelve pictures on a quarter of a circle, of which a query along x finds picture 0 first, and one along y picture 11.
const images = Array.from({ length: 12 }, (_, i): Vector => {
  const angle = (Math.PI / 2) * (i / 11);
  return [Math.cos(angle), Math.sin(angle)];
});
const pictures = images.map((_, i) => ({ name: `p${i}`, image: pixel(i) }));
const model = fakeModel(images, { x: [1, 0], y: [0, 1] });

describe('search with several right results', () => {
  it('counts queries and pairs at each depth', async () => {
    const seen: SearchedQuery[] = [];
    const queries = [
      { query: 'x', right: ['p0', 'p6', 'p11'] },
      { query: 'y', right: ['p8'] },
    ];
    const report = await evaluateQueries({ model, pictures, queries, onQuery: (each) => void seen.push(each) });
    expect(report).toMatchObject({ pictures: 12, queries: 2, pairs: 4, reranked: null });
    // x finds p0 first, p6 in place 7 and p11 in place 12; y finds p8 in place 4.
    expect(report.dual.success).toEqual({ at1: 1 / 2, at5: 1, at10: 1 });
    expect(report.dual.recall).toEqual({ at1: 1 / 4, at5: 2 / 4, at10: 3 / 4 });
    expect(report.best.recall).toEqual({ at1: 2 / 4, at5: 1, at10: 1 });
    expect(seen.map(({ rank }) => rank)).toEqual([1, 4]);
    expect(seen[1]!.found).toEqual(['p11', 'p10', 'p9', 'p8', 'p7', 'p6', 'p5', 'p4', 'p3', 'p2']);
  });

  it('notices a planted error: another right picture gives other numbers', async () => {
    const evaluate = (right: string) => evaluateQueries({ model, pictures, queries: [{ query: 'y', right: [right] }] });
    expect((await evaluate('p7')).dual.success).toEqual({ at1: 0, at5: 1, at10: 1 });
    expect((await evaluate('p6')).dual.success).toEqual({ at1: 0, at5: 0, at10: 1 });
    expect((await evaluate('p1')).dual.success).toEqual({ at1: 0, at5: 0, at10: 0 });
  });

  it('re-ranks the first candidates and leaves the others in their places', async () => {
    const found: (readonly string[])[] = [];
    const options = { model, pictures, queries: [{ query: 'x', right: ['p2'] }], k: 3 };
    const report = await evaluateQueries({ ...options, onQuery: (each) => void found.push(each.found) });
    expect(found[0]!.slice(0, 5)).toEqual(['p2', 'p1', 'p0', 'p3', 'p4']);
    expect(report.dual.success.at1).toBe(0);
    expect(report.reranked!.success.at1).toBe(1);
  });

  it('refuses what cannot be counted', async () => {
    const queries = [{ query: 'x', right: ['p0'] }];
    const refused = (options: object) =>
      expectCode(() => evaluateQueries({ model, pictures, queries, ...options }), 'MOME_INVALID_ARGUMENT');
    await refused({ queries: [] });
    await refused({ queries: [{ query: 'x', right: ['p12'] }] });
    await refused({ queries: [{ query: 'x', right: [] }] });
    await refused({ pictures: [...pictures, pictures[0]!] });
    await refused({ k: -1 });
    await expectCode(() => evaluateQueries({ model, pictures, queries, signal: AbortSignal.abort() }), 'MOME_ABORTED');
  });
});

describe('chance', () => {
  it('is what random orders give', () => {
    const random = createRandom(5);
    const rights = [new Set([3]), new Set([0, 7, 11, 19]), new Set(Array.from({ length: 15 }, (_, i) => i))];
    const { chance } = boundsOf(rights, 20);
    const rounds = 4000;
    const sums = { success: [0, 0, 0], recall: [0, 0, 0] };
    for (let round = 0; round < rounds; round++) {
      const order = Array.from({ length: 20 }, (_, i) => i);
      const { success, recall } = scoresOf(
        rights.map(() => random.shuffle([...order])),
        rights,
      );
      for (const [at, value] of Object.values(success).entries()) sums.success[at]! += value / rounds;
      for (const [at, value] of Object.values(recall).entries()) sums.recall[at]! += value / rounds;
    }
    // Deviations of the means over 4,000 rounds are below 0.005.
    for (const kind of ['success', 'recall'] as const)
      for (const [at, value] of Object.values(chance[kind]).entries())
        expect(Math.abs(value - sums[kind][at]!), `${kind} ${at}`).toBeLessThan(0.02);
    // A planted error: as many right pictures fewer would be noticed.
    const fewer = boundsOf(
      rights.map(() => new Set([3])),
      20,
    ).chance;
    expect(Math.abs(fewer.success.at5 - sums.success[1]!)).toBeGreaterThan(0.1);
  });

  it('is one for queries that have only right pictures', () => {
    const { chance, best } = boundsOf([new Set([0, 1])], 2);
    expect(chance.success).toEqual({ at1: 1, at5: 1, at10: 1 });
    expect(best.recall).toEqual({ at1: 0.5, at5: 1, at10: 1 });
  });
});

describe('files of queries', () => {
  it('are read with their parts', async () => {
    const folder = await temporaryFolder();
    const file = join(folder, 'queries.json');
    const queries = [
      { query: ' it is raining ', right: ['a.png'], split: 'test', topic: 'weather' },
      { query: 'a cat', right: ['b/c.png'], split: 'validation' },
    ];
    await writeFile(file, JSON.stringify({ about: { queries: [] }, queries }));
    expect(await readQueries(file, 'test')).toEqual([{ query: 'it is raining', right: ['a.png'] }]);
    expect(await readQueries(file)).toHaveLength(2);
    await expectCode(() => readQueries(file, 'train'), 'MOME_INVALID_ARGUMENT');
    await writeFile(file, JSON.stringify({ queries: [{ query: 'a cat', right: [] }] }));
    await expectCode(() => readQueries(file), 'MOME_INVALID_FILE');
    await writeFile(file, JSON.stringify({ queries: [] }));
    await expectCode(() => readQueries(file), 'MOME_INVALID_FILE');
  });

  it('name pictures by their paths', async () => {
    const folder = await temporaryFolder();
    await mkdir(join(folder, 'b'));
    for (const name of ['b/c.png', 'a.jpg', 'notes.txt']) await writeFile(join(folder, name), '');
    expect((await picturesOfFolder(folder)).map(({ name }) => name)).toEqual(['a.jpg', 'b/c.png']);
    await expectCode(() => picturesOfFolder(join(folder, 'nowhere')), 'MOME_NOT_FOUND');
  });
});
