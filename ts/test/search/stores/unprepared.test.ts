/** Sources, rows and moments that nobody prepared: streams, memory that is used again, equal rows, writes among searches, damaged files. */
import { createReadStream } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { setTimeout as wait } from 'node:timers/promises';
import { runInNewContext } from 'node:vm';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Vlmo } from '../../../src/inference/index.ts';
import { exactBackend, type SqliteDatabase, sqliteBackend, VectorStore } from '../../../src/search/index.ts';
import { expectCode, temporaryFolder, testImage, tinyModel } from '../../helpers.ts';
import { allPlaces, type Place, postgres, sqlite } from './places.ts';

let model: Vlmo;
let folder = '';
let places: readonly Place[];
let files: Buffer[];
beforeAll(async () => {
  [model, places, folder] = await Promise.all([Vlmo.load(await tinyModel()), allPlaces(), temporaryFolder()]);
  const png = (seed: number) => {
    const image = testImage(seed, 40);
    return sharp(image.data, { raw: image }).png().toBuffer();
  };
  files = await Promise.all([png(1), png(2), png(3)]);
}, 120_000);
afterAll(async () => {
  await model.dispose();
  await (await postgres()).close();
});

/** A vector along one dimension, and a little of another. */
function along(dimension: number, other = dimension): Float32Array {
  const row = new Float32Array(model.config.width);
  row[other] = 0.6;
  row[dimension] = dimension === other ? 1 : 0.8;
  return row;
}

describe('items of a source', () => {
  it('are streams, of which each is read once, also when another picture of their batch cannot be read', async () => {
    const store = await VectorStore.open(model);
    const slow = async function* () {
      for (let at = 0; at < files[1]!.length; at += 200) {
        yield files[1]!.subarray(at, at + 200);
        await wait(1);
      }
    };
    const failed: string[] = [];
    const items = [
      { id: 'response', image: new Response(new Uint8Array(files[0]!)) },
      { id: 'gone', image: join(folder, 'gone.png') },
      { id: 'slow', image: Readable.from(slow()) },
      { id: 'used', image: createReadStream(join(folder, 'gone too.png')) },
      { id: 'web', image: new Blob([new Uint8Array(files[2]!)]).stream() },
    ];
    const done = await store.add(items, { onError: (id) => failed.push(id) });
    expect(failed.sort()).toEqual(['gone', 'used']);
    expect(done).toEqual({ added: 3, present: 0, failed: 2 });
    const { embeddings } = await model.embedImages([files[1]!]);
    expect((await store.query(embeddings, 1))[0]).toMatchObject({ id: 'slow' });
  });

  it('may fail while the source makes the next one: that ends no process', async () => {
    const store = await VectorStore.open(model);
    const failed: string[] = [];
    const source = async function* () {
      yield { id: 'gone', image: createReadStream(join(folder, 'gone.png')) };
      await wait(100); // the stream fails meanwhile
      yield { id: 'good', image: files[0]! };
    };
    const done = await store.add(source(), { onError: (id) => failed.push(id) });
    expect([failed, done.added]).toEqual([['gone'], 1]);
  });

  it('may share the memory of one buffer', async () => {
    const store = await VectorStore.open(model);
    const shared = Buffer.alloc(Math.max(...files.map(({ length }) => length)));
    const source = function* () {
      for (const [i, file] of files.entries()) {
        shared.fill(0);
        file.copy(shared);
        yield { id: `file ${i}`, image: shared.subarray(0, file.length) };
      }
    };
    expect(await store.add(source())).toMatchObject({ added: 3 });
    const rows = (await model.embedImages(files)).rows();
    for (const [i, row] of rows.entries()) {
      const [best] = await store.query(row.slice(), 1);
      expect(best!.id).toBe(`file ${i}`);
      expect(best!.similarity).toBeCloseTo(1, 5);
    }
  });

  it('are waited for no longer than the signal allows, and their source is ended', async () => {
    const store = await VectorStore.open(model);
    const stop = new AbortController();
    let isEnded = false;
    let goOn = () => {};
    const source = async function* () {
      try {
        yield { id: 'first', image: files[0]! };
        await new Promise<void>((resolve) => {
          goOn = resolve;
        });
        yield { id: 'second', image: files[1]! };
      } finally {
        isEnded = true;
      }
    };
    setTimeout(() => stop.abort(), 50);
    await expectCode(() => store.add(source(), { signal: stop.signal }), 'MOME_ABORTED');
    goOn();
    await wait(10);
    expect(isEnded).toBe(true);
  }, 10_000);
});

