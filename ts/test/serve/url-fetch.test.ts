/** Pictures by URL: off unless asked for, from listed hosts, and never from a private network, however it is hidden. */
import { createServer as createHttpServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Vlmo } from '../../src/inference/index.ts';
import { isPublicAddress, type Network, UrlRules } from '../../src/serve/url-rules.ts';
import { loadTiny, png, post, started } from './helpers.ts';

let model: Vlmo;
let url = '';
let cat: Buffer;
let dog: Buffer;
/** A host of pictures that stands for a public one, and one that must never be asked. */
let outside: Server;
let inside: Server;
let port = 0;
let insidePort = 0;
const asked: string[] = [];
const askedInside: string[] = [];
const publicAddress = '127.0.0.2';

/** Answers by path. */
const answers: Record<string, (response: ServerResponse, request: IncomingMessage) => void> = {
  '/cat.png': (response) => response.writeHead(200, { 'content-type': 'image/png' }).end(cat),
  '/dog': (response) => response.end(dog),
  '/page': (response) => response.writeHead(200, { 'content-type': 'text/html' }).end(cat),
  '/gzip': (response) =>
    response.writeHead(200, { 'content-type': 'image/png', 'content-encoding': 'gzip' }).end(Buffer.alloc(9)),
  '/lie': (response) => response.writeHead(200, { 'content-type': 'image/png' }).end('no picture'),
  '/missing': (response) => response.writeHead(404).end(),
  '/declared': (response) => response.writeHead(200, { 'content-length': 1e9 }).write('a'),
  '/endless': (response) => {
    const more = () => void (response.destroyed || response.write(Buffer.alloc(65_536), () => setImmediate(more)));
    more();
  },
  '/never': () => {},
  '/slow': (response) => void response.writeHead(200, { 'content-type': 'image/png' }).write('a'),
  '/broken': (response) => {
    response.writeHead(200, { 'content-length': 100 }).write('a');
    setTimeout(() => response.destroy(), 20);
  },
  '/there': (response) => response.writeHead(302, { location: '/cat.png' }).end(),
  '/around': (response) => response.writeHead(302, { location: '/around' }).end(),
  '/nowhere': (response) => response.writeHead(302).end(),
  '/other-scheme': (response) => response.writeHead(301, { location: 'file:///etc/passwd' }).end(),
};

const listening = (server: Server, address: string) =>
  new Promise<number>((resolve) => {
    server.listen(0, address, () => resolve((server.address() as AddressInfo).port));
  });

/** Names of the test; each look-up of `rebinding` gives another address. */
let lookups = 0;
const network: Network = {
  resolve: async (host) => {
    if (host === 'rebinding.test') return lookups++ === 0 ? [publicAddress] : ['127.0.0.1'];
    if (host === 'mixed.test') return [publicAddress, '127.0.0.1'];
    if (host === 'private.test') return ['127.0.0.1'];
    if (host === 'mapped.test') return ['::ffff:127.0.0.1'];
    if (host === 'none.test') return [];
    if (host.endsWith('pictures.test')) return [publicAddress];
    throw new Error('ENOTFOUND');
  },
  isPublic: (address) => address === publicAddress || isPublicAddress(address),
};

beforeAll(async () => {
  model = await loadTiny();
  [cat, dog] = [await png(1), await png(2)];
  outside = createHttpServer((request, response) => {
    asked.push(request.url!);
    const to = new URL(request.url!, 'http://a').searchParams.get('to');
    if (to !== null) response.writeHead(307, { location: to }).end();
    else answers[request.url!.split('?')[0]!]?.(response, request);
  });
  inside = createHttpServer((request, response) => {
    askedInside.push(request.url!);
    response.end(cat);
  });
  [port, insidePort] = [await listening(outside, publicAddress), await listening(inside, '127.0.0.1')];
  const names = ['pictures.test', '*.pictures.test', 'rebinding.test', 'mixed.test', 'private.test', 'mapped.test'];
  const hosts = [
    ...names,
    'none.test',
    'missing.test',
    '127.0.0.1',
    '127.0.0.2',
    '[::1]',
    '[::ffff:7f00:1]',
    '2130706433',
  ];
  const allowUrls = hosts.flatMap((host) => [`${host}:${port}`, `${host}:${insidePort}`]);
  const limits = { pictureBytes: 100_000, urlTimeout: 1000 };
  ({ url } = await started(model, { allowUrls, network, limits }));
});
afterAll(() => {
  for (const server of [outside, inside]) {
    server.closeAllConnections();
    server.close();
  }
});

const at = (path: string, host = 'pictures.test') => `http://${host}:${port}${path}`;
const codeOf = async (image: string, address = url) => {
  const { status, body } = await post(`${address}/v1/embed`, { images: [image] });
  return [status, body.error?.code];
};

