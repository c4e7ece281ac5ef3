import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { prepareImage } from '../../../src/image/prepare.ts';
import { type CsvRow, parseCsv, splitLines } from '../../../src/train/data/lines.ts';
import { openPairs } from '../../../src/train/data/open-pairs.ts';
import { type BatchPosition, batchesPerEpoch, sampleBatches } from '../../../src/train/data/pairs.ts';
import { testImage } from '../../helpers.ts';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'mome-pairs-'));
  await mkdir(path.join(folder, 'set', 'more'), { recursive: true });
  const picture = (background: string, channels: 3 | 4 = 3) =>
    sharp({ create: { width: 12, height: 6, channels, background } })
      .png()
      .toBuffer();
  await writeFile(path.join(folder, 'set', 'red.png'), await picture('#ff0000'));
  await writeFile(path.join(folder, 'set', 'red.txt'), 'a red picture\r\n\r\n red paper \r\n');
  await writeFile(path.join(folder, 'set', 'more', 'clear.png'), await picture('#00000000', 4));
  await writeFile(path.join(folder, 'set', 'more', 'clear.txt'), 'nothing to see');
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

async function write(name: string, text: string | Uint8Array): Promise<string> {
  const file = path.join(folder, name);
  await writeFile(file, text);
  return file;
}

const size = 4;