describe('rows', () => {
  it.each(['exact', 'postgres', 'sqlite'])('%s: of the same vector come by their ids, however many', async (name) => {
    const place = places.find((each) => each.name === name)!;
    const store = await VectorStore.open(model, place.open('equal'));
    // (In UTF-16 the first of these would stand behind the second.)
    const ids = [...Array.from({ length: 70 }, (_, i) => `row ${String(70 - i).padStart(2, '0')}`), '\uffee', '😀'];
    await store.upsert(ids.map((id) => ({ id, vector: along(1) })));
    await store.upsert([{ id: 'z nearer', vector: along(0, 1) }]);
    const found = await store.query(along(0, 1), 4);
    expect(found.map(({ id }) => id)).toEqual(['z nearer', 'row 01', 'row 02', 'row 03']);
    const all = await store.query(along(0, 1), 100);
    expect(all.map(({ id }) => id)).toEqual(['z nearer', ...ids.slice(0, 70).reverse(), '\uffee', '😀']);
    await store.close();
  });

  it.each(['exact', 'postgres', 'sqlite'])('%s: keep fields whose names objects have of their own', async (name) => {
    const place = places.find((each) => each.name === name)!;
    const store = await VectorStore.open(model, place.open('named'));
    const metadata = JSON.parse('{ "__proto__": 5, "constructor": "c", "toString": true }');
    await store.upsert([{ id: '__proto__', vector: along(0), metadata }]);
    await store.close();
    const again = await VectorStore.open(model, place.open('named'));
    const [found] = await again.query(along(0), 1, { filter: JSON.parse('{ "__proto__": { "gte": 5 } }') });
    expect(found?.id).toBe('__proto__');
    expect(Object.entries(found!.metadata).sort()).toEqual(Object.entries(metadata).sort());
    expect(await again.count({ filter: { valueOf: 1 } as never })).toBe(0);
    await again.close();
  });

  it.each(['exact', 'postgres', 'sqlite'])(
    '%s: are bounded by numbers of any size, also the same one',
    async (name) => {
      const place = places.find((each) => each.name === name)!;
      const store = await VectorStore.open(model, place.open('numbers'));
      // (Nanoseconds since 1970, whole numbers that no double holds exactly, and numbers with many digits.)
      const numbers = [
        -1e300,
        -0.1,
        0,
        5e-324,
        0.1 + 0.2,
        1614241259012813000,
        1614241259012813300,
        2 ** 63,
        1e21,
        1.7e308,
      ];
      await store.upsert(numbers.map((at, i) => ({ id: `row ${i}`, vector: along(0), metadata: { at } })));
      const counts = async (op: 'gt' | 'gte' | 'lt' | 'lte') =>
        Promise.all(numbers.map((at) => store.count({ filter: { at: { [op]: at } } })));
      const ranks = numbers.map((_, i) => i);
      expect(await counts('lt')).toEqual(ranks);
      expect(await counts('lte')).toEqual(ranks.map((i) => i + 1));
      expect(await counts('gt')).toEqual(ranks.map((i) => 9 - i));
      expect(await counts('gte')).toEqual(ranks.map((i) => 10 - i));
      await store.close();
    },
  );

  it('are arrays of any realm, as test runners make them', async () => {
    const store = await VectorStore.open(model);
    const vector = runInNewContext(`new Float32Array(${model.config.width})`) as Float32Array;
    vector[3] = 1;
    await store.upsert([{ id: 'other realm', vector }]);
    expect((await store.query(vector, 1))[0]).toMatchObject({ id: 'other realm', similarity: 1 });
  });

  it('of another tenant are not given, also when they take the place of one that was found', async () => {
    const database = sqlite();
    const store = await VectorStore.open(model, sqliteBackend(database, { table: 'rows' }));
    await store.upsert([{ id: 'mine', vector: along(0), metadata: { tenant: 'a' } }]);
    let isReplaced = false;
    const between: SqliteDatabase = {
      exec: (text) => database.exec(text),
      prepare(text) {
        // The read of the rows that were found.
        if (text.startsWith('SELECT id, vector, metadata') && !isReplaced) {
          isReplaced = true;
          database.exec(`UPDATE rows SET metadata = '{"tenant":"b"}' WHERE id = 'mine'`);
        }
        return database.prepare(text);
      },
    };
    const through = await VectorStore.open(model, sqliteBackend(between, { table: 'rows' }));
    expect(await through.query(along(0), 1, { filter: { tenant: 'a' } })).toEqual([]);
    expect(isReplaced).toBe(true);
    expect(await store.query(along(0), 1, { filter: { tenant: 'b' } })).toHaveLength(1);
    database.close();
  });

  it('are written among searches that never pause, and both go on', async () => {
    const store = await VectorStore.open(model);
    await store.upsert(Array.from({ length: 2000 }, (_, i) => ({ id: `row ${i}`, vector: along(i % 8) })));
    let isDone = false;
    let searches = 0;
    const searching = Array.from({ length: 4 }, async () => {
      for (; !isDone; searches++) await store.query(along(0), 5);
    });
    const before = searches;
    const written = (async () => {
      for (let i = 0; i < 20; i++) await store.upsert([{ id: `new ${i}`, vector: along(9) }]);
      return 'written';
    })();
    const late = wait(5000, 'late', { ref: false });
    expect(await Promise.race([written, late])).toBe('written');
    await wait(20);
    expect(searches).toBeGreaterThan(before);
    isDone = true;
    await Promise.all([written, ...searching]);
    expect(await store.count()).toBe(2020);
  }, 30_000);
});

it('a file that is damaged ahead of its last batch is refused and left as it is', async () => {
  const file = join(folder, 'damaged.vectors');
  const store = await VectorStore.open(model, exactBackend({ file }));
  for (let i = 0; i < 4; i++)
    await store.upsert(Array.from({ length: 50 }, (_, j) => ({ id: `${i} ${j}`, vector: along(j % 8) })));
  await store.close();
  const whole = await readFile(file);
  const at = (share: number) => {
    const damaged = Buffer.from(whole);
    damaged[Math.floor(share * whole.length)]! ^= 1;
    return damaged;
  };
  await writeFile(file, at(0.3));
  const error = await expectCode(() => VectorStore.open(model, exactBackend({ file })), 'MOME_INVALID_FILE');
  expect(error.message).toContain('damaged');
  expect((await readFile(file)).equals(at(0.3))).toBe(true);
  // In the last batch it may be a write that did not end.
  await writeFile(file, at(0.95));
  const again = await VectorStore.open(model, exactBackend({ file }));
  expect(await again.count()).toBeGreaterThan(150);
  await again.close();
});

it('a model is expected, and nothing that only looks like one', async () => {
  const batcher = model.batcher() as unknown as Vlmo;
  const error = await expectCode(() => VectorStore.open(batcher), 'MOME_INVALID_ARGUMENT');
  expect(error.message).toMatch(/expected a Vlmo, got Batcher/);
});