describe('pictures by URL', () => {
  it('are refused where the server was not told hosts, with the flag that does', async () => {
    const plain = await started(model, { network });
    const { status, body } = await post(`${plain.url}/v1/embed`, { images: [at('/cat.png')] });
    expect([status, body.error.code]).toEqual([422, 'URL_REFUSED']);
    expect(body.error.message).toContain('--allow-url');
    expect(asked).toEqual([]);
  });

  it('come from allowed hosts on every route, in the words of each', async () => {
    const [ofCat, ofDog] = [(await model.embedImages([cat])).embeddings, (await model.embedImages([dog])).embeddings];
    const own = await post(`${url}/v1/embed`, {
      images: [at('/cat.png'), at('/dog'), at('/there', 'a.b.pictures.test'), at('/cat.png')],
    });
    const rows = own.body.images.map((row: number[]) => row.map(Math.fround));
    expect(rows).toEqual([[...ofCat], [...ofDog], [...ofCat], [...ofCat]]);
    const image_url = { url: at('/dog') };
    const openai = await post(`${url}/v1/embeddings`, {
      model: 'x',
      input: [{ image_url }, { image: at('/cat.png') }, { image_url: at('/dog') }],
    });
    const given = openai.body.data.map(({ embedding }: { embedding: number[] }) => embedding.map(Math.fround));
    expect(given).toEqual([[...ofDog], [...ofCat], [...ofDog]]);
    const infinity = await post(`${url}/v1/embeddings`, { input: at('/cat.png'), modality: 'image' });
    expect(infinity.body.data[0].embedding.map(Math.fround)).toEqual([...ofCat]);
    const ranked = await post(`${url}/rerank`, {
      query: 'a cat',
      texts: [{ image: at('/cat.png') }, { image_url: { url: at('/dog') } }],
    });
    expect(ranked.body.map(({ index }: { index: number }) => index).sort()).toEqual([0, 1]);
    const inputs = [{ name: 'image', shape: [1], datatype: 'BYTES', data: [at('/dog')] }];
    const oip = await post(`${url}/v2/models/mome/infer`, { inputs });
    expect(oip.body.outputs[0].data.map(Math.fround)).toEqual([...ofDog]);
    // A text that looks like a URL stays a text.
    const before = asked.length;
    expect((await post(`${url}/v1/embed`, { texts: [at('/cat.png')] })).status).toBe(200);
    expect(asked.length).toBe(before);
  });

  it('come from nowhere else: other hosts, ports and schemes, users in the URL', async () => {
    const before = asked.length;
    for (const image of [
      at('/cat.png', 'other.test'),
      at('/cat.png', 'evilpictures.test'),
      at('/cat.png', 'pictures.test.evil.test'),
      at('/cat.png').replace(`:${port}`, ''),
      at('/cat.png').replace('http:', 'https:').replace(`:${port}`, ':1'),
      at('/cat.png').replace('pictures', 'user:secret@pictures'),
      at('/cat.png', `pictures.test@other.test`),
      `http://`,
      'http://[',
      'http:\\\\other.test\\cat.png',
      `${at('/cat.png')}?${'a'.repeat(9000)}`,
    ])
      expect(await codeOf(image), image).toEqual([422, 'URL_REFUSED']);
    for (const image of ['ftp://pictures.test/a', 'file:///etc/passwd', 'gopher://a'])
      expect(await codeOf(image)).toEqual([422, 'URL_REFUSED']);
    expect(asked.length).toBe(before);
  });

  it('never come from a private address, however it is written, found out or redirected to', async () => {
    for (const host of [
      '127.0.0.1',
      '[::1]',
      '[::ffff:127.0.0.1]',
      '2130706433',
      '0x7f.1',
      '127.1',
      'private.test',
      'mapped.test',
      'mixed.test',
    ])
      for (const image of [`http://${host}:${insidePort}/x`, at(`/?to=http://${host}:${insidePort}/x`)])
        expect(await codeOf(image), image).toEqual([422, 'URL_REFUSED']);
    expect(await codeOf(at('/other-scheme'))).toEqual([422, 'URL_REFUSED']);
    // A name whose address changes between a look and the connection.
    lookups = 0;
    expect(await codeOf(at('/cat.png', 'rebinding.test'))).toEqual([200, undefined]);
    expect(lookups).toBe(1); // the address that was checked is the one connected to
    expect(await codeOf(`http://rebinding.test:${insidePort}/x`)).toEqual([422, 'URL_REFUSED']);
    expect(askedInside).toEqual([]);
    // The same without the check of addresses gets there: what the test compares can fail.
    const blind = await started(model, {
      allowUrls: [`private.test:${insidePort}`],
      network: { ...network, isPublic: () => true },
    });
    expect(await codeOf(`http://private.test:${insidePort}/x`, blind.url)).toEqual([200, undefined]);
    expect(askedInside).toEqual(['/x']);
  });

  it('are bounded in bytes, time, type and redirects', async () => {
    expect(await codeOf(at('/declared'))).toEqual([413, 'MOME_TOO_LARGE']);
    expect(await codeOf(at('/endless'))).toEqual([413, 'MOME_TOO_LARGE']);
    for (const path of ['/page', '/gzip', '/missing', '/around', '/nowhere', '/broken'])
      expect(await codeOf(at(path)), path).toEqual([422, 'URL_FAILED']);
    for (const host of ['none.test', 'missing.test'])
      expect(await codeOf(at('/cat.png', host)), host).toEqual([422, 'URL_FAILED']);
    expect(await codeOf(at('/lie'))).toEqual([422, 'MOME_INVALID_IMAGE']);
    const begun = performance.now();
    const slow = await Promise.all(['/never', '/slow'].map((path) => codeOf(at(path))));
    expect(slow).toEqual(Array(2).fill([422, 'URL_FAILED']));
    expect(performance.now() - begun).toBeLessThan(3000);
  });

  it('end when the client leaves, and count among the bytes that requests hold', async () => {
    const { url } = await started(model, {
      allowUrls: [`pictures.test:${port}`],
      network,
      limits: { bodyBytesTogether: 10_000, urlTimeout: 60_000 },
    });
    const big = await png(3, 200);
    answers['/big'] = (response) => response.end(big);
    expect(big.length).toBeGreaterThan(10_000);
    expect(await codeOf(at('/big'), url)).toEqual([429, 'MOME_OVERLOADED']);
    expect(await codeOf(at('/cat.png'), url)).toEqual([200, undefined]);
    const gone = new Promise<void>((resolve) => {
      answers['/wait'] = (response) => void response.once('close', resolve);
    });
    const stop = new AbortController();
    const sent = fetch(`${url}/v1/embed`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ images: [at('/wait')] }),
      signal: stop.signal,
    }).catch(() => {});
    for (let i = 0; i < 100 && !asked.includes('/wait'); i++) await sleep(10);
    stop.abort();
    await Promise.all([sent, gone]);
  });
});

