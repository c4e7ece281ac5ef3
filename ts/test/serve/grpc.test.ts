/** The Open Inference Protocol over gRPC, with clients made from its file: calls, errors, keys, health, reflection, deadlines and the end. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { credentials, loadPackageDefinition, status } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { protoPath as healthProto } from 'grpc-health-check';
import { parse, Root } from 'protobufjs';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { Batcher } from '../../src/inference/batcher.ts';
import type { Vlmo } from '../../src/inference/index.ts';
import { protoFolder } from '../../src/serve/grpc/messages.ts';
import type { MomeServer } from '../../src/serve/index.ts';
import { temporaryFolder } from '../helpers.ts';
import { type Answer, clientOf, floats, packed, tensor, texts } from './grpc-client.ts';
import { loadTiny, png, post, started } from './helpers.ts';

let model: Vlmo;
let server: MomeServer;
let url = '';
let address = '';
let cat: Buffer;
let dog: Buffer;
beforeAll(async () => {
  model = await loadTiny();
  ({ server, url } = await started(model));
  address = await server.listenGrpc({ port: 0 });
  cat = await png(1);
  dog = await png(2);
});

const health = loadSync(healthProto, { keepCase: true, enums: String, defaults: true });
const healthOf = (at: string) => clientOf(at, 'grpc.health.v1.Health', { definition: health });

/** Computing that goes on until it is told that nobody waits any more. @returns how often it began, and was told so */
function untilLeft() {
  const counts = { begun: 0, left: 0 };
  const computing = vi.spyOn(Batcher.prototype, 'embedTexts').mockImplementation(async (_, options) => {
    counts.begun++;
    await new Promise((resolve) => options!.signal!.addEventListener('abort', resolve, { once: true }));
    counts.left++;
    throw options!.signal!.reason;
  });
  return Object.assign(counts, { restore: () => computing.mockRestore() });
}

describe('calls', () => {
  it('tell of the server and its models', async () => {
    const { call, failed } = clientOf(address);
    expect(await call('ServerLive', {})).toEqual({ live: true });
    expect(await call('ServerReady', {})).toEqual({ ready: true });
    expect(await call('ModelReady', { name: 'mome', version: '1' })).toEqual({ ready: true });
    expect(await call('ServerMetadata', {})).toMatchObject({ name: 'mome', version: expect.stringMatching(/^\d/) });
    const { inputs, outputs } = await call('ModelMetadata', { name: 'mome' });
    const rest = (await (await fetch(`${url}/v2/models/mome`)).json()) as { inputs: object[]; outputs: object[] };
    expect([inputs, outputs]).toEqual([rest.inputs, rest.outputs]);
    for (const name of ['ModelReady', 'ModelMetadata'])
      expect((await failed(name, { name: 'other' })).code).toBe(status.NOT_FOUND);
  });

  it('infer as the model does, from typed contents and from packed ones', async () => {
    const { call } = clientOf(address);
    const expected = await model.embedTexts(['a cat', 'a dog']);
    const typed = await call('ModelInfer', { ...texts('a cat', 'a dog'), id: 'seven' });
    expect(typed).toMatchObject({ model_name: 'mome', id: 'seven', raw_output_contents: [] });
    expect(typed.outputs[0]).toMatchObject({ name: 'text_embedding', datatype: 'FP32', shape: [2, expected.width] });
    expect(typed.outputs[0].contents.fp32_contents).toEqual([...expected.embeddings]);

    const inputs = ['text', 'image'].map((name) => ({ name, datatype: 'BYTES', shape: [2] }));
    const raw_input_contents = [packed(Buffer.from('a cat'), Buffer.from('a dog')), packed(cat, dog)];
    const outputs = [{ name: 'match' }, { name: 'image_embedding' }];
    const raw = await call('ModelInfer', { model_name: 'mome', inputs, outputs, raw_input_contents });
    expect(raw.outputs.map(({ name, contents }: Answer) => [name, contents])).toEqual([
      ['match', null],
      ['image_embedding', null],
    ]);
    const pairs = [
      { image: cat, text: 'a cat' },
      { image: dog, text: 'a dog' },
    ];
    expect(floats(raw.raw_output_contents[0])).toEqual([...(await model.match(pairs))]);
    expect(floats(raw.raw_output_contents[1])).toEqual([...(await model.embedImages([cat, dog])).embeddings]);
    // The form of the answer may be asked for.
    const asked = { ...texts('a cat'), parameters: { binary_data_output: { bool_param: true } } };
    expect((await call('ModelInfer', asked)).raw_output_contents.length).toBe(1);
  });

  it('share runs, queue and counts with requests over HTTP', async () => {
    const { call } = clientOf(address);
    const given = Array.from({ length: 40 }, (_, i) => `both ways ${i}`);
    const [overGrpc, overHttp] = await Promise.all([
      call('ModelInfer', texts(...given)),
      post(`${url}/v1/embed`, { texts: given }),
    ]);
    expect(overGrpc.outputs[0].contents.fp32_contents).toEqual(overHttp.body.texts.flat().map(Math.fround));
    const metrics = await (await fetch(`${url}/metrics`)).text();
    const route = 'route="/inference.GRPCInferenceService/ModelInfer"';
    expect(metrics).toMatch(new RegExp(`mome_requests_total\\{${route},status="OK"\\} [1-9]`));
    expect(metrics).toContain(`mome_request_duration_seconds_bucket{le="60",${route}}`);
  });

  it('name models of several', async () => {
    const other = await loadTiny();
    const { server } = await started({ first: model, second: other });
    const { call, failed } = clientOf(await server.listenGrpc({ port: 0 }));
    const answer = await call('ModelInfer', { ...texts('a cat'), model_name: 'second' });
    expect(answer.model_name).toBe('second');
    expect((await failed('ModelInfer', texts('a cat'))).code).toBe(status.NOT_FOUND);
    // A model is replaced while calls are under way.
    const many = Array.from({ length: 20 }, (_, i) =>
      call('ModelInfer', { ...texts(...Array.from({ length: 30 }, (_, j) => `text ${i} ${j}`)), model_name: 'second' }),
    );
    await server.replaceEngine('second', await loadTiny());
    for (const { outputs } of await Promise.all(many)) expect(outputs[0].shape[0]).toBe(30);
  });
});

