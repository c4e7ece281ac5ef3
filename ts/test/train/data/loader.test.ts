import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { MomeError } from '../../../src/runtime/errors.ts';
import { augmentDefaults } from '../../../src/train/data/augment.ts';
import { type Dataset, datasetOfPairs, everyText, joined, textsOf } from '../../../src/train/data/dataset.ts';
import { BatchLoader, type LoadedBatch } from '../../../src/train/data/loader.ts';
import { epochOrder } from '../../../src/train/data/order.ts';
import { everyCaption, sampleBatches } from '../../../src/train/data/pairs.ts';
import { drawings, photographs, tokenizer } from './drawn-data.ts';

const base = { config: { imageSize: 8 }, tokenizer, batchSize: 6, seed: 5 } as const;

async function batchesOf(loader: BatchLoader, count: number): Promise<LoadedBatch[]> {
  const batches: LoadedBatch[] = [];
  for (let i = 0; i < count; i++) batches.push(await loader.next());
  loader.close();
  return batches;
}

const plain = ({ training, position }: LoadedBatch) => ({
  bytes: [...(training.bytes ?? [])],
  texts: training.texts.map((text) => [...text]),
  groups: [...training.groups!],
  position,
});

/** Pictures of 2 x 2 pixels whose values are their index, with one text; those in `broken` cannot be read. */
function numbered(length: number, broken: (index: number) => boolean = () => false, chunkStarts?: number[]): Dataset {
  return {
    length,
    picturesPerItem: 1,
    pixels: { size: 2, channels: 3 },
    ...(chunkStarts && { chunkStarts: Uint32Array.from(chunkStarts) }),
    async item(index) {
      // Later items are there sooner.
      await new Promise((done) => setTimeout(done, (length - index) % 5));
      if (broken(index)) throw new MomeError('MOME_INVALID_IMAGE', 'expected a picture, got noise');
      return { pictures: [{ pixels: new Uint8Array(12).fill(index) }], texts: [String(index)], group: index };
    },
    origin: (index) => `set: item ${index}`,
    async *itemTexts() {
      for (let index = 0; index < length; index++) yield [String(index)];
    },
    fingerprint: async () => String(length),
    close() {},
  };
}

