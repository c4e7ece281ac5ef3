/** Downloads from servers that break off, lie, redirect and change their files. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Vlmo } from '../../src/inference/index.ts';
import { cacheFolder, placesOf } from '../../src/registry/cache.ts';
import { download } from '../../src/registry/download.ts';
import { listModels, modelPath, pull, pullModel, removeModel } from '../../src/registry/pull.ts';
import { registry } from '../../src/registry/registry.ts';
import { packageRoot } from '../../src/runtime/addon.ts';
import { MomeError } from '../../src/runtime/errors.ts';
import { temporaryFolder } from '../helpers.ts';

const content = Buffer.from(Array.from({ length: 200_000 }, (_, i) => (i * 7919) & 255));
const sha256 = createHash('sha256').update(content).digest('hex');
const servers: Server[] = [];
let cache = '';
const variables = [
  'MOME_CACHE',
  'MOME_MIRROR',
  'MOME_OFFLINE',
  'XDG_CACHE_HOME',
  'HTTP_PROXY',
  'http_proxy',
  'NO_PROXY',
  'no_proxy',
];
const before = variables.map((name) => [name, process.env[name]] as const);

beforeEach(async () => {
  for (const name of variables) delete process.env[name];
  cache = await temporaryFolder();
  process.env.MOME_CACHE = cache;
});
afterEach(() => {
  for (const server of servers.splice(0)) server.close().closeAllConnections();
  for (const [name, value] of before)
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
});

async function serve(answer: RequestListener): Promise<string> {
  const server = createServer(answer).listen(0, '127.0.0.1');
  servers.push(server);
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

/** A server that does it right, but ends after `most` bytes of each answer. */
const breaking =
  (most: number, seen: (string | undefined)[] = [], etag = '"1"'): RequestListener =>
  (request, response) => {
    seen.push(request.headers.range);
    const begin = request.headers['if-range'] === etag ? Number(/\d+/.exec(request.headers.range ?? '')?.[0] ?? 0) : 0;
    const rest = content.subarray(begin);
    response.writeHead(begin > 0 ? 206 : 200, {
      etag,
      'content-length': rest.length,
      ...(begin > 0 && { 'content-range': `bytes ${begin}-${content.length - 1}/${content.length}` }),
    });
    if (rest.length <= most) response.end(rest);
    else response.write(rest.subarray(0, most), () => response.destroy());
  };

const get = async (url: string, more: object = {}, options: object = {}) => {
  const to = join(cache, 'file.bin');
  return { to, got: await download({ file: 'file.bin', url, ...more }, to, { pause: 1, timeout: 500, ...options }) };
};
const refused = async (work: Promise<unknown>, code: string, message: RegExp) => {
  const error = await work.then(
    () => undefined,
    (reason) => reason,
  );
  expect(error).toBeInstanceOf(MomeError);
  expect([error.code, error.message]).toEqual([code, expect.stringMatching(message)]);
};

