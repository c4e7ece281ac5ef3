/** A server under more than it can do: refusals, clients that leave, connections that stay half open. */
import { readdirSync } from 'node:fs';
import { createConnection } from 'node:net';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Vlmo } from '../../src/inference/index.ts';
import { loadTiny, post, started } from './helpers.ts';

let model: Vlmo;
const texts = Array.from({ length: 24 }, (_, i) => `a ${['red', 'green', 'blue'][i % 3]} ${'circle '.repeat(1 + i)}`);
/** Rows of the texts, as base64. */
let rows: string[] = [];
beforeAll(async () => {
  model = await loadTiny();
  const { embeddings, width } = await model.embedTexts(texts);
  rows = texts.map((_, i) => Buffer.from(embeddings.buffer, 4 * i * width, 4 * width).toString('base64'));
});

/** Asks for some of the texts, and says whether every row is right to the last bit. */
async function ask(url: string, first: number, headers: Record<string, string> = {}) {
  const places = Array.from({ length: 8 }, (_, i) => (first + 5 * i) % texts.length);
  const body = { texts: places.map((place) => texts[place]!), encoding_format: 'base64' };
  const answer = await post(`${url}/v1/embed`, body, headers);
  const given = answer.body.texts as string[] | undefined;
  return { ...answer, isRight: given?.length === 8 && places.every((place, i) => given[i] === rows[place]) };
}

describe('a server that is asked for more than it can do', () => {
  it('answers rightly or with 429 and a time, and goes on afterwards', async () => {
    const { url } = await started(model, { limits: { queueItems: 8 } });
    const answers = await Promise.all(
      Array.from({ length: 60 }, (_, i) => ask(url, i, { 'x-timeout-ms': '20000', 'x-priority': i % 3 ? 'bulk' : '' })),
    );
    const statuses = answers.map(({ status }) => status);
    expect(new Set(statuses)).toEqual(new Set([200, 429]));
    expect(answers.filter(({ status, isRight }) => status === 200 && !isRight)).toEqual([]);
    for (const { status, headers } of answers)
      if (status === 429) expect(Number(headers.get('retry-after-ms'))).toBeGreaterThanOrEqual(20);
    expect((await ask(url, 0)).isRight).toBe(true);
    // A planted wrong row is noticed.
    rows.reverse();
    expect((await ask(url, 0)).isRight).toBe(false);
    rows.reverse();
  });
});

describe('clients that leave or stay half open', () => {
  it('change no answer of others, and leave no item and no descriptor behind', async () => {
    const { url, server } = await started(model);
    const { hostname, port } = new URL(url);
    await ask(url, 0);
    const before = readdirSync('/proc/self/fd').length;
    const heads = [
      '',
      'POST /v1/embed HT',
      'POST /v1/embed HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"te',
    ];
    const halfOpen = Array.from({ length: 30 }, (_, i) => {
      const socket = createConnection({ host: hostname, port: Number(port) });
      socket.on('error', () => {}).write(heads[i % heads.length]!);
      return socket;
    });
    const leaving = Array.from({ length: 30 }, async (_, i) => {
      const body = JSON.stringify({ texts: texts.map((text) => `${text} ${i}`) });
      const headers = { 'content-type': 'application/json' };
      const signal = AbortSignal.timeout(2 + i);
      const left = fetch(`${url}/v1/embed`, { method: 'POST', headers, body, signal }).then((answer) => answer.text());
      await left.catch(() => {});
    });
    const asking = Array.from({ length: 20 }, (_, i) => ask(url, i));
    expect((await Promise.all(asking)).every(({ isRight }) => isRight)).toBe(true);
    await Promise.all(leaving);
    for (const socket of halfOpen) socket.destroy();
    // Both ends of the connections that `fetch` keeps are in this process, 20 at most; those that ended would be 120 descriptors.
    await expect.poll(() => readdirSync('/proc/self/fd').length, { timeout: 5000 }).toBeLessThan(before + 60);
    const metrics = await (await fetch(`${url}/metrics`)).text();
    expect(metrics).toContain('mome_queue_items{engine="mome"} 0\n');
    expect(await new Promise((resolve) => server.server.getConnections((_, count) => resolve(count)))).toBeLessThan(40);
  });

  it('hold up the end no longer than the head of a request may take', async () => {
    const { url, server } = await started(model, { limits: { headTimeout: 500 } });
    const { hostname, port } = new URL(url);
    const part =
      'POST /v1/embed HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"te';
    const sockets = ['GET /hea', part].map((bytes) => {
      const socket = createConnection({ host: hostname, port: Number(port) });
      socket.on('error', () => {}).write(bytes);
      return socket;
    });
    await ask(url, 0);
    const begun = performance.now();
    await server.drain();
    expect(performance.now() - begun).toBeLessThan(5000);
    for (const socket of sockets) socket.destroy();
  });
});
