/** Clients that send nonsense, send slowly, leave early or never read: the server goes on and holds nothing of them. */
import { spawn } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import sharp from 'sharp';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Vlmo } from '../../src/inference/index.ts';
import type { MomeServer } from '../../src/serve/index.ts';
import { temporaryFolder } from '../helpers.ts';
import { expectShortTurns } from '../loop-gap.ts';
import { dataUrl, loadTiny, png, post, raw, started } from './helpers.ts';

let model: Vlmo;
let server: MomeServer;
let url = '';
let cat: Buffer;
beforeAll(async () => {
  model = await loadTiny();
  ({ server, url } = await started(model, { limits: { headTimeout: 1000, bodyTimeout: 2000, writeTimeout: 1500 } }));
  cat = await png(1);
});

/** The server still answers, and nothing is left of earlier requests. */
async function expectWell(address = url) {
  expect((await post(`${address}/v1/embed`, { texts: ['still there'] })).status).toBe(200);
  for (let i = 0; i < 100; i++) {
    const metrics = await (await fetch(`${address}/metrics`)).text();
    if (/mome_queue_items\{engine="mome"\} 0\n/.test(metrics)) return;
    await sleep(20);
  }
  throw new Error('expected an empty queue');
}

describe('nonsense', () => {
  const paths = [
    '/v1/embed',
    '/v1/match',
    '/v1/rerank',
    '/v1/answer',
    '/v1/reason',
    '/v1/fill-mask',
    '/v1/embeddings',
    '/rerank',
    '/v2/rerank',
    '/embed',
    '/v2/models/mome/infer',
  ];
  const names = [
    'texts',
    'images',
    'text',
    'image',
    'input',
    'inputs',
    'query',
    'documents',
    'pairs',
    'model',
    'k',
    'question',
    'statement',
    'shape',
    'data',
    'name',
    'datatype',
    'dimensions',
    '__proto__',
    'constructor',
  ];

  it('of any shape gets an answer below 500', async () => {
    const value = fc.letrec((tie) => ({
      any: fc.oneof(
        { maxDepth: 3 },
        fc.string(),
        fc.integer(),
        fc.double(),
        fc.boolean(),
        fc.constant(null),
        fc.constant('data:image/png;base64,AAAA'),
        fc.array(tie('any'), { maxLength: 4 }),
        fc.dictionary(fc.constantFrom(...names), tie('any'), { maxKeys: 4 }),
      ),
    })).any;
    const body = fc.oneof(fc.dictionary(fc.constantFrom(...names), value), value);
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...paths), body, async (path, given) => {
        const { status } = await post(`${url}${path}`, JSON.stringify(given) ?? '');
        expect(status).toBeLessThan(500);
      }),
      { numRuns: 300 },
    );
    await expectWell();
  });

  it('as bytes, and under types that lie, gets an answer below 500', async () => {
    const types = [
      'application/json',
      'multipart/form-data',
      'multipart/form-data; boundary=x',
      'application/octet-stream',
      'image/png',
      '',
      'a/b;c=d;;',
      'application/json; charset=utf-16',
    ];
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...paths),
        fc.uint8Array({ maxLength: 300 }),
        fc.constantFrom(...types),
        async (path, bytes, type) => {
          const { status } = await post(`${url}${path}`, bytes, { 'content-type': type });
          expect(status).toBeLessThan(500);
          expect(status).toBeGreaterThanOrEqual(400);
        },
      ),
      { numRuns: 150 },
    );
    const form = '--x\r\ncontent-disposition: form-data; name="image"; filename="a"\r\n\r\n';
    for (const body of [
      form,
      `${form}abc`,
      `${form}abc\r\n--x--\r\n`,
      '--x--',
      `--x\r\n${'a: b\r\n'.repeat(5000)}\r\n--x--`,
    ])
      expect(
        (await post(`${url}/v1/embed`, body, { 'content-type': 'multipart/form-data; boundary=x' })).status,
      ).toBeLessThan(500);
    await expectWell();
  });

  it('before there is a request gets an answer with a code', async () => {
    const ask = async (bytes: string) => {
      const { text, ended } = await raw(url, bytes);
      expect(ended).toBe(true);
      const [head, body] = text.split('\r\n\r\n');
      return [Number(head!.split(' ')[1]), JSON.parse(body!).error.code];
    };
    const end = ' HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n';
    expect(await ask(`GET /v1/%zz${end}`)).toEqual([400, 'BAD_URL']);
    expect(await ask(`GET /v1/models/${'a'.repeat(300)}${end}`)).toEqual([400, 'BAD_URL']);
    expect(await ask('no request\r\n\r\n')).toEqual([400, 'BAD_REQUEST']);
    expect(await ask(`GET /?${'a'.repeat(20_000)}${end}`)).toEqual([431, 'MOME_TOO_LARGE']);
    expect(await ask('GET /v1/models HTTP/1.1\r\n')).toEqual([408, 'INCOMPLETE_BODY']);
    await expectWell();
  });

  it('of many pieces or characters is read and counted in turns of its own', async () => {
    const large = await started(model, { limits: { jsonBytes: 8 * 2 ** 20 } });
    // Soft hyphens have no pieces, so that all of each text is looked at.
    const bodies = [Array(120).fill('\u00ad'.repeat(32_000)), Array(500).fill(Array(250).fill(20))];
    for (const input of bodies) {
      const payload = Buffer.from(JSON.stringify({ input }));
      const headers = { 'content-type': 'application/json', 'content-length': String(payload.length) };
      const send = () => large.server.inject({ method: 'POST', url: '/v1/embeddings', headers, payload });
      expect((await expectShortTurns(send)).statusCode).toBe(200);
    }
  });

  it('deep, wide or long holds the loop no longer than 50 ms', async () => {
    const file = join(await temporaryFolder(), 'body.json');
    // From another process that runs already: what starting it and sending take is not the server's.
    const shell = spawn('sh', { stdio: ['pipe', 'pipe', 'inherit'] });
    const curl = `curl -s -o /dev/null -w '%{http_code}' -H 'content-type: application/json' ${url}/v1/embed --data-binary`;
    const send = (path: string) =>
      new Promise<string>((resolve) => {
        shell.stdout.once('data', (status) => resolve(String(status)));
        shell.stdin.write(`${curl} '@${path}'\n`);
      });
    const bodies = [
      '['.repeat(3_000_000),
      `{"texts":[${'"a",'.repeat(700_000)}"a"]}`,
      `{"texts":["${'a'.repeat(3_000_000)}"]}`,
      `{"texts":["${'\\\\'.repeat(1_500_000)}"]}`,
      `{${Array.from({ length: 200_000 }, (_, i) => `"k${i}":1`).join(',')}}`,
      JSON.stringify({ images: [`data:image/png;base64,${'A'.repeat(3_000_000)}`] }),
      `{"texts":["${'a'.repeat(30_000_000)}"]}`,
    ];
    for (const body of bodies) {
      await writeFile(file, body);
      const status = Number(await expectShortTurns(() => send(file)));
      expect(status, body.slice(0, 40)).toBeGreaterThanOrEqual(400);
      expect(status).toBeLessThan(500);
    }
    shell.stdin.end();
    await expectWell();
  });

  it('in pictures, such as a bomb, ends in 413 or 422', async () => {
    const bomb = Buffer.from(
      `<svg xmlns="http://www.w3.org/2000/svg" width="60000" height="60000"><rect width="60000" height="60000"/></svg>`,
    );
    const cut = cat.subarray(0, cat.length - 20);
    for (const image of [bomb, cut, Buffer.alloc(0), Buffer.alloc(100_000)]) {
      const { status } = await post(`${url}/v1/embed`, { images: [dataUrl(image)] });
      expect([413, 422]).toContain(status);
    }
    await expectWell();
  });

  it('in pictures that are too large ends in 413, as text and as bytes', async () => {
    const small = await started(model, { limits: { pictureBytes: 100 } });
    const input = { name: 'image', shape: [1], datatype: 'BYTES' };
    const infer = `${small.url}/v2/models/mome/infer`;
    // A picture as text may have a few bytes more.
    const long = Buffer.concat([cat, Buffer.alloc(2000)]);
    expect((await post(infer, { inputs: [{ ...input, data: [dataUrl(long)] }] })).status).toBe(413);
    const parameters = { binary_data_size: cat.length + 4 };
    const json = Buffer.from(JSON.stringify({ inputs: [{ ...input, parameters }] }));
    const length = Buffer.alloc(4);
    length.writeUInt32LE(cat.length);
    const headers = {
      'content-type': 'application/octet-stream',
      'inference-header-content-length': `${json.length}`,
    };
    expect((await post(infer, Buffer.concat([json, length, cat]), headers)).status).toBe(413);
  });

  it('in pictures with too many pixels ends in 413, and holds up nobody', async () => {
    const { url } = await started(model, { limits: { pixels: 1_000_000 } });
    const wide = await sharp({ create: { width: 1100, height: 1000, channels: 3, background: 'red' } })
      .png()
      .toBuffer();
    const inside = `<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="${dataUrl(wide)}"/></svg>`;
    // Filters over each other take as long as a decoder may.
    const filters = Array.from({ length: 60 }, () => '<feTurbulence baseFrequency="0.9" numOctaves="40"/>').join('');
    const slow = `<svg xmlns="http://www.w3.org/2000/svg" width="900" height="900"><filter id="f">${filters}</filter><rect width="900" height="900" filter="url(#f)"/></svg>`;
    const send = (image: Buffer) => post(`${url}/v1/embed`, { images: [dataUrl(image)] });
    for (const bomb of [wide, Buffer.from(inside)]) {
      const { status, body } = await send(bomb);
      expect([status, body.error.code]).toEqual([413, 'MOME_TOO_LARGE']);
      expect(body.error.message).toContain('1000000 pixels');
    }
    const stop = new AbortController();
    const bombs = [1, 2, 3].map((i) =>
      fetch(`${url}/v1/embed`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ images: [dataUrl(Buffer.from(`${slow}<!-- ${i} -->`))] }),
        signal: stop.signal,
      }).catch(() => {}),
    );
    await sleep(300);
    const begun = performance.now();
    const [text, picture] = await Promise.all([post(`${url}/v1/embed`, { texts: ['meanwhile'] }), send(cat)]);
    expect([text.status, picture.status]).toEqual([200, 200]);
    expect(performance.now() - begun).toBeLessThan(8000); // a bomb takes 10 s or more
    stop.abort();
    await Promise.all(bombs);
    await expectWell(url);
  }, 60_000);
});

