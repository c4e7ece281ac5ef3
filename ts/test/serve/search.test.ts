/** `/v1/search`: through the queue as every other route, and with an index that changes while searches go on. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { Batcher, Vlmo } from '../../src/inference/index.ts';
import { listImages, SearchIndex } from '../../src/search/index.ts';
import { expectCode, temporaryFolder, testImage, tinyModel } from '../helpers.ts';
import { dataUrl, loadTiny, png, post, started } from './helpers.ts';

let model: Vlmo;
let index: SearchIndex;
let pictures = '';
let url = '';
const addPicture = async (i: number) => {
  const image = testImage(i, 32);
  await sharp(image.data, { raw: image })
    .png()
    .toFile(join(pictures, `${i}.png`));
};
beforeAll(async () => {
  model = await loadTiny();
  pictures = join(await temporaryFolder(), 'pictures');
  await mkdir(pictures);
  for (let i = 0; i < 6; i++) await addPicture(i);
  index = await SearchIndex.build(model, await listImages(pictures));
  ({ url } = await started(model, { index }));
}, 60_000);

const search = (body: object, headers?: Record<string, string>, address = url) =>
  post(`${address}/v1/search`, body, headers);

describe('a search of a server', () => {
  it('gives what the index gives, by a text, a picture or a form, and says nothing of folders', async () => {
    const direct = await index.search('a red square', { k: 4, rerank: 3 });
    const { status, body } = await search({ text: 'a red square', k: 4, rerank: 3 });
    expect(status).toBe(200);
    const shown = direct.map(({ path, ...others }) => ({ path: path.slice(pictures.length + 1), ...others }));
    expect(body.results).toEqual(shown);
    expect(JSON.stringify(body)).not.toContain(pictures);
    const image = await png(3, 32);
    const alike = await search({ image: dataUrl(image), k: 2 });
    expect(alike.body.results[0]).toMatchObject({ path: '3.png', match: null });
    expect(alike.body.results[0].similarity).toBeCloseTo(1, 5);
    const form = new FormData();
    form.append('image', new Blob([new Uint8Array(image)]), 'query.png');
    form.append('k', '1');
    const sent = await fetch(`${url}/v1/search`, { method: 'POST', body: form });
    expect(await sent.json()).toEqual({ results: [alike.body.results[0]] });
    for (const wrong of [{}, { text: 'a', image: dataUrl(image) }, { text: 'a', k: 0 }, { text: 'a', rerank: -1 }])
      expect((await search(wrong)).status).toBe(422);
    const without = await started(model);
    expect((await search({ text: 'a' }, {}, without.url)).status).toBe(404);
  });

  it('may name the model that has the index, and no other of several', async () => {
    const both = await started({ first: model, second: await loadTiny() }, { index });
    const by = (name: string) => search({ text: 'a red square', model: name }, {}, both.url);
    expect((await by('first')).body.results.length).toBeGreaterThan(0);
    const second = await by('second');
    expect([second.status, second.body.error.param]).toEqual([422, 'model']);
    expect((await by('third')).status).toBe(404);
  });

  it('goes through the queue: with its client, priority and time, refused where the queue is full', async () => {
    const request = vi.spyOn(Batcher.prototype, 'request');
    await search({ text: 'a red square', priority: 'bulk' });
    await search({ text: 'a red square' }, { 'x-priority': 'bulk', 'x-timeout-ms': '5000' });
    await search({ text: 'a red square' });
    const asked = request.mock.calls.map(([options]) => options!);
    request.mockRestore();
    expect(asked.map(({ priority }) => priority)).toEqual(['bulk', 'bulk', 'interactive']);
    expect(asked.map(({ client }) => client)).toEqual(Array(3).fill('127.0.0.1'));
    expect(asked[1]!.timeout).toBeGreaterThan(4000);
    expect(asked[1]!.timeout).toBeLessThanOrEqual(5000);

    const late = await search({ text: 'long '.repeat(6000), rerank: 6 }, { 'x-timeout-ms': '1' });
    expect([late.status, late.body.error.code]).toEqual([504, 'MOME_DEADLINE']);
    const small = await started(model, { index, limits: { queueItems: 6 } });
    const texts = Array.from({ length: 6 }, (_, i) => `busy ${i} ${'long '.repeat(6000)}`);
    const answers = await Promise.all([
      post(`${small.url}/v1/embed`, { texts }),
      ...Array.from({ length: 12 }, (_, i) => search({ text: `a ${i} ${'word '.repeat(300)}` }, {}, small.url)),
    ]);
    const full = answers.filter(({ status }) => status === 429);
    expect(full.length).toBeGreaterThan(0);
    expect(full[0]!.body.error.code).toBe('MOME_OVERLOADED');
    expect(Number(full[0]!.headers.get('retry-after-ms'))).toBeGreaterThan(0);
    expect(answers.every(({ status }) => status === 200 || status === 429)).toBe(true);
  });

  it('is no longer computed for a client that has left', async () => {
    const stop = new AbortController();
    const asked = vi.spyOn(Batcher.prototype, 'rerank').mockImplementation(async (_query, _some, options) => {
      stop.abort(); // the client leaves between the two phases
      await new Promise((resolve) => options!.signal!.addEventListener('abort', resolve, { once: true }));
      options!.signal!.throwIfAborted();
      return [];
    });
    const body = JSON.stringify({ text: 'a cat' });
    const headers = { 'content-type': 'application/json' };
    await fetch(`${url}/v1/search`, { method: 'POST', headers, body, signal: stop.signal }).catch(() => {});
    expect(asked).toHaveBeenCalledTimes(1);
    asked.mockRestore();
    const metrics = async () => await (await fetch(`${url}/metrics`)).text();
    await vi.waitFor(async () =>
      expect(await metrics()).toContain('mome_requests_total{route="/v1/search",status="499"} 1'),
    );
  });
});

describe('a model that is replaced', () => {
  it('brings its index, without a lost search', async () => {
    const { server, url } = await started(model, { index });
    const fresh = await loadTiny();
    await addPicture(6);
    const larger = await SearchIndex.build(fresh, await listImages(pictures));
    const call = (i: number) => search({ text: `a red square ${i}`, k: 10, rerank: 6 }, {}, url);
    const before = Array.from({ length: 12 }, (_, i) => call(i));
    for (let i = 0; i < 1000 && server.server.listening; i++) {
      const text = await (await fetch(`${url}/metrics`)).text();
      if (!text.includes('mome_queue_items{engine="mome"} 0\n')) break; // they are under way
    }
    const replaced = server.replaceEngine('mome', fresh, larger);
    const after = Array.from({ length: 12 }, (_, i) => call(i));
    const answers = await Promise.all([...before, ...after]);
    await replaced;
    expect(answers.map(({ status }) => status)).toEqual(Array(24).fill(200));
    const counts = answers.map(({ body }) => body.results.length);
    expect(counts.slice(12)).toEqual(Array(12).fill(7));
    expect(counts.every((count) => count === 6 || count === 7)).toBe(true);
  });

  it('is refused where the index is of another, and the old ones go on', async () => {
    const { server, url } = await started(model, { index });
    const other = await Vlmo.load(await tinyModel('tiny_absolute'));
    try {
      await expectCode(() => server.replaceEngine('mome', other), 'MOME_UNSUPPORTED');
      await expectCode(() => server.replaceEngine('mome', other, index), 'MOME_UNSUPPORTED');
      expect((await search({ text: 'a cat' }, {}, url)).body.results.length).toBe(6);
    } finally {
      await other.dispose();
    }
  });

  it('serves a request to its end that reads its pictures meanwhile', async () => {
    const { server, url } = await started(model);
    const fresh = await loadTiny();
    const image = dataUrl(await png(1));
    const calls = Array.from({ length: 30 }, () => post(`${url}/v1/embed`, { images: [image] }));
    const first = await Promise.race(calls);
    await server.replaceEngine('mome', fresh);
    const answers = await Promise.all([first, ...calls]);
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
  });
});
