/** Tables of drawings: pixels instead of files, and rows of one group. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Binary, Field, Int32, List, Table, tableToIPC, Utf8, vectorFromArray } from 'apache-arrow';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { prepareImage } from '../../../src/image/prepare.ts';
import { BatchMaker } from '../../../src/train/data/batch-maker.ts';
import { openDataset } from '../../../src/train/data/open.ts';
import { openPairs } from '../../../src/train/data/open-pairs.ts';
import { expectCode, temporaryFolder } from '../../helpers.ts';
import { tokenizer } from './drawn-data.ts';

const side = 6;
/** A drawing whose pixels are all `value`, opaque. */
const drawing = (value: number, length = side * side) =>
  Uint8Array.from({ length: length * 4 }, (_, at) => (at % 4 === 3 ? 255 : value));

async function writeRows(columns: Readonly<Record<string, readonly unknown[]>>): Promise<string> {
  const typeOf = (name: string, [first]: readonly unknown[]) =>
    name === 'pixels' ? new Binary() : typeof first === 'number' ? new Int32() : new Utf8();
  const vectors = Object.entries(columns).map(
    ([name, values]) => [name, vectorFromArray([...values], typeOf(name, values))] as const,
  );
  const table = new Table(Object.fromEntries(vectors));
  const file = path.join(await temporaryFolder(), 'drawings.arrow');
  await writeFile(file, tableToIPC(table, 'file'));
  return file;
}

const words = ['cat', 'dog', 'cat', 'bird'];

describe('tables of drawings', () => {
  it('have pixels with transparency, and rows of one value are one group', async () => {
    const pixels = words.map((_, i) => drawing(10 * i));
    const file = await writeRows({ pixels, caption: words.map((word) => `a ${word}`), group: words });
    const dataset = await openDataset({ files: file });
    expect(dataset.pixels).toEqual({ size: side, channels: 4 });
    const items = await Promise.all(words.map((_, i) => dataset.item(i)));
    expect(items.map(({ group }) => group)).toEqual([0, 1, 0, 3]);
    expect(items.map(({ texts }) => texts[0])).toEqual(['a cat', 'a dog', 'a cat', 'a bird']);
    expect(items.map(({ pictures: [picture] }) => (picture as { pixels: Uint8Array }).pixels[0])).toEqual([
      0, 10, 20, 30,
    ]);
    dataset.close();
    // Another column, by its name.
    const kinds = await writeRows({ pixels, caption: words, kind: [7, 8, 8, 7] });
    const named = await openDataset({ files: kinds, columns: { group: 'kind' } });
    expect((await named.item(3)).group).toBe(0);
    expect((await named.item(2)).group).toBe(1);
    named.close();
    const each = await openDataset({ files: kinds });
    expect((await each.item(2)).group).toBe(2);
    each.close();
  });

  it('become batches, augmented or not', async () => {
    const pixels = words.map((_, i) => drawing(i === 0 ? 0 : 200));
    const dataset = await openDataset({ files: await writeRows({ pixels, caption: words, group: words }) });
    const batch = { epoch: 0, step: 0, indices: Uint32Array.of(0, 1), next: { epoch: 0, step: 1 } };
    const make = async (augment: 'none' | { readonly restyle: number }) =>
      new BatchMaker(
        dataset,
        { config: { imageSize: side }, tokenizer, seed: 1, augment },
        new AbortController().signal,
      ).make(batch);
    const plain = await make('none');
    expect([...plain.training.bytes!.subarray(0, 3)]).toEqual([0, 0, 0]);
    expect([...plain.training.groups!]).toEqual([0, 1]);
    const maker = new BatchMaker(
      dataset,
      { config: { imageSize: side }, tokenizer, seed: 1, texts: false },
      new AbortController().signal,
    );
    expect((await maker.make(batch)).training).toMatchObject({ texts: [] });
    expect((await maker.make(batch)).training.groups).toBeUndefined();
    const styled = (await make({ restyle: 1 })).training.bytes!;
    // The drawing in black has a colour now, and the other one is as it was.
    expect(Math.max(...styled.subarray(0, 3))).toBeGreaterThan(0);
    expect([...styled.subarray(3 * side * side, 3 * side * side + 3)]).toEqual([200, 200, 200]);
    dataset.close();
  });

  it('have some rows more often', async () => {
    const pixels = words.map((_, i) => drawing(10 * i));
    const file = await writeRows({ pixels, caption: words, group: words, kind: ['a', 'b', 'a', 'c'] });
    const repeat = { column: 'kind', times: { a: 3, c: 2 } };
    const dataset = await openDataset({ files: file, repeat });
    const items = await Promise.all(Array.from({ length: dataset.length }, (_, i) => dataset.item(i)));
    expect(items.map(({ texts }) => texts[0])).toEqual('cat cat cat dog cat cat cat bird bird'.split(' '));
    expect(items.map(({ group }) => group)).toEqual([0, 0, 0, 1, 0, 0, 0, 3, 3]);
    const texts: string[] = [];
    for await (const each of dataset.itemTexts()) texts.push(...each);
    expect(texts).toEqual(items.map((item) => item.texts[0]));
    const plain = await openDataset({ files: file });
    expect(await dataset.fingerprint()).not.toBe(await plain.fingerprint());
    dataset.close();
    plain.close();
    await expect(openDataset({ files: file, repeat: { ...repeat, column: 'sort' } })).rejects.toMatchObject({
      code: 'MOME_INVALID_FILE',
      message: expect.stringContaining('expected a column sort, got'),
    });
    const lines = path.join(await temporaryFolder(), 'lines.txt');
    await writeFile(lines, 'a line');
    await expect(openDataset({ files: lines, repeat })).rejects.toMatchObject({ code: 'MOME_INVALID_ARGUMENT' });
  });

  it('name what is wrong', async () => {
    const uneven = await openDataset({
      files: await writeRows({ pixels: [drawing(1), drawing(1, 35)], caption: ['a', 'b'] }),
    });
    await expect(uneven.item(1)).rejects.toMatchObject({
      code: 'MOME_INVALID_FILE',
      message: expect.stringContaining('row 1: expected 144 bytes in pixels, got 140 bytes'),
    });
    uneven.close();
    const oblong = await writeRows({ pixels: [drawing(1, 35)], caption: ['a'] });
    await expect(openDataset({ files: oblong })).rejects.toMatchObject({
      code: 'MOME_INVALID_FILE',
      message: expect.stringContaining('row 0: expected the RGBA of a square'),
    });
    const unnamed = await writeRows({ pixels: [drawing(1), drawing(2)], caption: ['a', 'b'], group: ['x', null] });
    await expect(openDataset({ files: unnamed })).rejects.toMatchObject({
      code: 'MOME_INVALID_FILE',
      message: expect.stringContaining('row 1: expected a text or a whole number in group, got nothing'),
    });
  });
});

