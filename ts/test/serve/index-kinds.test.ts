/** Every kind of index behind the server: in memory, on disk and a store; search, add and remove over HTTP and gRPC. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { beforeAll, describe, expect, it } from 'vitest';
import { picturesBelow } from '../../src/cli/serve-index.ts';
import type { Vlmo } from '../../src/inference/index.ts';
import {
  DiskIndex,
  exactBackend,
  listImages,
  SearchIndex,
  type VectorBackend,
  VectorStore,
} from '../../src/search/index.ts';
import { indexProtoFile, protoFolder } from '../../src/serve/grpc/messages.ts';
import type { ServerOptions } from '../../src/serve/index.ts';
import { expectCode, temporaryFolder } from '../helpers.ts';
import { type Answer, clientOf } from './grpc-client.ts';
import { dataUrl, loadTiny, png, post, started } from './helpers.ts';

const definition = loadSync(indexProtoFile, {
  includeDirs: [protoFolder()],
  keepCase: true,
  defaults: true,
  oneofs: true,
  longs: Number,
});
const grpcOf = (address: string) => clientOf(address, 'mome.v1.Index', { definition });

let model: Vlmo;
let pictures = '';
let memory: SearchIndex;
let disk: DiskIndex;
beforeAll(async () => {
  model = await loadTiny();
  const folder = await temporaryFolder();
  pictures = join(folder, 'pictures');
  await mkdir(pictures);
  for (let i = 0; i < 5; i++) await writeFile(join(pictures, `${i}.png`), await png(i + 1));
  memory = await SearchIndex.build(model, await listImages(pictures), { root: pictures });
  const file = join(folder, 'index.safetensors');
  await memory.save(file, { int8: true });
  disk = await DiskIndex.open(model, file, { root: pictures });
}, 60_000);

const newStore = () => VectorStore.open(model, exactBackend());
const both = async (options: ServerOptions) => {
  const { server, url } = await started(model, options);
  return { server, url, ...grpcOf(await server.listenGrpc({ port: 0 })) };
};
/** The methods of a backend, which may then be replaced. */
const backendOf = (backend: VectorBackend): VectorBackend => ({
  open: (identity) => backend.open(identity),
  upsert: (rows) => backend.upsert(rows),
  delete: (ids) => backend.delete(ids),
  present: (ids) => backend.present(ids),
  nearest: (vector, k, conditions, signal) => backend.nearest(vector, k, conditions, signal),
  count: (conditions, signal) => backend.count(conditions, signal),
});
const metadataOf = (i: number) => ({ number: i, kind: i % 2 === 0 ? 'even' : 'odd', first: i === 0 });

describe('an index on disk', () => {
  it('gives what the index in memory gives, over HTTP and gRPC, and its pictures to the page', async () => {
    const { url, call } = await both({ index: disk, page: true });
    const inMemory = await started(model, { index: memory });
    const body = { text: 'a red square', k: 4, rerank: 3 };
    const expected = await post(`${inMemory.url}/v1/search`, body);
    expect(expected.body.results.length).toBe(4);
    expect((await post(`${url}/v1/search`, body)).body).toEqual(expected.body);
    const { results } = await call('Search', body);
    const plain = results.map(({ id, index, score, similarity, match, dual_rank }: Answer) => ({
      path: id,
      index,
      score,
      similarity,
      match: match ?? null,
      dualRank: dual_rank,
    }));
    expect(plain).toEqual(expected.body.results);
    const state = (await (await fetch(`${url}/page/state`)).json()) as { index: object };
    expect(state.index).toEqual({ pictures: 5, some: [0, 1, 2, 3, 4].map((i) => ({ index: i, path: `${i}.png` })) });
    expect((await fetch(`${url}/page/thumbnails/4`)).headers.get('content-type')).toBe('image/webp');
    expect((await fetch(`${url}/page/thumbnails/5`)).status).toBe(404);
    expect(await (await fetch(`${url}/v1/index`)).json()).toMatchObject({ kind: 'disk', count: 5, is_writable: false });
  });

  it('stays open until pictures of the page that were asked for are shown, where another takes its place', async () => {
    const file = join(await temporaryFolder(), 'old.safetensors');
    await memory.save(file, { int8: true });
    const old = await DiskIndex.open(model, file, { root: pictures });
    const { server, url } = await started(model, { index: old, page: true });
    const shown = [0, 1, 2, 3, 4].map((number) => fetch(`${url}/page/pictures/${number}`));
    await Promise.race(shown);
    await server.replaceEngine('mome', model, disk);
    old.close();
    expect((await Promise.all(shown)).map(({ status }) => status)).toEqual([200, 200, 200, 200, 200]);
  });

  it('refuses with a code what only a store can', async () => {
    for (const index of [disk, memory]) {
      const { url, failed } = await both({ index, isWritable: true });
      const item = { id: 'new', image: dataUrl(await png(9)) };
      const answers = [
        await post(`${url}/v1/index/add`, { items: [item] }),
        await post(`${url}/v1/index/remove`, { ids: ['0.png'] }),
        await post(`${url}/v1/search`, { text: 'a', filter: { kind: 'even' } }),
      ];
      for (const { status, body } of answers) expect([status, body.error.code]).toEqual([422, 'MOME_UNSUPPORTED']);
      expect((await failed('Add', { items: [{ id: 'new', image: await png(9) }] })).code).toBe(status.UNIMPLEMENTED);
      expect((await failed('Remove', { ids: ['0.png'] })).code).toBe(status.UNIMPLEMENTED);
      const filter = { kind: { in: [{ text: 'even' }] } };
      expect((await failed('Search', { text: 'a', filter })).code).toBe(status.UNIMPLEMENTED);
    }
  });
});