describe('BatchLoader', () => {
  // Hashes of what the first version of the trainer made of the same data.
  it.each([
    ['drawings', 1, true, 'cd3f3a8f7aaac8acc2c07660ca6ffc447b0be53d0f66ae6304802dccf6c0b062'],
    ['drawings', 1, false, '8ac4e2b9f3b26d519e5624737981abfe1ce4ca3f01c6ee1c4bc3179f2a426e12'],
    ['drawings', 3, true, '47c4d9331a29b38ac05085c13387a0607499704183fac787af77315853551710'],
    ['drawings', 3, false, '2c93f2e367046d7f28eb2fd67744c7db43afbc2774cf048e78fe6bafe44aa78e'],
    ['photographs', 1, true, '957cfc2856040081575e0bb80c81aa2dd5e3511421263afe2172ad8fb99cf46d'],
    ['photographs', 1, false, '4d9d78b7bdc525144ebd62e2a07ad48b6dc0a3ce4e91af602c8dda505bbfec9f'],
    ['photographs', 3, true, '7d2d54611a097cfea0dfa62df470b5edbe6e9bef7518ac06ef66224359be6dc4'],
    ['photographs', 3, false, 'c114553b15e6207a0e2ca71d0057b688b4af017d3e1b9798202dc4c167717b27'],
  ] as const)(
    'makes the batches of recipes of old: %s, neighbours %i, pictures %s',
    async (name, neighbours, pictures, expected) => {
      const loader = new BatchLoader(datasetOfPairs(name === 'drawings' ? drawings : photographs), {
        ...base,
        neighbours,
        pictures,
        augment: { ...augmentDefaults, flip: 0.5 },
        from: { epoch: 1, step: 1 },
      });
      const hash = createHash('sha256');
      for (const { training, position } of await batchesOf(loader, 5)) {
        const { bytes = new Uint8Array(0), texts, groups } = training;
        hash.update(bytes).update(JSON.stringify([texts.map((text) => [...text]), [...groups!], position]));
      }
      expect(hash.digest('hex')).toBe(expected);
    },
  );

  it('goes on at a position as if it had not stopped, however much is made ahead', async () => {
    const options = { ...base, augment: augmentDefaults };
    const whole = await batchesOf(new BatchLoader(datasetOfPairs(drawings), options), 7);
    const from = whole[3]!.position;
    const rest = await batchesOf(new BatchLoader(datasetOfPairs(drawings), { ...options, from, prefetch: 0 }), 3);
    expect(rest.map(plain)).toEqual(whole.slice(4).map(plain));
    const other = await batchesOf(new BatchLoader(datasetOfPairs(drawings), { ...options, seed: 6, from }), 3);
    expect(other.map(plain)).not.toEqual(whole.slice(4).map(plain));
  });

  it.each([
    ['drawn', { ...base, augment: augmentDefaults }],
    ['plain', base],
  ])('gives ranks the parts of one batch: %s', async (_, options) => {
    const set = () => datasetOfPairs(drawings);
    const whole = (await batchesOf(new BatchLoader(set(), options), 4)).map(plain);
    const parts = await Promise.all(
      [0, 1, 2].map((rank) => batchesOf(new BatchLoader(set(), { ...options, rank, ranks: 3 }), 4)),
    );
    for (const [i, batch] of whole.entries()) {
      const of = parts.map((part) => plain(part[i]!));
      expect(of.flatMap(({ bytes }) => bytes)).toEqual(batch.bytes);
      expect(of.flatMap(({ texts }) => texts)).toEqual(batch.texts);
      expect(of.flatMap(({ groups }) => groups)).toEqual(batch.groups);
      for (const { position } of of) expect(position).toEqual(batch.position);
    }
    expect(() => new BatchLoader(set(), { ...options, rank: 3, ranks: 3 })).toThrow('a rank below');
  });

  it('replaces damaged items by the same others, counts and names them', async () => {
    const make = async (options: object) => {
      const loader = new BatchLoader(
        numbered(40, (index) => index % 10 === 3),
        {
          ...base,
          config: { imageSize: 2 },
          maxSkippedShare: 0.5,
          ...options,
        },
      );
      const batches = await batchesOf(loader, 12);
      return { batches: batches.map(plain), origins: batches.flatMap(({ origins }) => origins), ...loader.statistics };
    };
    const { batches, origins, skipped, skippedCount, samples } = await make({});
    expect(samples).toBe(72);
    expect(skippedCount).toBeGreaterThan(4);
    expect(skipped[0]).toEqual({
      origin: expect.stringMatching(/^set: item \d?3$/),
      message: expect.stringMatching(/^set: item \d?3: expected a picture, got noise$/),
    });
    expect(origins.some((origin) => origin.endsWith('3'))).toBe(false);
    expect((await make({ prefetch: 0 })).batches).toEqual(batches);
    const ranks = await Promise.all([0, 1].map((rank) => make({ rank, ranks: 2 })));
    expect(ranks[0]!.skippedCount + ranks[1]!.skippedCount).toBe(skippedCount);
    expect(batches.map(({ texts }) => texts)).toEqual(
      batches.map((_, i) => ranks.flatMap(({ batches: part }) => part[i]!.texts)),
    );
  });

  it('ends when more items are damaged than allowed', async () => {
    const broken = numbered(40, (index) => index % 10 === 3);
    const loader = new BatchLoader(broken, { ...base, config: { imageSize: 2 } });
    await expect(batchesOf(loader, 30)).rejects.toMatchObject({
      code: 'MOME_INVALID_FILE',
      message: expect.stringMatching(
        /at most 1 % damaged items, got \d+ of 1\d\d; the first: set: item \d?3: expected a picture/,
      ),
    });
    const all = new BatchLoader(
      numbered(40, () => true),
      { ...base, config: { imageSize: 2 } },
    );
    await expect(all.next()).rejects.toMatchObject({
      code: 'MOME_INVALID_FILE',
      message: expect.stringContaining('expected an undamaged item among 11, got none'),
    });
  });

  it('hands on failures that are not about an item', async () => {
    const failing = {
      ...numbered(40),
      item: async () => {
        throw new MomeError('MOME_IO', 'expected a disk');
      },
    };
    const loader = new BatchLoader(failing, { ...base, config: { imageSize: 2 } });
    await expect(loader.next()).rejects.toMatchObject({ code: 'MOME_IO' });
  });

  it('stops waiting when aborted, and gives the same batch afterwards', async () => {
    const slow = {
      ...numbered(40),
      item: async (index: number) => {
        await new Promise((done) => setTimeout(done, 60));
        return numbered(40).item(index);
      },
    };
    const loader = new BatchLoader(slow, { ...base, config: { imageSize: 2 } });
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 10);
    await expect(loader.next(stop.signal)).rejects.toMatchObject({ code: 'MOME_ABORTED' });
    const [first] = await batchesOf(loader, 1);
    const [again] = await batchesOf(new BatchLoader(numbered(40), { ...base, config: { imageSize: 2 } }), 1);
    expect(plain(first!)).toEqual(plain(again!));
    await expect(loader.next()).rejects.toMatchObject({ code: 'MOME_DISPOSED' });
    expect(loader.statistics.waitedSeconds).toBeGreaterThan(0.05);
  });
});

