/** The same rows in every place: the same results, filters, re-ranking and errors. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PGLiteSocketServer } from '@electric-sql/pglite-socket';
import pg from 'pg';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Vlmo } from '../../../src/inference/index.ts';
import {
  exactBackend,
  type Filter,
  type Metadata,
  postgresBackend,
  SearchIndex,
  sqliteBackend,
  type VectorRow,
  VectorStore,
} from '../../../src/search/index.ts';
import { matches, takeFilter } from '../../../src/search/stores/filter.ts';
import { expectCode, temporaryFolder, testImage, tinyModel } from '../../helpers.ts';
import { allPlaces, type Place, postgres, sqlite } from './places.ts';

let model: Vlmo;
let places: readonly Place[];
const names = ['exact', 'postgres', 'hnsw', 'sqlite'];
const placeOf = (name: string): Place => places.find((place) => place.name === name)!;
beforeAll(async () => {
  [model, places] = await Promise.all([Vlmo.load(await tinyModel()), allPlaces()]);
}, 120_000);
afterAll(async () => {
  await model.dispose();
  await (await postgres()).close();
});

let state = 7;
const next = () => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32;
};
function unit(): Float32Array {
  const row = Float32Array.from({ length: model.config.width }, () => next() + next() - 1);
  const length = Math.hypot(...row);
  return row.map((value) => value / length);
}

/** Metadata with every type, values that differ by type alone, and fields that are missing. */
function metadataOf(i: number): Metadata {
  const texts = ['red', 'Red', 'rot ü', '5', 'true', '', '😀', '\uffee', `it's "quoted"; DROP TABLE rows; --`];
  const numbers = [5, 5.5, -1, 0, 1e21, 0.1, 2 ** 60, 1e-300];
  return {
    mixed: [texts[i % texts.length]!, numbers[i % numbers.length]!, i % 4 === 0][i % 3]!,
    ...(i % 5 > 0 && { year: 2000 + (i % 17) }),
    ...(i % 2 > 0 && { colour: texts[i % texts.length]! }),
  };
}
const rowsOf = (count: number): VectorRow[] =>
  Array.from({ length: count }, (_, i) => ({ id: `row ${i} ü'"`, vector: unit(), metadata: metadataOf(i) }));

const filters: readonly Filter[] = [
  {},
  { colour: 'red' },
  { colour: `it's "quoted"; DROP TABLE rows; --` },
  { colour: '' },
  { mixed: 5 },
  { mixed: '5' },
  { mixed: true },
  { mixed: 'true' },
  { mixed: { in: [5, 'Red', false, 1e21, 2 ** 60] } },
  { mixed: { in: [] } },
  { mixed: { gte: 5 } },
  { mixed: { gt: -1, lt: 5.5 } },
  { mixed: { gt: 1e20 } },
  { mixed: { gte: 'r' } },
  { mixed: { gt: '\uffee' } },
  { mixed: { lte: 'Red' } },
  { year: { gte: 2003, lte: 2009 }, colour: { in: ['red', 'rot ü'] } },
  { missing: 1 },
  { year: { lt: '2003' } },
];