describe('a download', () => {
  it('goes on where the connection broke, and has every byte', async () => {
    const seen: (string | undefined)[] = [];
    const { to, got } = await get(await serve(breaking(70_000, seen)), { sha256, bytes: content.length });
    expect(seen.length).toBeGreaterThan(2);
    expect(seen[0]).toBeUndefined();
    expect(seen[1]).toMatch(/^bytes=[1-9]/);
    expect((await readFile(to)).equals(content)).toBe(true);
    expect([got.sha256, existsSync(`${to}.part`)]).toEqual([sha256, false]);
  });

  it('starts again when the file changes between the parts', async () => {
    let requests = 0;
    const url = await serve((request, response) =>
      requests++ === 0 ? breaking(70_000, [], '"old"')(request, response) : breaking(1e9)(request, response),
    );
    expect((await get(url)).got.sha256).toBe(sha256);
  });

  it('starts again when a server ignores If-Range and sends a part of another version', async () => {
    let requests = 0;
    const url = await serve((request, response) => {
      const first = requests++ === 0;
      if (!first && request.headers.range) {
        response.writeHead(206, {
          etag: '"2"',
          'content-range': `bytes 70000-${content.length - 1}/${content.length}`,
        });
        response.end(Buffer.alloc(content.length - 70_000));
      } else breaking(first ? 70_000 : 1e9)(request, response);
    });
    expect((await get(url)).got.sha256).toBe(sha256);
  });

  it('starts again after 416', async () => {
    let requests = 0;
    const url = await serve((request, response) => {
      if (requests++ > 0 && request.headers.range) response.writeHead(416).end();
      else breaking(requests === 1 ? 70_000 : 1e9)(request, response);
    });
    expect((await get(url)).got.sha256).toBe(sha256);
  });

  it('follows redirects to another host, but neither loops nor other protocols', async () => {
    const other = (await serve(breaking(1e9))).replace('127.0.0.1', 'localhost');
    const to = (location: string) => serve((_, response) => response.writeHead(302, { location }).end());
    expect((await get(await to(other))).got.sha256).toBe(sha256);
    await refused(get(await to('/')), 'MOME_IO', /more than 10 redirects/);
    await refused(get(await to('file:///etc/passwd')), 'MOME_IO', /redirect to file:/);
  });

  it.each([
    ['404', 404, {}, 'MOME_NOT_FOUND', /HTTP status 404/],
    ['403', 403, {}, 'MOME_IO', /HTTP status 403/],
    ['a page by its type', 200, { 'content-type': 'text/html' }, 'MOME_INVALID_FILE', /a page/],
    ['packed content', 200, { 'content-encoding': 'gzip' }, 'MOME_INVALID_FILE', /content-encoding/],
    ['a page by its content', 200, {}, 'MOME_INVALID_FILE', /got a page/],
  ] as const)('refuses %s', async (_, status, headers, code, message) => {
    const page = '<!DOCTYPE html><p>Sign in';
    const url = await serve((_, response) =>
      response.writeHead(status, { 'content-length': page.length, ...headers }).end(page),
    );
    await refused(get(url), code, message);
    expect(existsSync(join(cache, 'file.bin'))).toBe(false);
  });

  it('refuses another length and another checksum than the registry knows', async () => {
    const url = await serve(breaking(1e9));
    await refused(get(url, { bytes: content.length + 1 }), 'MOME_INVALID_FILE', /200000 bytes for 200001/);
    await refused(
      get(url, { sha256: sha256.replace(/./, (c) => (c === '0' ? '1' : '0')) }),
      'MOME_INVALID_FILE',
      /SHA-256/,
    );
    expect(existsSync(join(cache, 'file.bin.part'))).toBe(false);
  });

  it('gives up on a server that announces more than it sends, and on one that says nothing', async () => {
    const lies = await serve((_, response) => {
      response.writeHead(200, { 'content-length': 10 });
      response.write('12345', () => response.destroy());
    });
    await refused(get(lies), 'MOME_IO', /5 times in a row.*what has come is kept/);
    await refused(get(await serve(() => {}), {}, { timeout: 30, attempts: 1 }), 'MOME_IO', /1 times in a row/);
  });

  it('asks for the room that the file and its conversion take', async () => {
    await refused(get(await serve(breaking(1e9)), {}, { roomFactor: 1e12 }), 'MOME_IO', /free bytes.*MOME_CACHE/);
  });

  it('leaves a part that is gone on with when it is stopped', async () => {
    const seen: (string | undefined)[] = [];
    const slow = await serve((_, response) => {
      response.writeHead(200, { etag: '"1"', 'content-length': content.length });
      response.write(content.subarray(0, 50_000));
    });
    const stop = new AbortController();
    const onProgress = () => stop.abort(new Error('Ctrl-C'));
    await refused(get(slow, {}, { signal: stop.signal, onProgress, timeout: 5000 }), 'MOME_ABORTED', /./);
    const there = (await stat(join(cache, 'file.bin.part'))).size;
    expect(there).toBeGreaterThan(0);
    servers[0]!.closeAllConnections();
    servers[0]!.removeAllListeners('request').on('request', breaking(1e9, seen));
    expect((await get(slow)).got.sha256).toBe(sha256);
    expect(seen).toEqual([`bytes=${there}-`]);
  });
});