describe('order', () => {
  it('is that of sampleBatches without chunks', async () => {
    for (const neighbours of [1, 4]) {
      const [batch] = sampleBatches(
        { length: 50 },
        { batchSize: 50, seed: 3, from: { epoch: 2, step: 0 }, neighbours },
      );
      expect(await epochOrder({ length: 50 }, 3, 2, neighbours)).toEqual(batch!.indices);
    }
  });

  it('keeps to some chunks at a time, and has every item once', async () => {
    const length = 60_000;
    const chunkStarts = Uint32Array.from({ length: 30 }, (_, i) => i * 2000);
    const order = await epochOrder({ length, chunkStarts }, 1, 0, 1);
    expect(
      Uint32Array.from(order)
        .sort()
        .every((item, i) => item === i),
    ).toBe(true);
    const chunksOf = (items: Uint32Array) => new Set(Array.from(items, (item) => Math.floor(item / 2000)));
    for (let at = 0; at < length; at += 18_000) expect(chunksOf(order.subarray(at, at + 18_000)).size).toBeLessThan(11);
    // Within a window, chunks are mixed, and their items in no order.
    expect(chunksOf(order.subarray(0, 1000)).size).toBe(9);
    const next = await epochOrder({ length, chunkStarts }, 1, 1, 1);
    expect(chunksOf(next.subarray(0, 1000))).not.toEqual(chunksOf(order.subarray(0, 1000)));
  });
});

describe('data sets made of others', () => {
  it('has an item for each text', async () => {
    const each = await everyText(datasetOfPairs(photographs));
    const old = everyCaption(photographs);
    expect(each.length).toBe(old.length);
    for (let index = 0; index < each.length; index++) {
      const { texts, group, pictures } = await each.item(index);
      expect(texts).toEqual(old.captions(index));
      expect(group).toBe(old.group(index));
      expect(pictures).toEqual([{ pixels: await old.image(index) }]);
    }
    expect(each.origin(1)).toBe('item 0, text 2');
    const texts: string[] = [];
    for await (const text of textsOf(each)) texts.push(text);
    expect(texts).toEqual(Array.from({ length: old.length }, (_, index) => old.captions(index)[0]));
    await expect(each.item(each.length)).rejects.toMatchObject({ code: 'MOME_INVALID_ARGUMENT' });
    expect(await each.fingerprint()).not.toBe(await datasetOfPairs(photographs).fingerprint());
  });

  it('joins sets and keeps their groups and chunks apart', async () => {
    const both = joined([numbered(4, undefined, [0, 2]), numbered(3)]);
    expect(both.length).toBe(7);
    expect([...both.chunkStarts!]).toEqual([0, 2, 4]);
    expect((await both.item(5)).texts).toEqual(['1']);
    expect((await both.item(5)).group).toBe(5);
    expect(both.origin(6)).toBe('set: item 2');
  });
});