describe('held-out tables', () => {
  const png = (value: number) =>
    sharp({ create: { width: 8, height: 4, channels: 3, background: { r: value, g: value, b: value } } })
      .png()
      .toBuffer();
  async function writePictures(values: readonly number[], captions: readonly (readonly string[])[]): Promise<string> {
    const file = path.join(await temporaryFolder(), 'held-out.arrow');
    const pictures = await Promise.all(values.map(async (value) => new Uint8Array(await png(value))));
    const table = new Table({
      image: vectorFromArray(pictures, new Binary()),
      caption: vectorFromArray(
        captions.map((texts) => [...texts]),
        new List(new Field('item', new Utf8(), false)),
      ),
    });
    await writeFile(file, tableToIPC(table, 'file'));
    return file;
  }

  it('are pairs with a picture for each row, as the model sees it', async () => {
    const file = await writePictures([10, 200], [['a cat', 'a pet'], ['a dog']]);
    const pairs = await openPairs(file, { size: 6 });
    expect([pairs.length, pairs.captions(0), pairs.captions(1)]).toEqual([2, ['a cat', 'a pet'], ['a dog']]);
    expect(await pairs.image(1)).toEqual(await prepareImage(await png(200), 6));
    expect([pairs.group(0), pairs.group(1), pairs.source!(1)]).toEqual([0, 1, `${file}: row 1`]);
    pairs.close!();
    await expectCode(() => pairs.image(0), 'MOME_DISPOSED');
  });

  it('have rows of one concept as pictures of their own, and pixels on white in any size', async () => {
    const pixels = [drawing(0), new Uint8Array(side * side * 4)];
    const file = await writeRows({ pixels, caption: ['cat', 'cat'], group: ['cat', 'cat'] });
    const pairs = await openPairs(file, { size: side });
    expect([pairs.group(0), pairs.group(1)]).toEqual([0, 1]);
    expect([(await pairs.image(0))[0], (await pairs.image(1))[0]]).toEqual([0, 255]);
    pairs.close!();
    const larger = await openPairs(file, { size: 2 * side });
    expect((await larger.image(1)).length).toBe(3 * 4 * side * side);
    larger.close!();
  });

  it('are refused without pictures or captions, with the row', async () => {
    const texts = await writeRows({ caption: ['a cat'] });
    const lone = await expectCode(() => openPairs(texts, { size: 6 }), 'MOME_INVALID_FILE');
    expect(lone.message).toContain('expected a picture with captions');
    const empty = await writePictures([10, 20], [['a cat'], []]);
    const silent = await expectCode(() => openPairs(empty, { size: 6 }), 'MOME_INVALID_FILE');
    expect(silent.message).toContain('row 1: expected a caption');
    const named = await writeRows({ pixels: [drawing(9)], said: ['a cat'] });
    const pairs = await openPairs(named, { size: side, columns: { caption: 'said' } });
    expect(pairs.captions(0)).toEqual(['a cat']);
    pairs.close!();
  });
});