describe('a store', () => {
  it('takes pictures over HTTP, finds and filters them, and gives them up', async () => {
    const store = await newStore();
    const { url } = await both({ index: store, isWritable: true });
    const items = await Promise.all(
      [0, 1, 2, 3].map(async (i) => ({ id: `p${i}`, image: dataUrl(await png(i + 1)), metadata: metadataOf(i) })),
    );
    expect((await post(`${url}/v1/index/add`, { items })).body).toEqual({ added: 4, present: 0 });
    expect((await post(`${url}/v1/index/add`, { items })).body).toEqual({ added: 0, present: 4 });
    expect((await post(`${url}/v1/index/add`, { items, replace: true })).body).toEqual({ added: 4, present: 0 });
    const described = await (await fetch(`${url}/v1/index`)).json();
    expect(described).toEqual({
      model: 'mome',
      kind: 'store',
      count: 4,
      can_rerank: false,
      can_filter: true,
      is_writable: true,
    });
    const image = dataUrl(await png(3));
    const found = await post(`${url}/v1/search`, { image, k: 2 });
    expect(found.body.results[0]).toMatchObject({ id: 'p2', metadata: metadataOf(2), match: null, dualRank: 0 });
    expect(found.body.results[0].similarity).toBeCloseTo(1, 5);
    const ids = async (filter: object) =>
      (await post(`${url}/v1/search`, { text: 'a', filter })).body.results.map(({ id }: Answer) => id).sort();
    expect(await ids({ kind: 'odd' })).toEqual(['p1', 'p3']);
    expect(await ids({ number: { gte: 1, lt: 3 } })).toEqual(['p1', 'p2']);
    expect(await ids({ kind: { in: ['odd', 'other'] }, first: false })).toEqual(['p1', 'p3']);
    for (const filter of [{ 'no field': 1 }, { number: { above: 1 } }, { number: {} }, 'odd'])
      expect([filter, (await post(`${url}/v1/search`, { text: 'a', filter })).status]).toEqual([filter, 422]);

    const form = new FormData();
    form.append('id', 'from a form');
    form.append('image', new Blob([new Uint8Array(await png(8))]), 'p.png');
    form.append('metadata', '{"kind": "form"}');
    const sent = await fetch(`${url}/v1/index/add`, { method: 'POST', body: form });
    expect(await sent.json()).toEqual({ added: 1, present: 0 });
    expect(await ids({ kind: 'form' })).toEqual(['from a form']);

    expect((await post(`${url}/v1/index/remove`, { ids: ['p0', 'p1', 'none'] })).body).toEqual({ removed: 2 });
    expect(await store.count()).toBe(3);
  });

  it('adds an id once where two requests bring it at the same time', async () => {
    const rows = backendOf(exactBackend());
    // As of a database: between a look and the write behind it there is time for others.
    const present = async (ids: readonly string[]) => {
      const found = await rows.present(ids);
      await sleep(20);
      return found;
    };
    const index = await VectorStore.open(model, { ...rows, present });
    const { url } = await both({ index, isWritable: true });
    const pictures = await Promise.all([1, 2, 3].map((seed) => png(seed)));
    const add = async (picture: Buffer) =>
      (await post(`${url}/v1/index/add`, { items: [{ id: 'same', image: dataUrl(picture) }] })).body;
    const answers: { added: number; present: number }[] = await Promise.all(pictures.map(add));
    expect(answers.map(({ added, present }) => added + present)).toEqual([1, 1, 1]);
    const first = answers.findIndex(({ added }) => added === 1);
    expect(answers.filter(({ added }) => added === 1).length).toBe(1);
    const { body } = await post(`${url}/v1/search`, { image: dataUrl(pictures[first]!) });
    expect(body.results[0].similarity).toBeCloseTo(1, 5);
  });

  it('takes pictures over gRPC that are no larger than those of HTTP, and as many ids', async () => {
    const { call, failed } = await both({ index: await newStore(), isWritable: true, limits: { pictureBytes: 100 } });
    const { code, details } = await failed('Search', { image: await png(1) });
    expect([code, details]).toEqual([status.INVALID_ARGUMENT, expect.stringContaining('at most 100 bytes')]);
    const ids = Array.from({ length: 512 }, (_, i) => `${i} ${'x'.repeat(300)}`);
    expect(await call('Remove', { ids })).toEqual({ removed: 0 });
  });

  it('that takes longer than a request may is waited for no longer', async () => {
    const never = () => new Promise<never>(() => {});
    const slow = { ...backendOf(exactBackend()), nearest: never, count: never, present: never, delete: never };
    const index = await VectorStore.open(model, slow);
    const { url, failed } = await both({ index, isWritable: true, limits: { timeout: 300 } });
    const image = await png(1);
    const items = [{ id: 'a', image: dataUrl(image) }];
    const answers = await Promise.all([
      post(`${url}/v1/search`, { text: 'a' }),
      post(`${url}/v1/index/add`, { items }),
      post(`${url}/v1/index/remove`, { ids: ['a'] }),
      fetch(`${url}/v1/index`).then(async (response) => ({ status: response.status, body: await response.json() })),
    ]);
    for (const { status, body } of answers) expect([status, body.error.code]).toEqual([504, 'MOME_DEADLINE']);
    for (const [name, request] of [
      ['Search', { text: 'a' }],
      ['Add', { items: [{ id: 'a', image }] }],
      ['Remove', { ids: ['a'] }],
      ['Describe', {}],
    ] as const)
      expect([name, (await failed(name, request)).code]).toEqual([name, status.DEADLINE_EXCEEDED]);
  });

  it('is not changed, and fetches no picture for it, where changes are not allowed', async () => {
    const asked: string[] = [];
    const resolve = async (host: string) => {
      asked.push(host);
      return [];
    };
    const index = await newStore();
    const { url } = await both({
      index,
      allowUrls: ['images.example.com'],
      network: { resolve, isPublic: () => false },
    });
    const items = [{ id: 'a', image: 'http://images.example.com/a.png' }];
    const { status, body } = await post(`${url}/v1/index/add`, { items });
    expect([status, body.error.code, asked]).toEqual([403, 'CHANGES_NOT_ALLOWED', []]);
  });

  it('does the same over gRPC', async () => {
    const store = await newStore();
    const { call, failed, url } = await both({ index: store, isWritable: true });
    const metadata = { number: { number: 2.5 }, kind: { text: 'even' }, first: { flag: false } };
    const items = [
      { id: 'a', image: await png(1), metadata },
      { id: 'b', image: await png(2), metadata: { kind: { text: 'odd' } } },
    ];
    expect(await call('Add', { items })).toEqual({ added: 2, present: 0 });
    expect(await call('Describe', {})).toMatchObject({ kind: 'store', count: 2, is_writable: true });
    const { results } = await call('Search', { image: await png(1), k: 1 });
    expect(results[0]).toMatchObject({ id: 'a', dual_rank: 0 });
    expect(results[0].metadata.number).toMatchObject({ number: 2.5 });
    expect((await post(`${url}/v1/search`, { text: 'a', filter: { number: 2.5 } })).body.results[0].id).toBe('a');
    const found = async (filter: object) =>
      (await call('Search', { text: 'a', filter })).results.map(({ id }: Answer) => id);
    expect(await found({ kind: { in: [{ text: 'odd' }, { text: 'none' }] } })).toEqual(['b']);
    expect(await found({ number: { gt: { number: 2 }, lte: { number: 2.5 } } })).toEqual(['a']);
    for (const request of [
      {},
      { text: 'a', k: 1001 },
      { text: 'a', rerank: 257 },
      { text: 'a', filter: { kind: {} } },
      { text: 'a', filter: { kind: { in: [{ text: 'a' }], gt: { number: 1 } } } },
    ])
      expect((await failed('Search', request)).code).toBe(status.INVALID_ARGUMENT);
    expect((await failed('Search', { text: 'a', model_name: 'other' })).code).toBe(status.NOT_FOUND);
    expect(await call('Remove', { ids: ['a', 'none'] })).toEqual({ removed: 1 });
    expect(await store.present(['a', 'b'])).toEqual(new Set(['b']));
  });

  it('is changed by nobody where that is not allowed, and by no page of another site', async () => {
    const store = await newStore();
    const item = { id: 'a', image: dataUrl(await png(1)) };
    const closed = await both({ index: store });
    const refused = await post(`${closed.url}/v1/index/add`, { items: [item] });
    expect([refused.status, refused.body.error.code]).toEqual([403, 'CHANGES_NOT_ALLOWED']);
    expect((await post(`${closed.url}/v1/index/remove`, { ids: ['a'] })).status).toBe(403);
    expect((await closed.failed('Add', { items: [{ id: 'a', image: await png(1) }] })).code).toBe(
      status.PERMISSION_DENIED,
    );
    const { url } = await started(model, { index: store, isWritable: true, corsOrigins: ['https://ours.example'] });
    const from = (origin: string) => post(`${url}/v1/index/add`, { items: [item] }, { origin });
    for (const origin of ['https://other.example', 'null', `${url}.other.example`]) {
      const { status, body } = await from(origin);
      expect([origin, status, body.error?.code]).toEqual([origin, 403, 'ORIGIN_NOT_ALLOWED']);
    }
    expect(await store.count()).toBe(0);
    expect((await from('https://ours.example')).body).toEqual({ added: 1, present: 0 });
    expect((await from(url)).body).toEqual({ added: 0, present: 1 });
  });

  it('says which picture or id is wrong, and writes none of that request', async () => {
    const store = await newStore();
    const { url } = await started(model, { index: store, isWritable: true, limits: { items: 3 } });
    const image = dataUrl(await png(1));
    const add = (items: unknown[]) => post(`${url}/v1/index/add`, { items });
    await store.add([{ id: 'there', image: await png(2) }]);
    const broken = await add([
      { id: 'a', image },
      { id: 'there', image },
      { id: 'b', image: 'bm8gcGljdHVyZQ==' },
    ]);
    expect([broken.status, broken.body.error.code, broken.body.error.param]).toEqual([
      422,
      'MOME_INVALID_IMAGE',
      'item 2',
    ]);
    for (const wrong of [[], [{ id: '', image }], [{ image }], [{ id: 'a', image, metadata: { 'a b': 1 } }]])
      expect((await add(wrong)).status).toBe(422);
    expect((await add(Array.from({ length: 4 }, (_, i) => ({ id: `${i}`, image })))).status).toBe(413);
    expect(await store.count()).toBe(1);
  });

  it('re-ranks pictures of a folder by their ids, and reads no file outside of it', async () => {
    const store = await newStore();
    const secret = join(pictures, '..', 'outside.png');
    await writeFile(secret, await png(7));
    const ids = ['0.png', '1.png', '../outside.png', secret];
    await store.add(
      ids.map((id) => ({ id, image: join(pictures, id.endsWith('outside.png') ? '../outside.png' : id) })),
    );
    const { url } = await started(model, { index: store, pictureOf: picturesBelow(pictures) });
    const { body } = await post(`${url}/v1/search`, { text: 'a red square', k: 4 });
    const read = body.results.filter(({ match }: Answer) => match !== null).map(({ id }: Answer) => id);
    expect(read.sort()).toEqual(['0.png', '1.png']);
    expect(body.results.length).toBe(4);
    const without = await started(model, { index: store });
    const plain = await post(`${without.url}/v1/search`, { text: 'a red square', k: 4 });
    expect(plain.body.results.map(({ match }: Answer) => match)).toEqual([null, null, null, null]);
    const asked = await post(`${without.url}/v1/search`, { text: 'a red square', rerank: 2 });
    expect([asked.status, asked.body.error.param]).toEqual([422, 'rerank']);
    const match = (id: string) => ({ id, metadata: {}, similarity: 0 });
    const of = picturesBelow(pictures);
    expect(of(match(join(pictures, '1.png')))).toBe(join(pictures, '1.png'));
    for (const id of ['..', '.', '', '../pictures2/a.png', '/etc/passwd', 'a/../../x.png'])
      await expectCode(async () => of(match(id)), 'MOME_NOT_FOUND');
  });
});

describe('a server', () => {
  it('without an index says so, and refuses an index that is none', async () => {
    const { failed, url } = await both({});
    expect((await failed('Search', { text: 'a' })).code).toBe(status.UNIMPLEMENTED);
    for (const path of ['search', 'index/add', 'index/remove'])
      expect((await post(`${url}/v1/${path}`, {})).status).toBe(404);
    await expectCode(() => started(model, { index: {} as SearchIndex }), 'MOME_INVALID_ARGUMENT');
  });
});
