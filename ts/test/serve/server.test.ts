/** Our own routes, errors, limits, keys, health and metrics. */
import { createConnection } from 'node:net';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Vlmo } from '../../src/inference/index.ts';
import { dataUrl, loadTiny, png, post, raw, started } from './helpers.ts';

let model: Vlmo;
let url = '';
let cat: Buffer;
let dog: Buffer;
beforeAll(async () => {
  model = await loadTiny();
  ({ url } = await started(model));
  cat = await png(1);
  dog = await png(2);
});

const numbers = (values: Float32Array) => [...values];

describe('own routes', () => {
  it('embed texts and pictures, as numbers and as base64', async () => {
    const expected = {
      texts: (await model.embedTexts(['a cat', 'a dog'])).embeddings,
      images: (await model.embedImages([cat])).embeddings,
    };
    const { status, body, headers } = await post(`${url}/v1/embed`, {
      texts: ['a cat', 'a dog'],
      images: [dataUrl(cat)],
    });
    expect(status).toBe(200);
    expect(headers.get('x-request-id')).toMatch(/^[\da-f-]{36}$/);
    expect(body.texts.flat().map(Math.fround)).toEqual(numbers(expected.texts));
    expect(body.images.flat().map(Math.fround)).toEqual(numbers(expected.images));
    const coded = await post(`${url}/v1/embed`, { images: cat.toString('base64'), encoding_format: 'base64' });
    const bytes = Buffer.from(coded.body.images[0], 'base64');
    expect(bytes).toEqual(Buffer.from(expected.images.buffer));
  });

  it('take forms with files', async () => {
    const form = new FormData();
    form.append('image', new Blob([new Uint8Array(cat)]), 'cat.png');
    form.append('text', 'a cat');
    form.append('text', 'a dog');
    const embedded = await fetch(`${url}/v1/embed`, { method: 'POST', body: form });
    expect(embedded.status).toBe(200);
    expect(((await embedded.json()) as { texts: unknown[] }).texts.length).toBe(2);
    const matched = await fetch(`${url}/v1/match`, { method: 'POST', body: form });
    const { matches } = (await matched.json()) as { matches: number[] };
    const pairs = ['a cat', 'a dog'].map((text) => ({ image: cat, text }));
    expect(matches.map(Math.fround)).toEqual(numbers(await model.match(pairs)));
  });

  it('match, answer, reason and fill masks as the model does', async () => {
    const image = dataUrl(cat);
    const pairs = [
      { image, text: 'a cat' },
      { image: dataUrl(dog), text: 'a cat' },
    ];
    const matched = await post(`${url}/v1/match`, { pairs });
    const direct = await model.match([
      { image: cat, text: 'a cat' },
      { image: dog, text: 'a cat' },
    ]);
    expect(matched.body.matches.map(Math.fround)).toEqual(numbers(direct));
    const answered = await post(`${url}/v1/answer`, { image, question: 'is it red', k: 3 });
    expect(answered.body.answers).toEqual(await model.answer(cat, 'is it red', { k: 3 }));
    const reasoned = await post(`${url}/v1/reason`, { images: [image, dataUrl(dog)], statement: 'both are red' });
    expect(reasoned.body.probability).toBe((await model.reason([cat, dog], 'both are red')).probability);
    const filled = await post(`${url}/v1/fill-mask`, { text: 'a [MASK] circle', k: 2 });
    expect(filled.body.masks).toEqual(await model.fillMask(null, 'a [MASK] circle', { k: 2 }));
  });

  it('rank pictures by a text, texts by a picture, and texts by a text', async () => {
    const documents = [{ image: dataUrl(cat) }, dataUrl(dog)];
    const { body } = await post(`${url}/v1/rerank`, { query: 'a cat', documents });
    const direct = await model.rerank({ text: 'a cat' }, [cat, dog]);
    expect(body.results.map(({ index, score }: { index: number; score: number }) => [index, score])).toEqual(
      direct.map(({ index, score }) => [index, score]),
    );
    const texts = ['a cat', 'a dog', 'a red circle'];
    const byPicture = await post(`${url}/v1/rerank`, {
      query: { image: dataUrl(cat) },
      documents: texts,
      top_n: 2,
      return_documents: true,
    });
    expect(byPicture.body.results.length).toBe(2);
    expect(byPicture.body.results[0].document).toEqual({ text: texts[byPicture.body.results[0].index] });
    const byText = await post(`${url}/v1/rerank`, { query: 'a red circle', documents: texts });
    expect(byText.body.results[0]).toMatchObject({ index: 2, match: null });
    const scores = byText.body.results.map((each: { relevance_score: number }) => each.relevance_score);
    expect(scores).toEqual([...scores].sort((a, b) => b - a));
  });
});