describe('a store', () => {
  const width = () => model.config.width;

  it.each(names)('%s: finds, filters and counts what a plain comparison does', async (name) => {
    const store = await VectorStore.open(model, placeOf(name).open('compared'));
    const rows = rowsOf(300);
    await store.upsert(rows);
    const query = unit();
    const cosine = ({ vector }: VectorRow) => vector.reduce((sum, value, i) => sum + value * query[i]!, 0);
    for (const filter of filters) {
      const conditions = takeFilter('test', filter);
      const matching = rows.filter(({ metadata }) => matches(conditions, metadata!));
      expect(await store.count({ filter }), JSON.stringify(filter)).toBe(matching.length);
      const wanted = matching
        .map((row) => ({ id: row.id, metadata: row.metadata, similarity: cosine(row) }))
        .sort((a, b) => b.similarity - a.similarity)
        .slice(0, 20);
      expect(await store.query(query, 20, { filter }), JSON.stringify(filter)).toEqual(wanted);
    }
    // Planted: a filter that means something else gives something else.
    expect(await store.count({ filter: { mixed: 5 } })).not.toBe(await store.count({ filter: { mixed: '5' } }));
    await store.close();
  });

  it.each(names)('%s: replaces and deletes rows, and keeps them', async (name) => {
    const place = placeOf(name);
    const store = await VectorStore.open(model, place.open('changed'));
    const rows = rowsOf(150);
    await store.upsert(rows);
    await store.upsert([...rows, { id: 'twice', vector: unit() }, { id: 'twice', vector: rows[3]!.vector }]);
    expect(await store.count()).toBe(151);
    expect((await store.query(rows[3]!.vector, 2)).map(({ id }) => id)).toEqual([rows[3]!.id, 'twice']);
    await store.upsert([{ id: 'twice', vector: rows[9]!.vector, metadata: { year: 1 } }]);
    expect((await store.query(rows[9]!.vector, 2))[1]).toMatchObject({ id: 'twice', metadata: { year: 1 } });
    expect(await store.delete([rows[0]!.id, rows[149]!.id, 'unknown', rows[0]!.id])).toBe(2);
    expect(await store.present([rows[0]!.id, rows[1]!.id, 'twice'])).toEqual(new Set([rows[1]!.id, 'twice']));
    await store.close();
    const again = await VectorStore.open(model, place.open('changed'));
    expect(await again.count()).toBe(149);
    expect((await again.query(rows[148]!.vector, 1))[0]!.id).toBe(rows[148]!.id);
    await again.close();
  });

  it.each(names)('%s: refuses another model, and what is no row, id, filter or table', async (name) => {
    const place = placeOf(name);
    const store = await VectorStore.open(model, place.open('refusing'));
    await store.upsert(rowsOf(2));
    const other = { fingerprint: 'f'.repeat(64), config: model.config, embedImages: () => {} } as unknown as Vlmo;
    await expectCode(() => VectorStore.open(other, place.open('refusing')), 'MOME_UNSUPPORTED');
    const vector = unit();
    const upsert = (row: object) => store.upsert([{ id: 'a', vector }, { id: 'b', vector, ...row } as VectorRow]);
    await expectCode(() => upsert({ vector: vector.map((value) => value * 1.1) }), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => upsert({ vector: vector.slice(1) }), 'MOME_INVALID_SHAPE');
    await expectCode(() => upsert({ vector: vector.with(0, Number.NaN) }), 'MOME_NON_FINITE');
    for (const id of ['', 'a\0', '\ud800', 'ü'.repeat(1001), 5])
      await expectCode(() => upsert({ id }), 'MOME_INVALID_ARGUMENT');
    for (const metadata of [
      { a: null },
      { a: Number.NaN },
      { 'a b': 1 },
      { a: '\0' },
      { a: ['x'] },
      'text',
      { "a'--": 1 },
    ])
      await expectCode(() => upsert({ metadata }), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => upsert({ metadata: { a: 'x'.repeat(2 ** 16) } }), 'MOME_TOO_LARGE');
    const wrong = [
      { a: null },
      { a: { gt: true } },
      { a: {} },
      { a: { in: 5 } },
      { a: { in: [null] } },
      { a: { like: 'x' } },
    ];
    for (const filter of [
      ...wrong,
      { a: { in: [1], gt: 0 } },
      { "a'": 1 },
      'a = 1',
      [],
      { a: { in: Array(1001).fill(1) } },
    ])
      await expectCode(() => store.query(vector, 1, { filter: filter as Filter }), 'MOME_INVALID_ARGUMENT');
    for (const k of [0, -1, 1.5, 10_001]) await expectCode(() => store.query(vector, k), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => store.query(vector, 1, { signal: AbortSignal.abort() }), 'MOME_ABORTED');
    expect(await store.count()).toBe(2);
    await store.close();
  });

  it('refuses tables and handles that are none', async () => {
    for (const table of ['', 'a"; DROP TABLE x; --', 'A', '1a', 'a.b.c', 'x'.repeat(49), 5]) {
      const options = { table: table as string };
      await expectCode(() => postgresBackend({ query: async () => ({ rows: [] }) }, options), 'MOME_INVALID_ARGUMENT');
      await expectCode(() => sqliteBackend(sqlite(), options), 'MOME_INVALID_ARGUMENT');
    }
    await expectCode(() => sqliteBackend(sqlite(), { table: 'a.b' }), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => postgresBackend({} as never, { table: 'a' }), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => VectorStore.open(model, {} as never), 'MOME_INVALID_ARGUMENT');
    const failing = postgresBackend({ query: () => Promise.reject(new Error('no connection')) }, { table: 'a' });
    const error = await expectCode(() => VectorStore.open(model, failing), 'MOME_IO');
    expect((error.cause as Error).message).toBe('no connection');
  });

  it('searches and re-ranks pictures as an index does, in every place', async () => {
    const folder = await temporaryFolder();
    const paths: string[] = [];
    for (let i = 0; i < 4; i++) {
      const image = testImage(i, 32);
      paths.push(join(folder, `${i}.png`));
      await sharp(image.data, { raw: image }).png().toFile(paths[i]!);
    }
    const index = await SearchIndex.build(model, paths);
    const query = 'a red square';
    const wanted = await index.search(query, { k: 4, rerank: 3 });
    for (const place of places) {
      const store = await VectorStore.open(model, place.open('pictures'));
      const items = paths.map((path, i) => ({ id: path, image: path, metadata: { even: i % 2 === 0 } }));
      const through = model.batcher();
      expect(await store.add(items, { through })).toEqual({ added: 4, present: 0, failed: 0 });
      expect(await store.add(items)).toEqual({ added: 0, present: 4, failed: 0 });
      const results = await store.search(query, { k: 4, rerank: 3, through });
      expect(results.map(({ id, match, dualRank }) => ({ path: id, match, dualRank }))).toEqual(
        wanted.map(({ path, match, dualRank }) => ({ path, match, dualRank })),
      );
      for (const [i, { score }] of results.entries()) expect(score).toBeCloseTo(wanted[i]!.score, 4);
      const even = await store.search({ image: paths[2]! }, { k: 2, filter: { even: true } });
      expect(even[0]!.id).toBe(paths[2]);
      expect(even.map(({ metadata }) => metadata.even)).toEqual([true, true]);
      const failed: string[] = [];
      const pictureOf = ({ id }: { id: string }) => (id === paths[0] ? join(folder, 'gone.png') : id);
      await store.search(query, { pictureOf, onError: (id) => failed.push(id) });
      expect(failed).toEqual([paths[0]]);
      await store.close();
    }
  }, 120_000);

  it('works with the client pg over a socket, also when several make the same table at once', async () => {
    const server = new PGLiteSocketServer({ db: await postgres(), port: 0, host: '127.0.0.1' });
    await server.start();
    const [host, port] = server.getServerConn().split(':');
    const pool = new pg.Pool({ host: host!, port: Number(port), max: 1, database: 'postgres', user: 'postgres' });
    try {
      const open = () => VectorStore.open(model, postgresBackend(pool, { table: 'public.over_socket' }));
      const [store] = await Promise.all([open(), open(), open()]);
      const rows = rowsOf(70);
      await Promise.all([store.upsert(rows), store.upsert(rows.toReversed())]);
      expect(await store.count({ filter: { year: { gte: 2005 } } })).toBeGreaterThan(0);
      const [best] = await store.query(rows[5]!.vector, 1);
      expect(best).toMatchObject({ id: rows[5]!.id, metadata: rows[5]!.metadata });
    } finally {
      await pool.end();
      await server.stop();
    }
  });

  it('keeps what PostgreSQL had when a batch fails', async () => {
    const database = await postgres();
    const store = await VectorStore.open(model, postgresBackend(database, { table: 'failing' }));
    await database.query(`ALTER TABLE failing ADD CONSTRAINT small CHECK (id <> 'forbidden')`);
    const vector = unit();
    const batch = ['allowed', 'forbidden'].map((id) => ({ id, vector }));
    await expectCode(() => store.upsert(batch), 'MOME_IO');
    expect(await store.present(['allowed'])).toEqual(new Set());
  });

  it('keeps what SQLite had when a batch fails, and joins a transaction of the caller', async () => {
    const database = sqlite();
    const store = await VectorStore.open(model, sqliteBackend(database, { table: 'rows' }));
    database.exec(
      `CREATE TRIGGER refuse BEFORE INSERT ON rows WHEN new.id = 'bad' BEGIN SELECT raise(ABORT, 'no'); END`,
    );
    await expectCode(
      () =>
        store.upsert([
          { id: 'good', vector: unit() },
          { id: 'bad', vector: unit() },
        ]),
      'MOME_IO',
    );
    expect(await store.count()).toBe(0);
    database.exec('BEGIN');
    await store.upsert(rowsOf(3));
    database.exec('ROLLBACK');
    expect(await store.count()).toBe(0);
    database.close();
  });

  it('leaves the event loop free while SQLite compares, and ends at once when told to', async () => {
    const store = await VectorStore.open(model, sqliteBackend(sqlite(), { table: 'rows' }));
    const vector = unit();
    for (let part = 0; part < 15; part++)
      await store.upsert(Array.from({ length: 1000 }, (_, i) => ({ id: `${part} ${i}`, vector })));
    let turns = 0;
    const counting = setInterval(() => turns++, 1);
    const before = turns;
    expect((await store.query(vector, 3)).map(({ id }) => id)).toEqual(['0 0', '0 1', '0 10']);
    expect(turns - before).toBeGreaterThan(1);
    clearInterval(counting);
    const stop = new AbortController();
    setImmediate(() => stop.abort());
    await expectCode(() => store.query(vector, 3, { signal: stop.signal }), 'MOME_ABORTED');
    expect(width()).toBe(vector.length);
  });

  it('refuses a file of another kind, and one store for two', async () => {
    const file = join(await temporaryFolder(), 'notes.txt');
    await writeFile(file, 'no vectors');
    await expectCode(() => VectorStore.open(model, exactBackend({ file })), 'MOME_INVALID_FILE');
    const backend = exactBackend();
    await VectorStore.open(model, backend);
    await expectCode(() => VectorStore.open(model, backend), 'MOME_INVALID_ARGUMENT');
  });
});
