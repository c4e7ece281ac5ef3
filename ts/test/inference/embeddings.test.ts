import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Embeddings, Vlmo } from '../../src/inference/index.ts';
import { testImage, tinyModel } from '../helpers.ts';

let vlmo: Vlmo;
beforeAll(async () => {
  vlmo = await Vlmo.load(await tinyModel());
}, 60_000);
afterAll(() => vlmo.dispose());

const texts = ['a red square', 'blue', 'green circles'];
const images = [testImage(1, 32), testImage(2, 40)];

/** Every call that gives embeddings. */
const calls: readonly [string, () => Promise<Embeddings>, number][] = [
  ['embedTexts', () => vlmo.embedTexts(texts), 3],
  ['embedImages', () => vlmo.embedImages(images), 2],
  ['the texts of mixed', async () => (await vlmo.mixed({ texts, images })).texts, 3],
  ['the pictures of mixed', async () => (await vlmo.mixed({ texts, images })).images, 2],
  ['embedTexts of a batcher', () => vlmo.batcher().embedTexts(texts), 3],
  ['embedImages of a request', () => vlmo.batcher().request().embedImages(images), 2],
  ['embedTexts of nothing', () => vlmo.embedTexts([]), 0],
];

describe.each(calls)('the result of %s', (_, call, count) => {
  it('has its rows as views of one memory, and as lists', async () => {
    const result = await call();
    expect([result.count, result.width]).toEqual([count, vlmo.dimensions]);
    const rows = result.rows();
    expect(rows.length).toBe(count);
    for (const [i, row] of rows.entries()) {
      expect(row).toBeInstanceOf(Float32Array);
      expect(row.buffer).toBe(result.embeddings.buffer);
      expect(row.length).toBe(vlmo.dimensions);
      expect([...row]).toEqual([...result.embeddings.slice(i * result.width, (i + 1) * result.width)]);
    }
    const lists = result.toArrays();
    expect(lists).toEqual(rows.map((row) => [...row]));
    expect(lists.every(Array.isArray)).toBe(true);
    const first = lists[0]?.[0];
    result.embeddings.fill(0);
    expect(lists[0]?.[0]).toBe(first); // lists are copies
    expect(rows.every((row) => row.every((value) => value === 0))).toBe(true);
  });
});

it('a method that was taken from its object says so', async () => {
  const { rows, toArrays } = await vlmo.embedTexts(['blue']);
  for (const method of [rows, toArrays])
    expect(() => method()).toThrow(
      expect.objectContaining({
        code: 'MOME_INVALID_ARGUMENT',
        message: expect.stringContaining('as a method of embeddings'),
      }),
    );
});

it('the model tells the numbers of one embedding', () => {
  expect(vlmo.dimensions).toBe(vlmo.config.width);
  expect(vlmo.dimensions).toBe(48);
});