describe('errors', () => {
  const refused = async (
    path: string,
    body: unknown,
    status: number,
    code: string,
    headers?: Record<string, string>,
  ) => {
    const answer = await post(`${url}${path}`, body, headers);
    expect([answer.status, answer.body?.error?.code], JSON.stringify(answer.body)).toEqual([status, code]);
    return answer.body.error as { message: string; param: string | null };
  };

  it('have codes and say where', async () => {
    await refused('/v1/embed', '{"texts":', 400, 'INVALID_JSON');
    await refused('/v1/embed', Buffer.from([0x7b, 0xff, 0x7d]), 400, 'INVALID_JSON');
    await refused('/v1/embed', 'texts=1', 415, 'UNSUPPORTED_MEDIA_TYPE', {
      'content-type': 'application/x-www-form-urlencoded',
    });
    await refused('/v1/embed', {}, 422, 'MOME_INVALID_ARGUMENT');
    expect((await refused('/v1/embed', { texts: ['a', 5] }, 422, 'MOME_INVALID_ARGUMENT')).param).toBe('texts.1');
    const many = await refused('/v1/embed', { texts: Array(513).fill('a') }, 413, 'MOME_TOO_LARGE');
    expect(many.message).toContain('512 items');
    const misspelt = await refused('/v1/embed', { texts: ['a'], image: 'b' }, 422, 'MOME_INVALID_ARGUMENT');
    expect(misspelt.message).toContain('"image"');
    await refused('/v1/nothing', {}, 404, 'ROUTE_NOT_FOUND');
    await refused('/v1/embed', { texts: ['a'] }, 415, 'UNSUPPORTED_MEDIA_TYPE', { 'content-encoding': 'gzip' });
    await refused('/v1/embed', { texts: ['a'] }, 422, 'MOME_INVALID_ARGUMENT', { 'x-timeout-ms': 'soon' });
    const broken = await refused(
      '/v1/embed',
      { images: [dataUrl(cat), dataUrl(Buffer.from('GIF89a no'))] },
      422,
      'MOME_INVALID_IMAGE',
    );
    expect(broken.param).toBe('picture 1');
  });

  it('meet URLs and paths in place of pictures', async () => {
    for (const image of ['http://127.0.0.1/cat.png', 'file:///etc/passwd', 'FTP://a/b', 'blob:x', ' https://a'])
      await refused('/v1/embed', { images: [image] }, 422, 'URL_REFUSED');
    for (const image of ['../../etc/passwd', '.mome', 'data:image/png;base64,%%%', 'C:\\a.png'])
      expect((await post(`${url}/v1/embed`, { images: [image] })).status).toBe(422);
    const absolute = await post(`${url}/v1/embed`, { images: ['/etc/passwd'] }); // base64, and no picture
    expect(absolute.body.error.code).toBe('MOME_INVALID_IMAGE');
  });

  it('come with the time to wait when the queue is full', async () => {
    const small = await started(model, { limits: { queueItems: 8 } });
    const calls = await Promise.all(
      Array.from({ length: 40 }, (_, i) =>
        post(`${small.url}/v1/embed`, {
          texts: Array.from({ length: 6 }, (_, j) => `text ${i} ${j} ${'long '.repeat(500)}`),
        }),
      ),
    );
    const full = calls.filter(({ status }) => status === 429);
    expect(new Set(calls.map(({ status }) => status))).toEqual(new Set([200, 429]));
    expect(full[0]!.body.error.code).toBe('MOME_OVERLOADED');
    expect(Number(full[0]!.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
    expect(Number(full[0]!.headers.get('retry-after-ms'))).toBeGreaterThan(0);
  });

  it('come for bodies that are too large, and when the time is over', async () => {
    const small = await started(model, { limits: { bodyBytes: 1000, pictureBytes: 500 } });
    const large = await post(`${small.url}/v1/embed`, { texts: ['a'.repeat(2000)] });
    expect([large.status, large.body.error.code]).toEqual([413, 'MOME_TOO_LARGE']);
    const chunked = `POST /v1/embed HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n${`64\r\n${'a'.repeat(100)}\r\n`.repeat(20)}`;
    expect((await raw(small.url, chunked)).text).toContain('413');
    const late = await post(
      `${url}/v1/embed`,
      { texts: Array.from({ length: 512 }, (_, i) => `late ${i}`) },
      { 'x-timeout-ms': '1' },
    );
    expect([late.status, late.body.error.code]).toEqual([504, 'MOME_DEADLINE']);
  });
});

describe('keys', () => {
  it('are asked for everywhere but for health', async () => {
    const { url } = await started(model, { apiKeys: ['first', 'second'] });
    const get = async (path: string, headers: Record<string, string> = {}) =>
      (await fetch(`${url}${path}`, { headers })).status;
    expect(await get('/health/live')).toBe(200);
    expect(await get('/v2/health/ready')).toBe(200);
    for (const path of ['/metrics', '/v1/models', '/openapi.json', '/v2']) {
      expect(await get(path)).toBe(401);
      expect(await get(path, { authorization: 'Bearer firs' })).toBe(401);
      expect(await get(path, { authorization: 'Bearer second' })).toBe(200);
      expect(await get(path, { 'x-api-key': 'first' })).toBe(200);
    }
    expect((await post(`${url}/v1/embed`, { texts: ['a'] })).body.error.code).toBe('UNAUTHORIZED');
  });
});

describe('the state', () => {
  it('shows in metrics, health and the description of the API', async () => {
    await post(`${url}/v1/embed`, { texts: ['a'] });
    const metrics = await (await fetch(`${url}/metrics`)).text();
    for (const line of [
      'mome_requests_total{route="/v1/embed",status="200"}',
      'mome_tokens_total{engine="mome"}',
      'mome_queue_items{engine="mome"} 0',
      'mome_event_loop_delay_seconds{quantile="0.99"}',
      'mome_batch_fill_bucket',
    ])
      expect(metrics).toContain(line);
    const openapi = (await (await fetch(`${url}/openapi.json`)).json()) as {
      openapi: string;
      paths: Record<string, object>;
    };
    expect(openapi.openapi).toBe('3.1.0');
    for (const path of [
      '/v1/embed',
      '/v1/match',
      '/v1/rerank',
      '/v1/answer',
      '/v1/embeddings',
      '/v2/rerank',
      '/v2/models/{model}/infer',
    ])
      expect(Object.keys(openapi.paths)).toContain(path);
    expect(JSON.stringify(openapi)).not.toContain('undefined');
    const headers = (await fetch(`${url}/health/ready`)).headers;
    expect(headers.get('x-content-type-options')).toBe('nosniff');
    expect(headers.get('access-control-allow-origin')).toBeNull();
  });

  it('changes while requests are under way: a model is replaced, the end waits for answers', async () => {
    const { server, url } = await started({ one: model });
    const other = await loadTiny();
    const call = (i: number) =>
      post(`${url}/v1/embed`, { texts: Array.from({ length: 50 }, (_, j) => `text ${i} ${j}`) });
    const calls = Array.from({ length: 20 }, (_, i) => call(i));
    await server.replaceEngine('one', other);
    calls.push(...Array.from({ length: 20 }, (_, i) => call(i)));
    const answers = await Promise.all(calls);
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
    // A connection that a client has opened ahead holds up nothing.
    const ahead = createConnection({ host: '127.0.0.1', port: Number(new URL(url).port) });
    const closed = new Promise((resolve) => ahead.once('close', resolve));
    const last = call(99);
    await new Promise((resolve) => setTimeout(resolve, 20));
    const drained = server.drain(200);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect((await fetch(`${url}/health/ready`)).status).toBe(503);
    expect((await fetch(`${url}/health/live`)).status).toBe(200);
    expect((await last).status).toBe(200);
    const begun = performance.now();
    await drained;
    await closed;
    expect(performance.now() - begun).toBeLessThan(5000);
    await expect(fetch(`${url}/health/live`)).rejects.toThrow();
  });
});
