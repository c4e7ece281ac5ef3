/** TLS, keys, CORS, headers for browsers, and the description of the API. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { request } from 'node:https';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Validator } from '@seriousme/openapi-schema-validator';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import type { Vlmo } from '../../src/inference/index.ts';
import { temporaryFolder } from '../helpers.ts';
import { loadTiny, post, started } from './helpers.ts';

const compared = vi.hoisted(() => ({ times: 0 }));
vi.mock('node:crypto', async (original) => {
  const crypto = await original<typeof import('node:crypto')>();
  const timingSafeEqual: typeof crypto.timingSafeEqual = (a, b) => {
    compared.times++;
    return crypto.timingSafeEqual(a, b);
  };
  return { ...crypto, timingSafeEqual, default: { ...crypto, timingSafeEqual } };
});

let model: Vlmo;
beforeAll(async () => {
  model = await loadTiny();
}, 60_000);

/** A certificate for localhost that is its own authority. */
async function selfSigned() {
  const folder = await temporaryFolder();
  const [cert, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1', '-days', '2'];
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  await promisify(execFile)('openssl', ['req', '-x509', ...kind, '-keyout', key, '-out', cert, ...subject]);
  return { cert: await readFile(cert), key: await readFile(key) };
}

const get = (url: string, options: object) =>
  new Promise<{ status: number | undefined; hsts: unknown }>((resolve, reject) => {
    request(url, { ...options, agent: false }, (response) => {
      response
        .resume()
        .on('end', () => resolve({ status: response.statusCode, hsts: response.headers['strict-transport-security'] }));
    })
      .on('error', reject)
      .end();
  });

describe('TLS', () => {
  it('is checked by the client, and no other certificate passes', async () => {
    const [tls, other] = [await selfSigned(), await selfSigned()];
    const { url, server } = await started(model, { tls, limits: { headTimeout: 500 } });
    expect(url.startsWith('https:')).toBe(true);
    const address = `${url.replace('127.0.0.1', 'localhost')}/health/ready`;
    expect((await get(address, { ca: tls.cert })).status).toBe(200);
    await expect(get(address, { ca: other.cert })).rejects.toThrow(/certificate|signature/i);
    await expect(get(address, {})).rejects.toThrow(/self.signed/i);
    await expect(get(address, { ca: tls.cert, servername: 'other.test' })).rejects.toThrow(/altnames/);
    await expect(get(address, { ca: tls.cert, maxVersion: 'TLSv1.1' })).rejects.toThrow();
    await expect(fetch(address.replace('https:', 'http:'))).rejects.toThrow();
    // Who opens a connection and never shakes hands is cut off.
    const silent = createConnection({ host: '127.0.0.1', port: Number(new URL(url).port) });
    await new Promise((resolve) =>
      silent
        .on('error', () => {})
        .once('close', resolve)
        .resume(),
    );
    await server.close();
  });
});

describe('keys', () => {
  it('are all compared, whichever fits, in constant time', async () => {
    const { url } = await started(model, { apiKeys: ['first', 'second', 'third'] });
    const times: number[] = [];
    for (const key of ['first', 'third', 'none', 'f', 'first and much more']) {
      compared.times = 0;
      const { status } = await fetch(`${url}/v1/models`, { headers: { authorization: `Bearer ${key}` } });
      expect(status).toBe(key === 'first' || key === 'third' ? 200 : 401);
      times.push(compared.times);
    }
    expect(times).toEqual(Array(5).fill(3));
  });

  it('that are missing are told so with the headers of every answer', async () => {
    const { url } = await started(model, { apiKeys: ['first'] });
    const { status, headers } = await fetch(`${url}/v1/models`);
    expect([status, headers.get('www-authenticate')]).toEqual([401, 'Bearer']);
    expect(headers.get('x-content-type-options')).toBe('nosniff');
  });
});

describe('browsers', () => {
  const preflight = (url: string, origin: string) =>
    fetch(`${url}/v1/embed`, {
      method: 'OPTIONS',
      headers: {
        origin,
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'content-type,authorization',
      },
    });

  it('of other origins may not call unless they are on the list', async () => {
    const { url } = await started(model);
    expect((await preflight(url, 'https://a.test')).headers.get('access-control-allow-origin')).toBeNull();
    const open = await started(model, { corsOrigins: ['https://a.test', 'https://b.test'], apiKeys: ['key'] });
    const allowed = await preflight(open.url, 'https://b.test');
    expect(allowed.status).toBe(204);
    expect(allowed.headers.get('access-control-allow-origin')).toBe('https://b.test');
    expect(allowed.headers.get('access-control-allow-headers')).toContain('authorization');
    expect(allowed.headers.get('vary')).toMatch(/origin/i);
    for (const origin of ['https://c.test', 'https://a.test.evil.test', 'null', 'http://a.test'])
      expect((await preflight(open.url, origin)).headers.get('access-control-allow-origin'), origin).toBeNull();
    // The call itself, also one that is refused: a page must be able to read why.
    const call = (headers: Record<string, string>) =>
      post(`${open.url}/v1/embed`, { texts: ['a'] }, { origin: 'https://a.test', ...headers });
    const done = await call({ authorization: 'Bearer key' });
    const refused = await call({});
    expect([done.status, refused.status]).toEqual([200, 401]);
    for (const { headers } of [done, refused])
      expect(headers.get('access-control-allow-origin')).toBe('https://a.test');
  });

  it('are told to be careful, in every answer', async () => {
    const { url } = await started(model);
    for (const path of ['/health/live', '/openapi.json', '/nothing', '/v1/embed', '/metrics']) {
      const { headers } = await fetch(`${url}${path}`);
      expect(headers.get('x-content-type-options'), path).toBe('nosniff');
      expect(headers.get('content-security-policy'), path).toContain("default-src 'self'");
      expect(headers.get('x-frame-options'), path).toBe('SAMEORIGIN');
      expect(headers.get('referrer-policy'), path).toBe('no-referrer');
      expect(headers.get('x-powered-by'), path).toBeNull();
      // Over plain HTTP nobody is told to use what is not there.
      expect(headers.get('content-security-policy'), path).not.toContain('upgrade-insecure-requests');
      expect(headers.get('strict-transport-security'), path).toBeNull();
    }
  });
});

describe('the description of the API', () => {
  /** Routes of the server that people need no description of. */
  const undescribed = new Set(['GET /metrics', 'GET /openapi.json']);

  /** Method and path of all routes, from the tree that Fastify prints. */
  function routesOf(tree: string): string[] {
    const parents: string[] = [];
    return tree.split('\n').flatMap((line) => {
      const [, indent, name, methods] = /^((?:│ {3}| {4})*)(?:└── |├── )(.*?)(?: \(([A-Z, ]+)\))?$/.exec(line) ?? [];
      if (indent === undefined) return [];
      const depth = indent.length / 4;
      parents.length = depth;
      parents[depth] = name!;
      const path = parents.join('');
      const real = (methods?.split(', ') ?? []).filter((method) => method !== 'HEAD' && method !== 'OPTIONS');
      return real.map((method) => `${method} ${path}`);
    });
  }
  const describedBy = ({ paths }: { paths: Record<string, object> }) =>
    Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path.replace(/\{(\w+)\}/g, ':$1')}`),
    );

  it('is valid, and has every route', async () => {
    const { url, server } = await started(model);
    const document = (await (await fetch(`${url}/openapi.json`)).json()) as { paths: Record<string, object> };
    const { valid, errors } = await new Validator().validate(structuredClone(document));
    expect(errors).toBeUndefined();
    expect(valid).toBe(true);
    const broken = { ...structuredClone(document), paths: { embed: { post: { responses: 5 } } } };
    expect((await new Validator().validate(broken)).valid).toBe(false);

    const routes = routesOf(server.printRoutes({ commonPrefix: false })).filter((route) => !undescribed.has(route));
    expect(routes).toContain('POST /v1/embed');
    expect(routes).toContain('POST /v2/models/:model/versions/:version/infer');
    expect(describedBy(document).sort()).toEqual(routes.sort());
    // One that is missing is noticed.
    const { '/v1/match': missing, ...others } = document.paths;
    expect(missing).toBeDefined();
    expect(describedBy({ paths: others }).sort()).not.toEqual(routes.sort());
  });
});
