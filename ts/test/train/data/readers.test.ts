import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { decodeFile } from '../../../src/image/decode.ts';
import { type Dataset, everyText, textsOf } from '../../../src/train/data/dataset.ts';
import { openDataset } from '../../../src/train/data/open.ts';
import { openParquet } from '../../../src/train/data/parquet.ts';

const fixture = (name: string) => path.join(import.meta.dirname, 'fixtures', name);

/** The first pixel of each picture of an item. */
async function coloursOf(dataset: Dataset, index: number): Promise<number[][]> {
  const { pictures } = await dataset.item(index);
  return Promise.all(
    pictures.map(async (picture) => {
      if (!('encoded' in picture)) throw new Error('expected bytes');
      const { data, width } = await decodeFile('picture', picture.encoded, 4);
      expect(width).toBe(4);
      return [...data.subarray(0, 3)];
    }),
  );
}

async function allTexts(dataset: Dataset): Promise<string[]> {
  const texts: string[] = [];
  for await (const text of textsOf(dataset)) texts.push(text);
  return texts;
}

async function opened<T>(source: Parameters<typeof openDataset>[0], use: (dataset: Dataset) => Promise<T>): Promise<T> {
  const dataset = await openDataset(source);
  try {
    return await use(dataset);
  } finally {
    dataset.close();
  }
}

describe('Arrow files of another program', () => {
  it('have pictures with captions', () =>
    opened({ files: fixture('coco.arrow') }, async (dataset) => {
      expect(dataset.length).toBe(7);
      expect(dataset.picturesPerItem).toBe(1);
      expect([...dataset.chunkStarts!]).toEqual([0, 3, 6]);
      for (let row = 0; row < 7; row++) {
        expect(await coloursOf(dataset, row)).toEqual([[10 * row, 5, 200]]);
        const { texts, group } = await dataset.item(row);
        expect(texts).toEqual([`a first ${row}`, `a second ${row}`].slice(0, 1 + (row % 2)));
        expect(group).toBe(row);
      }
      expect((await dataset.item(2, false)).pictures).toEqual([]);
      expect(dataset.origin(4)).toBe(`${fixture('coco.arrow')}: row 4`);
      expect((await allTexts(dataset)).length).toBe(10);
      const each = await everyText(dataset);
      expect(each.length).toBe(10);
      expect([...each.chunkStarts!]).toEqual([0, 4, 9]);
      expect(await coloursOf(each, 9)).toEqual([[60, 5, 200]]);
    }));

  it('have a missing picture, which is damage of its row alone', () =>
    opened({ files: fixture('regions.arrow') }, async (dataset) => {
      expect((await dataset.item(0)).texts).toEqual(['left', 'right']);
      await expect(dataset.item(1)).rejects.toMatchObject({
        code: 'MOME_INVALID_FILE',
        message: expect.stringContaining('regions.arrow: row 1: expected the bytes of a picture in image, got nothing'),
      });
      expect((await dataset.item(2)).texts).toEqual(['näher']);
    }));

  it('have questions with answers', () =>
    opened({ files: fixture('vqa.arrow') }, async (dataset) => {
      expect(dataset.length).toBe(4);
      expect(await allTexts(dataset)).toEqual(['what is it?', 'which colour?', 'how many?', 'where?']);
      expect([...dataset.chunkStarts!]).toEqual([0, 2]);
      const items = await Promise.all([0, 1, 2, 3].map((index) => dataset.item(index)));
      expect(items.map(({ answers }) => answers)).toEqual([
        { labels: [7], scores: [1] },
        { labels: [1, 2], scores: [0.9, 0.3] },
        { labels: [3], scores: [0.6] },
        { labels: [8, 9], scores: [0.3, 1] },
      ]);
      expect(items.map(({ texts }) => texts)).toEqual([['what is it?'], ['which colour?'], ['how many?'], ['where?']]);
      expect(await coloursOf(dataset, 3)).toEqual([[20, 5, 200]]);
      expect(items.map(({ group }) => group)).toEqual([0, 0, 2, 2]);
    }));

  it('have statements about two pictures', () =>
    opened({ files: fixture('nlvr2.arrow') }, async (dataset) => {
      expect(dataset.picturesPerItem).toBe(2);
      expect(dataset.length).toBe(3);
      const items = await Promise.all([0, 1, 2].map((index) => dataset.item(index)));
      expect(items.map(({ truth }) => truth)).toEqual([true, false, true]);
      expect(await coloursOf(dataset, 2)).toEqual([
        [20, 5, 200],
        [30, 5, 200],
      ]);
    }));

  it('have text alone', () =>
    opened({ files: fixture('wikibk.arrow') }, async (dataset) => {
      expect(dataset.picturesPerItem).toBe(0);
      expect(await allTexts(dataset)).toEqual([0, 1, 2, 3, 4].map((row) => `line ${row}`));
      expect(await dataset.item(3)).toEqual({ pictures: [], texts: ['line 3'], group: 3 });
    }));

  it.each([
    ['stream.arrow', 'the stream format'],
    ['compressed.arrow', 'got a compressed batch'],
  ])('are refused in forms that are not read: %s', async (name, message) => {
    await expect(openDataset({ files: fixture(name) })).rejects.toMatchObject({
      code: 'MOME_UNSUPPORTED',
      message: expect.stringContaining(message),
    });
  });
});