describe('errors', () => {
  const root = new Root();
  parse(readFileSync(join(protoFolder(), 'error_details.proto'), 'utf8'), root, { keepCase: true });
  const details = (bytes: Buffer) => {
    const read = (type: string, of: Uint8Array): Answer =>
      root
        .lookupType(`google.rpc.${type}`)
        .toObject(root.lookupType(`google.rpc.${type}`).decode(of), { longs: Number });
    return read('Status', bytes).details.map(({ type_url, value }: Answer) => read(type_url.split('.').at(-1), value));
  };

  it('have a status, a code and a message', async () => {
    const { failed } = clientOf(address);
    const refused = async (request: object, code: status, message: string) => {
      const error = await failed('ModelInfer', request);
      expect([error.code, error.details]).toEqual([code, expect.stringContaining(message)]);
      return error.metadata.get('mome-code')[0];
    };
    const text = { name: 'text', datatype: 'BYTES', shape: [1] };
    const [ok] = texts('a cat').inputs;
    const model_name = 'mome';
    const invalid = status.INVALID_ARGUMENT;
    expect(await refused({ model_name }, invalid, 'inputs')).toBe('MOME_INVALID_ARGUMENT');
    expect(await refused({ ...texts('a'), model_name: 'x' }, status.NOT_FOUND, 'model')).toBe('MODEL_NOT_FOUND');
    await refused({ model_name, inputs: [{ ...ok, name: 'words' }] }, invalid, 'inputs.0.name');
    await refused({ model_name, inputs: [ok, ok] }, invalid, 'different names');
    await refused({ model_name, inputs: [{ ...ok, datatype: 'FP32' }] }, invalid, 'expected datatype BYTES');
    await refused({ model_name, inputs: [{ ...ok, shape: [2] }] }, invalid, 'expected 2 texts');
    await refused({ model_name, inputs: [{ ...ok, shape: [-1] }] }, invalid, 'inputs.0.shape');
    await refused({ model_name, inputs: [{ ...ok, shape: [2 ** 40, 2 ** 40] }] }, invalid, 'at most 512');
    await refused({ model_name, inputs: [{ ...text, contents: { int_contents: [1] } }] }, invalid, 'int_contents');
    await refused({ model_name, inputs: [ok], raw_input_contents: [packed(cat)] }, invalid, 'got both');
    await refused({ model_name, inputs: [text], raw_input_contents: [cat, cat] }, invalid, 'one for each of 1');
    const lying = packed(Buffer.from('a cat'));
    lying.writeUInt32LE(2 ** 31, 0);
    await refused({ model_name, inputs: [text], raw_input_contents: [lying] }, invalid, 'with their lengths');
    await refused({ model_name, inputs: [tensor('text', [Buffer.from([0xff])])] }, invalid, 'UTF-8');
    const broken = { model_name, inputs: [tensor('image', [Buffer.from('GIF89a no')])] };
    expect(await refused(broken, invalid, 'picture 0')).toBe('MOME_INVALID_IMAGE');
    await refused({ ...texts('a'), outputs: [{ name: 'match' }] }, invalid, 'as many images as texts');
    await refused(texts(...Array(513).fill('a')), invalid, '512 items');
  });

  it('say when to come again where the queue is full', async () => {
    const { server } = await started(model, { limits: { queueItems: 8 } });
    const { call } = clientOf(await server.listenGrpc({ port: 0 }));
    const given = (i: number) => texts(...Array.from({ length: 6 }, (_, j) => `text ${i} ${j}`));
    const ends = await Promise.allSettled(Array.from({ length: 30 }, (_, i) => call('ModelInfer', given(i))));
    const errors = ends.flatMap((end) => (end.status === 'rejected' ? [end.reason] : []));
    expect(errors.length).toBeGreaterThan(0);
    expect(errors.length).toBeLessThan(30);
    expect(new Set(errors.map(({ code }) => code))).toEqual(new Set([status.RESOURCE_EXHAUSTED]));
    const { metadata } = errors[0];
    const pushback = Number(metadata.get('grpc-retry-pushback-ms')[0]);
    expect(pushback).toBeGreaterThan(0);
    const [info, retry] = details(metadata.get('grpc-status-details-bin')[0]);
    expect(info).toEqual({ reason: 'MOME_OVERLOADED', domain: 'mome' });
    expect(1000 * (retry.retry_delay.seconds ?? 0) + (retry.retry_delay.nanos ?? 0) / 1e6).toBe(pushback);
  });

  it('tell of deadlines, those of the client and those of a parameter', async () => {
    const { call, failed } = clientOf(address);
    const asked = untilLeft();
    expect((await failed('ModelInfer', texts('late'), { deadline: 100 })).code).toBe(status.DEADLINE_EXCEEDED);
    await vi.waitFor(() => expect(asked.left).toBe(1));
    asked.restore();
    const many = texts(...Array.from({ length: 500 }, (_, i) => `late ${i} ${'word '.repeat(20)}`));
    const inTime = { ...many, parameters: { timeout: { int64_param: 1000 } } };
    const late = await failed('ModelInfer', inTime);
    expect([late.code, late.metadata.get('mome-code')[0]]).toEqual([status.DEADLINE_EXCEEDED, 'MOME_DEADLINE']);
    expect((await call('ModelInfer', texts('in time'), { deadline: 20_000 })).outputs.length).toBe(1);
  });
});