describe('bad clients', () => {
  it('that send slowly are cut off', async () => {
    const head = 'POST /v1/embed HTTP/1.1\r\nhost: localhost\r\n';
    const slowHead = raw(url, head, 8000);
    const slowBody = raw(url, `${head}content-type: application/json\r\ncontent-length: 1000\r\n\r\n{"te`, 8000);
    const [first, second] = await Promise.all([slowHead, slowBody]);
    expect([first!.ended, second!.ended]).toEqual([true, true]);
    expect(first!.text).toContain('408');
    await expectWell();
  });

  it('that leave are no longer computed for', async () => {
    const texts = (call: number) => Array.from({ length: 400 }, (_, i) => `left ${call} ${i} ${'word '.repeat(20)}`);
    await Promise.all(
      Array.from({ length: 10 }, async (_, call) => {
        const stop = new AbortController();
        const sent = fetch(`${url}/v1/embed`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ texts: texts(call) }),
          signal: stop.signal,
        });
        setTimeout(() => stop.abort(), 5 + 5 * call);
        await sent.then((response) => response.text()).catch(() => {});
      }),
    );
    await expectWell();
    expect(await (await fetch(`${url}/metrics`)).text()).toMatch(
      /mome_requests_total\{route="\/v1\/embed",status="499"\} [1-9]/,
    );
  });

  it('that never read their answers are cut off', async () => {
    const { hostname, port } = new URL(url);
    const body = JSON.stringify({ texts: Array.from({ length: 512 }, (_, i) => `never read ${i}`) });
    const request = `POST /v1/embed HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
    const socket = createConnection({ host: hostname, port: Number(port) });
    socket.on('error', () => {});
    socket.pause();
    for (let i = 0; i < 40; i++) socket.write(request);
    const count = () =>
      new Promise<number>((resolve) => server.server.getConnections((_, connections) => resolve(connections)));
    expect(await count()).toBeGreaterThan(0);
    await sleep(4500);
    await expectWell();
    const written = socket.bytesWritten;
    socket.destroy();
    expect(written).toBeGreaterThan(0);
  });

  it('many at once leave no connection and no descriptor behind', async () => {
    const sockets = Array.from({ length: 100 }, () =>
      createConnection({ host: '127.0.0.1', port: Number(new URL(url).port) }),
    );
    for (const [i, socket] of sockets.entries()) {
      socket.on('error', () => {});
      if (i % 2)
        socket.write(
          'POST /v1/embed HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{"',
        );
    }
    await sleep(200);
    for (const [i, socket] of sockets.entries()) i % 3 ? socket.destroy() : socket.resetAndDestroy();
    await sleep(300);
    const connections = await new Promise<number>((resolve) =>
      server.server.getConnections((_, count) => resolve(count)),
    );
    expect(connections).toBeLessThan(10);
    await expectWell();
  });
});