describe('openPairs', () => {
  it('reads JSONL', async () => {
    const file = await write(
      'good.jsonl',
      '\uFEFF{"image":"set/red.png","caption":" red "}\n\n{"image":"set/more/clear.png","captions":["a","b"]}\r\n' +
        '{"image":"./set/red.png","caption":"again"}',
    );
    const pairs = await openPairs(file, { size });
    expect(pairs.length).toBe(3);
    expect([0, 1, 2].map((index) => pairs.captions(index))).toEqual([['red'], ['a', 'b'], ['again']]);
    expect(pairs.group(0)).toBe(pairs.group(2));
    expect(pairs.group(0)).not.toBe(pairs.group(1));
    const red = await pairs.image(0);
    expect(red.length).toBe(size * size * 3);
    expect([...red.subarray(0, 3)]).toEqual([255, 0, 0]);
    expect(new Set(await pairs.image(1))).toEqual(new Set([255]));
    expect(() => pairs.captions(3)).toThrow(expect.objectContaining({ code: 'MOME_INVALID_ARGUMENT' }));
  });

  it('reads CSV with quotes, commas and line breaks', async () => {
    const file = await write(
      'good.csv',
      'id,Caption,image\n1,"red, ""very""\nred",set/red.png\n\n2,clear,set/more/clear.png\n',
    );
    const pairs = await openPairs(file, { size });
    expect([0, 1].map((index) => pairs.captions(index))).toEqual([['red, "very"\nred'], ['clear']]);
  });

  it('reads a folder with captions beside the pictures', async () => {
    const pairs = await openPairs(path.join(folder, 'set'), { size });
    expect([0, 1].map((index) => pairs.captions(index))).toEqual([['nothing to see'], ['a red picture', 'red paper']]);
  });

  it.each([
    [
      'bad.jsonl',
      '{"image":"set/red.png","caption":"a"}\n{"image":',
      'MOME_INVALID_FILE',
      'bad.jsonl:2: expected a JSON',
    ],
    ['list.jsonl', '[1]', 'MOME_INVALID_FILE', 'list.jsonl:1: expected a JSON object'],
    ['none.jsonl', '{"image":"set/red.png"}', 'MOME_INVALID_FILE', 'got neither'],
    ['both.jsonl', '{"image":"a","caption":"b","captions":[]}', 'MOME_INVALID_FILE', 'got both'],
    ['empty.jsonl', '{"image":"set/red.png","captions":[]}', 'MOME_INVALID_FILE', '1 to 1000 captions, got 0'],
    ['blank.jsonl', '{"image":"set/red.png","caption":" "}', 'MOME_INVALID_FILE', 'expected a caption'],
    ['type.jsonl', '{"image":7,"caption":"a"}', 'MOME_INVALID_FILE', 'type.jsonl:1: expected "image"'],
    ['url.jsonl', '{"image":"https://a.b/c.png","caption":"a"}', 'MOME_UNSUPPORTED', 'local file'],
    ['gone.jsonl', '\n{"image":"set/gone.png","caption":"a"}', 'MOME_NOT_FOUND', 'gone.jsonl:2: expected a picture'],
    ['nothing.jsonl', '\n\n', 'MOME_INVALID_FILE', 'at least one picture'],
    ['long.jsonl', 'x'.repeat(2 ** 20 + 1), 'MOME_TOO_LARGE', 'long.jsonl:1: '],
    ['header.csv', 'file,text\na,b\n', 'MOME_INVALID_FILE', 'header.csv:1: expected a header'],
    ['cells.csv', 'image,caption\na,b,c\n', 'MOME_INVALID_FILE', 'cells.csv:2: expected 2 cells, got 3'],
    ['quote.csv', 'image,caption\na,"b\n\n', 'MOME_INVALID_FILE', 'quote.csv: expected comma-separated rows'],
    ['inner.csv', 'image,caption\na,b"c"\n', 'MOME_INVALID_FILE', 'inner.csv: expected comma-separated rows'],
    ['other.yaml', '{}', 'MOME_UNSUPPORTED', 'expected a folder'],
    ['other.json', '{}', 'MOME_INVALID_FILE', 'expected an object with a list "images"'],
  ])('refuses %s', async (name, text, code, message) => {
    const file = await write(name, text);
    await expect(openPairs(file, { size })).rejects.toMatchObject({ code, message: expect.stringContaining(message) });
  });

  it('refuses bytes that are not text, missing sources and lone pictures', async () => {
    const file = await write('bytes.jsonl', new Uint8Array([0x7b, 0xff, 0xfe, 0x0a]));
    await expect(openPairs(file, { size })).rejects.toMatchObject({ code: 'MOME_INVALID_FILE' });
    await expect(openPairs(path.join(folder, 'no.csv'), { size })).rejects.toMatchObject({ code: 'MOME_NOT_FOUND' });
    await expect(openPairs(file, { size: 0 })).rejects.toMatchObject({ code: 'MOME_INVALID_ARGUMENT' });
    await mkdir(path.join(folder, 'lone'));
    await writeFile(path.join(folder, 'lone', 'a.png'), '');
    await expect(openPairs(path.join(folder, 'lone'), { size })).rejects.toMatchObject({ code: 'MOME_NOT_FOUND' });
  });

  it('names the line of a picture that cannot be decoded', async () => {
    await write('fake.png', 'not a picture');
    const file = await write('decode.jsonl', '{"image":"fake.png","caption":"a"}\n{"image":"gone.png","caption":"a"}');
    const pairs = await openPairs(file, { size, checkFiles: false });
    await expect(pairs.image(0)).rejects.toMatchObject({
      code: 'MOME_INVALID_IMAGE',
      message: expect.stringContaining('decode.jsonl:1: '),
    });
    await expect(pairs.image(1)).rejects.toMatchObject({ code: 'MOME_NOT_FOUND' });
    await write('large.svg', '<svg xmlns="http://www.w3.org/2000/svg" width="30000" height="30000"/>');
    const large = await write('large.jsonl', '{"image":"large.svg","caption":"a"}');
    await expect((await openPairs(large, { size })).image(0)).rejects.toMatchObject({ code: 'MOME_TOO_LARGE' });
  });

  it('gives the bytes that inference gives', async () => {
    // A colour profile that is not applied, and more detail than the size keeps.
    const pixels = testImage(5, 90);
    await sharp(pixels.data, { raw: pixels }).withIccProfile('p3').png().toFile(path.join(folder, 'profile.png'));
    const file = await write('profile.jsonl', '{"image":"profile.png","caption":"a"}');
    const image = await (await openPairs(file, { size: 32 })).image(0);
    expect(image).toEqual(await prepareImage(path.join(folder, 'profile.png'), 32));
  });
});

