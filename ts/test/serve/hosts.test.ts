/** Pages of other sites whose names point at this machine. */
import { request } from 'node:http';
import { status as grpc } from '@grpc/grpc-js';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Vlmo } from '../../src/inference/index.ts';
import { HostRules } from '../../src/serve/hosts.ts';
import { clientOf } from './grpc-client.ts';
import { loadTiny, started } from './helpers.ts';

let model: Vlmo;
beforeAll(async () => {
  model = await loadTiny();
}, 60_000);

const asked = (url: string, host: string, headers: Record<string, string> = {}) =>
  new Promise<{ status: number | undefined; code: string | undefined }>((resolve, reject) => {
    request(`${url}/v1/models`, { headers: { host, ...headers }, agent: false }, (response) => {
      let text = '';
      response
        .setEncoding('utf8')
        .on('data', (part) => (text += part))
        .on('end', () => resolve({ status: response.statusCode, code: JSON.parse(text).error?.code }));
    })
      .on('error', reject)
      .end();
  });

describe('a host', () => {
  it('that is a foreign name gets no answer from a server of this machine without keys', async () => {
    const { url } = await started(model);
    const { port } = new URL(url);
    for (const host of [
      `localhost:${port}`,
      `127.0.0.1:${port}`,
      `[::1]:${port}`,
      'mome.localhost',
      'LOCALHOST.',
      '10.0.0.5',
    ])
      expect((await asked(url, host)).status, host).toBe(200);
    for (const host of [`evil.test:${port}`, 'evil.test', '127.0.0.1.evil.test', 'localhost.evil.test', 'notlocalhost'])
      expect(await asked(url, host), host).toEqual({ status: 421, code: 'HOST_NOT_ALLOWED' });
    // The path cannot say another host.
    expect((await asked(url, 'evil.test', { 'x-forwarded-host': 'localhost' })).status).toBe(421);
  });

  it('may be any where keys are asked for, and those of a list alone where there is one', async () => {
    const withKeys = await started(model, { apiKeys: ['key'] });
    expect((await asked(withKeys.url, 'any.test', { authorization: 'Bearer key' })).status).toBe(200);
    const options = { apiKeys: ['key'], allowHosts: ['mome.test', '*.inside.test'] };
    const listed = await started(model, options);
    const status = async (host: string) => (await asked(listed.url, host, { authorization: 'Bearer key' })).status;
    for (const host of ['mome.test', 'MOME.test:8080', 'a.inside.test', 'a.b.inside.test', '127.0.0.1', 'localhost'])
      expect(await status(host), host).toBe(200);
    for (const host of ['inside.test', 'xinside.test', 'mome.test.evil.test', 'a.mome.test'])
      expect(await status(host), host).toBe(421);
  });

  it('is checked over gRPC too, where it is the authority', async () => {
    const codeAt = async (options: object, authority: string, metadata: Record<string, string> = {}) => {
      const address = await addressOf(options);
      const { call } = clientOf(address, undefined, { options: { 'grpc.default_authority': authority } });
      return call('ModelReady', { name: 'mome' }, { metadata }).then(
        () => grpc.OK,
        (error) => [error.code, error.metadata.get('mome-code')[0]],
      );
    };
    const addresses = new Map<object, string>();
    const addressOf = async (options: object) => {
      const known = addresses.get(options);
      if (known) return known;
      const { server } = await started(model, options);
      const address = await server.listenGrpc({ port: 0 });
      addresses.set(options, address);
      return address;
    };
    const refused = [grpc.PERMISSION_DENIED, 'HOST_NOT_ALLOWED'];
    const bare = {};
    for (const host of ['localhost:1', '127.0.0.1:1', '[::1]:1']) expect(await codeAt(bare, host), host).toBe(grpc.OK);
    for (const host of ['evil.test', 'localhost.evil.test:1']) expect(await codeAt(bare, host), host).toEqual(refused);
    const key = { authorization: 'Bearer key' };
    expect(await codeAt({ apiKeys: ['key'] }, 'any.test', key)).toBe(grpc.OK);
    const listed = { apiKeys: ['key'], allowHosts: ['mome.test'] };
    expect(await codeAt(listed, 'mome.test:1', key)).toBe(grpc.OK);
    expect(await codeAt(listed, 'evil.test', key)).toEqual(refused);
  });

  it('is not looked at on other addresses, nor where there is none', () => {
    const rules = new HostRules([], false);
    for (const address of ['192.168.0.7', '10.1.2.3', '2001:db8::1', undefined]) rules.require('any.test', address);
    rules.require(undefined, '127.0.0.1');
    for (const address of ['127.0.0.1', '127.8.9.1', '::1', '::ffff:127.0.0.1'])
      expect(() => rules.require('any.test', address), address).toThrow(/expected a host/);
    for (const name of ['', 'http://a.test', 'a.test:80', '*', 'a b', '*.*.test'])
      expect(() => new HostRules([name], false), name).toThrow(/allowHosts/);
  });
});