describe('the list of hosts', () => {
  const allowed = (hosts: string[], given: string) => {
    try {
      return new UrlRules(hosts).urlOf(given, 'image').href !== '';
    } catch {
      return false;
    }
  };

  it('means names, names below one, ports and protocols', () => {
    expect(allowed(['a.test'], 'https://a.test/x')).toBe(true);
    expect(allowed(['A.test'], 'http://a.TEST./x')).toBe(true);
    expect(allowed(['a.test'], 'http://b.a.test/x')).toBe(false);
    expect(allowed(['a.test'], 'http://a.test:8080/x')).toBe(false);
    expect(allowed(['a.test:8080'], 'http://a.test:8080/x')).toBe(true);
    expect(allowed(['a.test:8080'], 'http://a.test/x')).toBe(false);
    expect(allowed(['*.a.test'], 'http://c.b.a.test/x')).toBe(true);
    expect(allowed(['*.a.test'], 'http://a.test/x')).toBe(false);
    expect(allowed(['https://a.test'], 'http://a.test/x')).toBe(false);
    expect(allowed(['https://a.test/'], 'https://a.test/x')).toBe(true);
    for (const wrong of ['*', '', 'a b', 'a.test/path', '*.*.test', '*.com', 'ftp://a.test', 'a.test:99999', 'a*.test'])
      expect(() => new UrlRules([wrong]), wrong).toThrow('allowUrls: expected hosts');
  });

  it('leads to public addresses alone', () => {
    for (const address of ['8.8.8.8', '1.1.1.1', '2606:4700::1111']) expect(isPublicAddress(address)).toBe(true);
    for (const address of [
      '0.0.0.0',
      '10.1.2.3',
      '100.64.0.1',
      '100.100.100.200',
      '127.0.0.1',
      '168.63.129.16',
      '169.254.169.254',
      '172.16.0.1',
      '192.0.0.192',
      '192.168.0.1',
      '198.18.0.1',
      '224.0.0.1',
      '240.0.0.1',
      '255.255.255.255',
      '::',
      '::1',
      '::8.8.8.8',
      '::ffff:8.8.8.8',
      '::ffff:127.0.0.1',
      '64:ff9b::7f00:1',
      '64:ff9b:1::1',
      '2002:7f00:1::',
      '2001:0::1',
      '2001:db8::1',
      'fc00::1',
      'fd00:ec2::254',
      'fe80::1',
      'fe80::1%eth0',
      'fec0::1',
      'ff02::1',
      '4000::1',
      'a.test',
      '',
    ])
      expect(isPublicAddress(address), address).toBe(false);
  });
});