describe('text pieces', () => {
  async function* pieces(text: string, cuts: readonly number[]): AsyncGenerator<Uint8Array> {
    const bytes = new TextEncoder().encode(text);
    const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
    for (let at = 1; at < places.length; at++) yield bytes.subarray(places[at - 1], places[at]);
  }

  it('gives back any table, wherever the stream is cut', async () => {
    const cell = fc.string({ unit: fc.constantFrom('a', '"', ',', '\n', 'é', '😀', ' '), maxLength: 6 });
    const table = fc.array(fc.array(cell, { minLength: 2, maxLength: 3 }), { minLength: 1, maxLength: 5 });
    await fc.assert(
      fc.asyncProperty(table, fc.array(fc.nat(200), { maxLength: 6 }), async (rows, cuts) => {
        const text = rows.map((row) => row.map((value) => `"${value.replaceAll('"', '""')}"`).join(',')).join('\r\n');
        const read: CsvRow[] = [];
        for await (const row of parseCsv(pieces(text, cuts), 'table')) read.push(row);
        expect(read.map((row) => row.cells)).toEqual(rows);
      }),
      { numRuns: 100, seed: 1 },
    );
  });

  it('ends with a coded error or not at all on any bytes', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 60 }), async (bytes) => {
        async function* once(): AsyncGenerator<Uint8Array> {
          yield bytes;
        }
        try {
          for await (const row of parseCsv(once(), 'bytes')) expect(row.cells.length).toBeGreaterThan(0);
        } catch (error) {
          expect(error).toMatchObject({ code: 'MOME_INVALID_FILE' });
        }
      }),
      { numRuns: 200, seed: 1 },
    );
  });

  it('numbers lines from 1', async () => {
    const lines: unknown[] = [];
    for await (const line of splitLines(pieces('a\r\n\nb', [2]), 'text')) lines.push(line);
    expect(lines).toEqual([
      { text: 'a', line: 1 },
      { text: '', line: 2 },
      { text: 'b', line: 3 },
    ]);
  });
});

describe('sampleBatches', () => {
  const dataset = { length: 23 };
  const list = (options: { from?: BatchPosition; seed?: number; keepLast?: boolean; neighbours?: number }) => [
    ...sampleBatches(dataset, { batchSize: 5, seed: 3, epochs: 3, ...options }),
  ];

  it('shows every item at most once per epoch, in a new order each', () => {
    const batches = list({});
    expect(batches.length).toBe(12);
    const epochs = [0, 1, 2].map((epoch) => batches.filter((b) => b.epoch === epoch).flatMap((b) => [...b.indices]));
    for (const order of epochs) expect(new Set(order).size).toBe(20);
    expect(epochs[0]).not.toEqual(epochs[1]);
    expect(list({ seed: 4 })[0]!.indices).not.toEqual(batches[0]!.indices);
  });

  it('keeps the last batch when asked', () => {
    const batches = list({ keepLast: true });
    expect(batches.length).toBe(15);
    expect(batches[4]!.indices.length).toBe(3);
    const all = batches.slice(0, 5).flatMap((batch) => [...batch.indices]);
    expect(all.sort((a, b) => a - b)).toEqual(Array.from({ length: 23 }, (_, index) => index));
  });

  it('goes on from any position', () => {
    const batches = list({});
    for (let at = 0; at < batches.length; at++) {
      expect(list({ from: batches[at]!.next })).toEqual(batches.slice(at + 1));
    }
    expect(list({ from: { epoch: 1, step: 4 } })).toEqual(batches.slice(8));
  });

  it('keeps neighbours together, and still shows every item once', () => {
    const batches = list({ neighbours: 5, keepLast: true });
    const order = batches.slice(0, 5).flatMap((batch) => [...batch.indices]);
    expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: 23 }, (_, index) => index));
    // Five runs, one of them of three items: only where two runs meet does an item not follow the one before it.
    const jumps = order.filter((index, at) => at > 0 && index !== (order[at - 1]! + 1) % 23).length;
    expect(jumps).toBeGreaterThan(0);
    expect(jumps).toBeLessThanOrEqual(4);
    expect(list({ neighbours: 5, from: batches[1]!.next })[0]).toEqual(list({ neighbours: 5 })[2]);
    expect(() => list({ neighbours: 0 })).toThrow(expect.objectContaining({ code: 'MOME_INVALID_ARGUMENT' }));
  });

  it('refuses what gives no batch', () => {
    const argument = expect.objectContaining({ code: 'MOME_INVALID_ARGUMENT' });
    expect(() => batchesPerEpoch(dataset, { batchSize: 24 })).toThrow(argument);
    expect(() => batchesPerEpoch({ length: 0 }, { batchSize: 1, keepLast: true })).toThrow(argument);
    expect(() => batchesPerEpoch(dataset, { batchSize: 0 })).toThrow(argument);
    expect(() => list({ from: { epoch: 0, step: 5 } })).toThrow(argument);
    expect(() => list({ from: { epoch: -1, step: 0 } })).toThrow(argument);
  });
});