describe('a model', () => {
  const folder = join(packageRoot(), 'models/emoji-tiny');
  const model = {
    name: 'vlmo-base-coco',
    description: '',
    millions: 1,
    weights: { file: 'tiny.safetensors', url: 'http://unused.invalid/' },
    vocabulary: { file: 'vocab.txt', url: 'http://unused.invalid/' },
  };

  it('is pulled from the mirror and converted once by two callers, loads by its name offline, is listed and removed', async () => {
    const asked: string[] = [];
    process.env.MOME_MIRROR = await serve(async (request, response) => {
      asked.push(request.url!);
      const bytes = await readFile(join(folder, request.url === '/vocab.txt' ? 'vocab.txt' : 'model.safetensors'));
      response.writeHead(200, { 'content-length': bytes.length }).end(bytes);
    });
    await refused(Vlmo.load('vlmo-base-coco'), 'MOME_NOT_FOUND', /mome pull vlmo-base-coco/);
    expect(asked).toEqual([]);
    const paths = await Promise.all([pull(model), pull(model)]);
    expect(asked).toEqual(['/vocab.txt', '/tiny.safetensors']);
    process.env.MOME_OFFLINE = '1';
    const vlmo = await Vlmo.load('vlmo-base-coco', { device: 'cpu' });
    await vlmo.dispose();
    expect((await listModels())[0]).toMatchObject({ name: 'vlmo-base-coco', path: paths[0] });
    expect(await removeModel('vlmo-base-coco')).toBeGreaterThan(1000);
    expect((await listModels()).every(({ path }) => path === undefined)).toBe(true);
    await refused(Vlmo.load('vlmo-base-coco', { download: true }), 'MOME_NOT_FOUND', /MOME_OFFLINE/);
  });

  it('is refused when it differs from its first download', async () => {
    process.env.MOME_MIRROR = await serve((_, response) =>
      response.writeHead(200, { 'content-length': 5 }).end('hello'),
    );
    const { seen } = placesOf(model.name);
    await mkdir(join(cache, 'seen'));
    await writeFile(seen, JSON.stringify({ 'vocab.txt': { url: 'http://a/', bytes: 5, sha256 } }));
    await refused(pull(model), 'MOME_INVALID_FILE', /as at its first download/);
  });

  it('comes through a proxy, unless NO_PROXY says otherwise', async () => {
    let asked = 0;
    process.env.HTTP_PROXY = await serve((_, response) => {
      asked++;
      response.writeHead(404).end();
    });
    servers[0]!.on('connect', (_, socket) => {
      asked++;
      socket.end('HTTP/1.1 403 Forbidden\r\n\r\n');
    });
    const url = await serve(breaking(1e9));
    await expect(get(url, {}, { attempts: 1 })).rejects.toBeInstanceOf(MomeError);
    expect(asked).toBe(1);
    process.env.NO_PROXY = '127.0.0.1';
    expect((await get(url)).got.sha256).toBe(sha256);
    expect(asked).toBe(1);
  });

  it('has a name that a typo is near to, and a folder wins over a name', async () => {
    await refused(pullModel('vlmo-base-cocoa'), 'MOME_NOT_FOUND', /did you mean vlmo-base-coco/);
    await refused(Vlmo.load('vlmo-bsae-coco'), 'MOME_NOT_FOUND', /did you mean vlmo-base-coco/);
    const here = process.cwd();
    process.chdir(cache);
    try {
      await mkdir('vlmo-base-coco');
      expect(await modelPath('load', 'vlmo-base-coco')).toBe('vlmo-base-coco');
    } finally {
      process.chdir(here);
    }
    expect(registry.size).toBe(18);
  });

  it('lies where MOME_CACHE or XDG say', () => {
    expect(cacheFolder()).toBe(cache);
    delete process.env.MOME_CACHE;
    process.env.XDG_CACHE_HOME = '/x';
    expect(cacheFolder()).toBe('/x/mome');
    process.env.XDG_CACHE_HOME = 'relative';
    expect(cacheFolder()).toMatch(/\/\.cache\/mome$/);
  });
});
