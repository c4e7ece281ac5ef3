/** Loading pictures of files: augmentation in decoders, damaged files, speed. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { prepareTraining } from '../../../src/image/prepare.ts';
import { drawTransform } from '../../../src/train/data/augment-original.ts';
import type { Dataset } from '../../../src/train/data/dataset.ts';
import { BatchLoader, type LoadedBatch } from '../../../src/train/data/loader.ts';
import { openDataset } from '../../../src/train/data/open.ts';
import { createRandom } from '../../../src/train/random.ts';
import { tokenizer } from './drawn-data.ts';

const pictures = 48;
let folder = '';
let dataset: Dataset;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'mome-pictures-'));
  for (let i = 0; i < pictures; i++) {
    const random = createRandom(i);
    const [width, height] = [60 + (i % 5) * 10, 50 + (i % 3) * 20];
    const data = Uint8Array.from({ length: 3 * width * height }, (_, at) => ((at * (i + 3)) >> 6) + random.integer(32));
    await sharp(data, { raw: { width, height, channels: 3 } })
      .jpeg()
      .toFile(path.join(folder, `${1000 + i}.jpg`));
    await writeFile(path.join(folder, `${1000 + i}.txt`), `picture ${i}`);
  }
  dataset = await openDataset({ files: folder });
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

const base = { config: { imageSize: 64 }, tokenizer, batchSize: 12, seed: 3 } as const;

async function batchesOf(set: Dataset, count: number, options: object): Promise<LoadedBatch[]> {
  const loader = new BatchLoader(set, { ...base, ...options });
  const batches: LoadedBatch[] = [];
  for (let i = 0; i < count; i++) batches.push(await loader.next());
  loader.close();
  return batches;
}

const bytesOf = (batches: readonly LoadedBatch[]) =>
  batches.map(({ training }) => Buffer.from(training.bytes!).toString('base64'));

describe('loading pictures', () => {
  it.each(['original', 'beit'] as const)('gives the same batches whatever is made ahead: %s', async (augment) => {
    const first = await batchesOf(dataset, 2, { augment });
    expect(bytesOf(await batchesOf(dataset, 2, { augment, prefetch: 0 }))).toEqual(bytesOf(first));
    const from = first[0]!.position;
    expect(bytesOf(await batchesOf(dataset, 1, { augment, from }))).toEqual(bytesOf(first.slice(1)));
    const ranks = await Promise.all([0, 1].map((rank) => batchesOf(dataset, 1, { augment, rank, ranks: 2 })));
    const joined = Buffer.concat(ranks.map(([batch]) => batch!.training.bytes!));
    expect(joined.equals(first[0]!.training.bytes!)).toBe(true);
    // The next epoch shows the pictures in another order, and with augmentation otherwise.
    const next = await batchesOf(dataset, 1, { augment, from: { epoch: 1, step: 0 } });
    expect(bytesOf(next)).not.toEqual(bytesOf(first.slice(0, 1)));
  });

  it('makes each picture as it says', async () => {
    const [batch] = await batchesOf(dataset, 1, { augment: 'original' });
    const name = batch!.origins[5]!;
    const index = Number(path.basename(name, path.extname(name))) - 1000;
    const transform = drawTransform('original', createRandom(3, 0, index, 4));
    const expected = await prepareTraining(path.join(folder, `${1000 + index}.jpg`), 64, { transform });
    expect(Buffer.from(batch!.training.bytes!.subarray(5 * 3 * 64 * 64, 6 * 3 * 64 * 64)).equals(expected)).toBe(true);
    const other = await prepareTraining(path.join(folder, `${1000 + index}.jpg`), 64, {});
    expect(Buffer.from(other).equals(expected)).toBe(false);
  });

  it('skips pictures that are cut off or missing, and names them', async () => {
    const whole = await sharp(path.join(folder, '1000.jpg')).toBuffer();
    const lines: string[] = [];
    for (let i = 0; i < 40; i++) lines.push(JSON.stringify({ image: `${1000 + i}.jpg`, caption: `picture ${i}` }));
    await writeFile(path.join(folder, 'cut.jpg'), whole.subarray(0, whole.length / 2));
    lines.push('{"image": "cut.jpg", "caption": "cut"}', '{"image": "gone.jpg", "caption": "gone"}');
    const list = path.join(folder, 'some.jsonl');
    await writeFile(list, lines.join('\n'));
    const loader = new BatchLoader(await openDataset({ files: list }), { ...base, batchSize: 42, augment: 'original' });
    const { origins, training } = await loader.next();
    loader.close();
    expect(training.texts.length).toBe(42);
    expect(origins.filter((origin) => /:4[12]$/.test(origin))).toEqual([]);
    const { skipped } = loader.statistics;
    expect([...skipped].map(({ origin }) => path.basename(origin)).sort()).toEqual(['some.jsonl:41', 'some.jsonl:42']);
    expect(skipped.find(({ origin }) => origin.endsWith(':42'))!.message).toMatch(
      /gone.jpg: expected a picture file, found none/,
    );
  });

  it('does not turn pictures or show what lies under transparency where the rules are the original ones', async () => {
    const clear = await sharp(Buffer.from([9, 8, 7, 0, 100, 100, 100, 255]), {
      raw: { width: 2, height: 1, channels: 4 },
    })
      .withMetadata({ orientation: 6 })
      .png()
      .toBuffer();
    const upright = await prepareTraining(clear, 2, {});
    expect([...upright.subarray(0, 3)]).toEqual([255, 255, 255]);
    expect([...upright.subarray(3, 6)]).toEqual([255, 255, 255]);
    const original = await prepareTraining(clear, 2, { rules: 'original' });
    expect([...original.subarray(0, 3)]).toEqual([9, 8, 7]);
    expect([...original.subarray(3, 6)]).toEqual([100, 100, 100]);
  });

  it('is ready before a step that takes longer than decoding', async () => {
    const waited = async (prefetch: number): Promise<number> => {
      const loader = new BatchLoader(dataset, { ...base, batchSize: 8, augment: 'original', prefetch });
      await loader.next();
      const before = loader.statistics.waitedSeconds;
      for (let step = 0; step < 5; step++) {
        await new Promise((done) => setTimeout(done, 300));
        await loader.next();
      }
      loader.close();
      return loader.statistics.waitedSeconds - before;
    };
    const unprepared = await waited(0);
    expect(await waited(3)).toBeLessThan(unprepared / 2);
  });
});

describe('drawTransform', () => {
  it('draws what the original draws, as often', () => {
    const counts = new Map<string, number>();
    let flips = 0;
    const draws = 10_000;
    for (let i = 0; i < draws; i++) {
      const { crop, flip, after, before } = drawTransform('original', createRandom(1, i));
      expect(before).toBeUndefined();
      expect(crop!.tries.length).toBe(10);
      expect(crop!.tries.every(({ area, ratio }) => area >= 0.5 && area < 1 && ratio >= 0.75 && ratio <= 4 / 3)).toBe(
        true,
      );
      flips += Number(flip);
      for (const operation of after!) {
        const key = JSON.stringify(operation);
        counts.set(key, (counts.get(key) ?? 0) + 1);
      }
    }
    expect(Math.abs(flips / draws - 0.5)).toBeLessThan(0.02);
    // Two draws, each applied every second time: one of ten without a sign is there 0.1 times a picture, one of each sign 0.05 times.
    for (const [key, count] of counts)
      expect(Math.abs(count / draws - (/slope|pixels|degrees/.test(key) ? 0.05 : 0.1))).toBeLessThan(0.015);
    expect([...counts.keys()].sort()).toEqual(
      [
        '{"name":"autocontrast"}',
        '{"name":"equalize"}',
        '{"name":"brightness","factor":1.36}',
        '{"name":"sharpness","factor":1.36}',
        ...[0.21, -0.21].flatMap((slope) => ['X', 'Y'].map((axis) => JSON.stringify({ name: `shear${axis}`, slope }))),
        ...[7, -7].flatMap((pixels) => ['X', 'Y'].map((axis) => JSON.stringify({ name: `translate${axis}`, pixels }))),
        ...[21, -21].map((degrees) => JSON.stringify({ name: 'rotate', degrees })),
      ].sort(),
    );
  });

  it('draws what the first stage draws', () => {
    const orders = new Set<string>();
    for (let i = 0; i < 500; i++) {
      const { before, crop, after } = drawTransform('beit', createRandom(2, i));
      expect(after).toBeUndefined();
      expect(Math.min(...crop!.tries.map(({ area }) => area))).toBeGreaterThanOrEqual(0.08);
      orders.add(before!.map(({ name }) => name).join());
      for (const operation of before!)
        expect('factor' in operation && operation.factor >= 0.6 && operation.factor <= 1.4).toBe(true);
    }
    expect(orders.size).toBe(6);
  });
});