describe('Parquet files of another program', () => {
  it('have pictures as records, texts and visual tokens', () =>
    opened({ files: fixture('hugging-face.parquet') }, async (dataset) => {
      expect(dataset.length).toBe(7);
      expect([...dataset.chunkStarts!]).toEqual([0, 3, 6]);
      for (let row = 0; row < 7; row++) {
        expect(await coloursOf(dataset, row)).toEqual([[10 * row, 5, 200]]);
        const { texts, visualTokens } = await dataset.item(row);
        expect(texts).toEqual([`caption ${row}`]);
        expect(visualTokens).toEqual(Int32Array.of(row, 1, 2, 3));
      }
      expect((await allTexts(dataset)).length).toBe(7);
    }));

  it.each(['plain.parquet', 'gzip.parquet'])('have pictures as bytes and lists of captions: %s', (name) =>
    opened({ files: fixture(name) }, async (dataset) => {
      expect(dataset.length).toBe(5);
      expect((await dataset.item(3)).texts).toEqual(['a first 3', 'a second 3']);
      expect(await coloursOf(dataset, 4)).toEqual([[40, 5, 200]]);
    }),
  );
});

describe('Parquet files that were damaged', () => {
  it('end with their time, and others are read afterwards', async () => {
    // One byte of `plain.parquet` is another: its pages lead back to themselves.
    const table = await openParquet(fixture('endless.parquet'), 2000);
    await expect(table.read(0, ['jpg', 'captions'])).rejects.toMatchObject({
      code: 'MOME_INVALID_FILE',
      message: expect.stringContaining(
        'endless.parquet: expected a Parquet file that can be read, it took longer than 2 s',
      ),
    });
    await opened({ files: fixture('plain.parquet') }, async (dataset) => {
      expect((await dataset.item(1)).texts.length).toBe(2);
    });
  });
});

describe('tar shards of another program', () => {
  it('have samples whose files share a name', () =>
    opened({ files: fixture('shard.tar') }, async (dataset) => {
      expect(dataset.length).toBe(4);
      expect(await allTexts(dataset)).toEqual(['words 0', 'words 1', '3', 'wörter 3']);
      for (let row = 0; row < 4; row++) expect(await coloursOf(dataset, row)).toEqual([[10 * row, 5, 200]]);
      expect(dataset.origin(1)).toBe(`${fixture('shard.tar')}: deep/000001`);
    }));

  it('have names of other characters and pictures without text', () =>
    opened({ files: fixture('pax.tar') }, async (dataset) => {
      expect(dataset.length).toBe(1);
      expect((await dataset.item(0)).texts).toEqual(['two']);
      expect(dataset.origin(0)).toBe(`${fixture('pax.tar')}: ünï/2`);
    }));
});