describe('a client that leaves', () => {
  it('is no longer computed for', async () => {
    const { call } = clientOf(address);
    const asked = untilLeft();
    const stop = new AbortController();
    const sent = call('ModelInfer', texts('left'), { signal: stop.signal });
    await vi.waitFor(() => expect(asked.begun).toBe(1));
    stop.abort();
    await expect(sent).rejects.toMatchObject({ code: status.CANCELLED });
    await vi.waitFor(() => expect(asked.left).toBe(1));
    asked.restore();
    expect(await (await fetch(`${url}/metrics`)).text()).toContain('mome_queue_items{engine="mome"} 0\n');
  });
});

describe('keys and certificates', () => {
  it('are those of the server; health asks for none', async () => {
    const { server } = await started(model, { apiKeys: ['first', 'second'] });
    const at = await server.listenGrpc({ port: 0 });
    const { call, failed } = clientOf(at);
    expect(await call('ServerReady', {})).toEqual({ ready: true });
    expect(await healthOf(at).call('check', { service: '' })).toEqual({ status: 'SERVING' });
    for (const metadata of [{}, { authorization: 'Bearer firs' }, { 'x-api-key': 'third' }]) {
      const error = await failed('ModelInfer', texts('a'), { metadata });
      expect([error.code, error.metadata.get('mome-code')[0]]).toEqual([status.UNAUTHENTICATED, 'UNAUTHORIZED']);
    }
    for (const metadata of [{ authorization: 'Bearer second' }, { 'x-api-key': 'first' }])
      expect((await call('ModelInfer', texts('a'), { metadata })).outputs.length).toBe(1);
  });

  it('serve TLS', async () => {
    const folder = await temporaryFolder();
    const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'];
    const made = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '1', '-keyout', key, '-out', cert];
    execFileSync('openssl', [...made, ...subject], { stdio: 'ignore' });
    const [keyPem, certPem] = [readFileSync(key), readFileSync(cert)];
    const { server } = await started(model, { tls: { key: keyPem, cert: certPem } });
    const at = (await server.listenGrpc({ port: 0 })).replace('127.0.0.1', 'localhost');
    const { call } = clientOf(at, undefined, { credentials: credentials.createSsl(certPem) });
    expect(await call('ServerLive', {})).toEqual({ live: true });
    expect((await clientOf(at).failed('ServerLive', {}, { deadline: 2000 })).code).not.toBe(status.OK);
  });
});

describe('services beside', () => {
  it('describe all services to those who ask', async () => {
    const v1 = join(process.cwd(), 'node_modules/@grpc/reflection/build/proto/grpc/reflection/v1/reflection.proto');
    const definition = loadPackageDefinition(loadSync(v1, { keepCase: true, defaults: true, oneofs: true })) as Answer;
    const client = new definition.grpc.reflection.v1.ServerReflection(address, credentials.createInsecure());
    const ask = (request: object) =>
      new Promise<Answer>((resolve, reject) => {
        const stream = client.ServerReflectionInfo();
        stream.on('data', resolve).on('error', reject);
        stream.write(request);
        stream.end();
      });
    const list = await ask({ list_services: '' });
    const names = list.list_services_response.service.map(({ name }: Answer) => name);
    expect(names).toEqual(expect.arrayContaining(['inference.GRPCInferenceService', 'grpc.health.v1.Health']));
    const file = await ask({ file_containing_symbol: 'inference.GRPCInferenceService' });
    const [bytes] = file.file_descriptor_response.file_descriptor_proto;
    expect(bytes.toString('latin1')).toContain('ModelInferRequest');
    expect((await ask({ file_containing_symbol: 'a.b' })).error_response.error_code).toBe(status.NOT_FOUND);
    client.close();
  });
});

describe('the end', () => {
  it('is announced, and comes when all calls are answered', async () => {
    const { server, url } = await started(model);
    const at = await server.listenGrpc({ port: 0 });
    await expect(server.listenGrpc({ port: 0 })).rejects.toMatchObject({ code: 'MOME_INVALID_ARGUMENT' });
    const { call, failed } = clientOf(at);
    const states: string[] = [];
    const watching = (healthOf(at).client as Answer).watch({ service: '' });
    watching.on('data', ({ status: state }: Answer) => states.push(state));
    const watched = new Promise<number>((resolve) => watching.on('error', ({ code }: Answer) => resolve(code)));
    await call('ServerLive', {});
    for (let i = 0; i < 200 && states.length === 0; i++) await sleep(20);
    const many = (i: number) => texts(...Array.from({ length: 100 }, (_, j) => `last ${i} ${j}`));
    const under = Promise.all(Array.from({ length: 5 }, (_, i) => call('ModelInfer', many(i))));
    await sleep(30);
    const drained = server.drain(1500);
    const [ready, modelReady, http, taken] = await Promise.all([
      call('ServerReady', {}),
      call('ModelReady', { name: 'mome' }),
      fetch(`${url}/health/ready`),
      call('ModelInfer', texts('still taken')),
    ]);
    expect([ready, modelReady, http.status]).toEqual([{ ready: false }, { ready: false }, 503]);
    expect(taken.outputs.length).toBe(1);
    for (const { outputs } of await under) expect(outputs[0].shape[0]).toBe(100);
    await drained;
    expect(states).toEqual(['SERVING', 'NOT_SERVING']);
    expect(await watched).toBe(status.UNAVAILABLE);
    expect((await failed('ServerLive', {}, { deadline: 3000 })).code).toBe(status.UNAVAILABLE);
    await expect(server.listenGrpc({ port: 0 })).rejects.toMatchObject({ code: 'MOME_DISPOSED' });
  });

  it('does not come of a port that is taken', async () => {
    const { server } = await started(model);
    const port = Number(address.split(':')[1]);
    await expect(server.listenGrpc({ port })).rejects.toMatchObject({
      code: 'MOME_IO',
      message: expect.stringContaining('EADDRINUSE'),
    });
    expect(await server.listenGrpc({ port: 0 })).toMatch(/^127\.0\.0\.1:\d+$/);
  });
});
