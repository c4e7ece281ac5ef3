/** Spans of requests over HTTP and gRPC, with the SDK of OpenTelemetry as a program would register it. */
import { setTimeout as sleep } from 'node:timers/promises';
import { context, propagation, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-base';
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { Batcher, type Vlmo } from '../../src/inference/index.ts';
import { Program } from '../../src/runtime/engine.ts';
import type { MomeServer } from '../../src/serve/index.ts';
import { clientOf, texts } from './grpc-client.ts';
import { dataUrl, loadTiny, png, post, started } from './helpers.ts';

const exporter = new InMemorySpanExporter();
const lines: { readonly msg: string; readonly trace_id?: string; readonly route?: string; readonly active?: string }[] =
  [];
let model: Vlmo;
let server: MomeServer;
let url = '';
let address = '';
beforeAll(async () => {
  model = await loadTiny();
  const stream = {
    write: (line: string) =>
      void lines.push({ ...JSON.parse(line), active: trace.getActiveSpan()?.spanContext().spanId }),
  };
  ({ server, url } = await started({ one: model }, { logger: { level: 'info', stream } as never }));
  address = await server.listenGrpc({ port: 0 });
});

/** W3C trace context, as its propagator in the SDK reads it. */
const w3c = {
  inject: () => {},
  fields: () => ['traceparent'],
  extract: ((of, carrier, { get }) => {
    const header = String(get(carrier, 'traceparent') ?? '');
    const [, traceId, spanId, flags] = /^00-([\da-f]{32})-([\da-f]{16})-([\da-f]{2})$/.exec(header) ?? [];
    if (!traceId || !spanId) return of;
    return trace.setSpanContext(of, { traceId, spanId, traceFlags: Number(`0x${flags}`), isRemote: true });
  }) as Parameters<typeof propagation.setGlobalPropagator>[0]['extract'],
};

function register() {
  trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }));
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  propagation.setGlobalPropagator(w3c);
}
beforeEach(() => {
  exporter.reset();
  lines.length = 0;
});
afterEach(() => {
  trace.disable();
  context.disable();
  propagation.disable();
});

/** The spans, once `count` requests have ended. */
async function spansOf(count: number): Promise<readonly ReadableSpan[]> {
  const ended = () => exporter.getFinishedSpans().filter(({ kind }) => kind === SpanKind.SERVER);
  for (let i = 0; i < 200 && ended().length < count; i++) await sleep(10);
  expect(ended().length).toBe(count);
  return exporter.getFinishedSpans();
}

const childrenOf = (spans: readonly ReadableSpan[], parent: ReadableSpan) =>
  spans.filter(({ parentSpanContext }) => parentSpanContext?.spanId === parent.spanContext().spanId);
const server1 = (spans: readonly ReadableSpan[]) => spans.find(({ kind }) => kind === SpanKind.SERVER)!;
const time = ([seconds, nanoseconds]: readonly [number, number]) => 1000 * seconds + nanoseconds / 1e6;

const traceId = '0af7651916cd43dd8448eb211c80319c';
const traceparent = `00-${traceId}-b7ad6b7169203331-01`;

describe('without an SDK', () => {
  it('nothing is made, and log lines have no trace', async () => {
    expect((await post(`${url}/v1/embed`, { texts: ['a'] }, { traceparent })).status).toBe(200);
    await clientOf(address).call('ModelInfer', { ...texts('a'), model_name: 'one' }, { metadata: { traceparent } });
    await sleep(50);
    expect(exporter.getFinishedSpans()).toEqual([]);
    expect(lines.filter(({ msg }) => msg === 'request').length).toBe(2);
    for (const line of lines) expect(line.trace_id).toBeUndefined();
  });
});

describe('with an SDK', () => {
  it('a request over HTTP is a span with its stages, below the span of its client', async () => {
    register();
    const images = [dataUrl(await png(11)), dataUrl(await png(12))];
    expect((await post(`${url}/v1/embed?a=b`, { images }, { traceparent })).status).toBe(200);
    const spans = await spansOf(1);
    const request = server1(spans);
    expect([request.name, request.spanContext().traceId]).toEqual(['POST /v1/embed', traceId]);
    expect(request.parentSpanContext?.spanId).toBe('b7ad6b7169203331');
    expect(request.attributes).toMatchObject({
      'http.request.method': 'POST',
      'http.route': '/v1/embed',
      'url.path': '/v1/embed',
      'http.response.status_code': 200,
    });
    const children = childrenOf(spans, request);
    expect(children.length).toBe(spans.length - 1);
    const [decode, run] = ['mome.decode', 'mome.run'].map((name) => children.find((child) => child.name === name)!);
    expect(decode!.attributes).toEqual({ 'mome.pictures': 2 });
    expect(run!.attributes).toMatchObject({ 'mome.engine': 'one', 'mome.run.heads': 'embed' });
    for (const child of children) {
      expect(time(child.startTime)).toBeGreaterThanOrEqual(time(request.startTime));
      expect(time(child.endTime)).toBeLessThanOrEqual(time(request.endTime));
      expect(time(child.endTime)).toBeGreaterThan(time(child.startTime));
    }
    const runs = children.filter(({ name }) => name === 'mome.run');
    expect(runs.reduce((sum, { attributes }) => sum + Number(attributes['mome.items']), 0)).toBe(2);
    expect(lines.find(({ msg }) => msg === 'request')!.trace_id).toBe(traceId);
  });

  it('a call over gRPC is one as well', async () => {
    register();
    const request = { ...texts('of gRPC'), model_name: 'one' };
    await clientOf(address).call('ModelInfer', request, { metadata: { traceparent } });
    const spans = await spansOf(1);
    const call = server1(spans);
    expect([call.name, call.spanContext().traceId]).toEqual(['inference.GRPCInferenceService/ModelInfer', traceId]);
    expect(call.attributes).toMatchObject({
      'rpc.system': 'grpc',
      'rpc.method': 'ModelInfer',
      'rpc.grpc.status_code': 0,
    });
    expect(childrenOf(spans, call).map(({ name }) => name)).toContain('mome.run');
    expect(lines.find(({ route }) => route?.endsWith('ModelInfer'))!.trace_id).toBe(traceId);
  });

  it('requests that share a run are linked', async () => {
    register();
    // While the first run is held up, all requests come to the queue and share those behind it.
    const { embedTexts } = Batcher.prototype;
    let called = 0;
    let open = () => {};
    const allCalled = new Promise<void>((resolve) => {
      open = resolve;
    });
    vi.spyOn(Batcher.prototype, 'embedTexts').mockImplementation(function (this: Batcher, ...args) {
      if (++called === 13) setImmediate(open);
      return embedTexts.apply(this, args);
    });
    const { run: compute } = Program.prototype;
    vi.spyOn(Program.prototype, 'run').mockImplementation(async function (this: Program, ...args) {
      await allCalled;
      return compute.apply(this, args);
    });
    const words = ['red', 'green', 'blue', 'white'];
    const embed = (request: number, count: number) =>
      post(`${url}/v1/embed`, {
        texts: Array.from({ length: count }, (_, i) => words[(request + i) % 4]!.repeat(1 + (i % 3))),
      });
    await Promise.all(Array.from({ length: 13 }, (_, request) => embed(request, 20)));
    vi.restoreAllMocks();
    const runs = (await spansOf(13)).filter(({ name }) => name === 'mome.run');
    const ids = new Map(runs.map((run) => [run.spanContext().spanId, run]));
    const linked = runs.filter(({ links }) => links.length > 0);
    expect(linked.length).toBeGreaterThan(1);
    for (const run of linked) {
      for (const { context: to } of run.links) {
        const other = ids.get(to.spanId)!;
        expect(other.spanContext().traceId).not.toBe(run.spanContext().traceId);
        expect([other.attributes['mome.run.items'], time(other.endTime)]).toEqual([
          run.attributes['mome.run.items'],
          time(run.endTime),
        ]);
        expect(other.links.map(({ context: back }) => back.spanId)).toContain(run.spanContext().spanId);
      }
      expect(Number(run.attributes['mome.items'])).toBeLessThanOrEqual(Number(run.attributes['mome.run.items']));
    }
    const alone = runs.find(({ links }) => links.length === 0);
    if (alone) expect(alone.attributes['mome.items']).toBe(alone.attributes['mome.run.items']);
  });

  it('a failure says what it was', async () => {
    register();
    expect((await post(`${url}/v1/embed`, { images: [dataUrl(Buffer.from('GIF89a no'))] })).status).toBe(422);
    const refused = await spansOf(1);
    expect(server1(refused).attributes).toMatchObject({
      'http.response.status_code': 422,
      'mome.error.code': 'MOME_INVALID_IMAGE',
    });
    expect(server1(refused).status.code).toBe(SpanStatusCode.UNSET);
    const decode = refused.find(({ name }) => name === 'mome.decode')!;
    expect(decode.status.code).toBe(SpanStatusCode.ERROR);
    expect(decode.events[0]!.name).toBe('exception');

    exporter.reset();
    const many = { texts: Array.from({ length: 512 }, (_, i) => `late ${i}`) };
    expect((await post(`${url}/v1/embed`, many, { 'x-timeout-ms': '5' })).status).toBe(504);
    const late = server1(await spansOf(1));
    expect(late.status.code).toBe(SpanStatusCode.ERROR);
    expect(late.attributes['error.type']).toBe('MOME_DEADLINE');
    expect(late.events[0]!.name).toBe('exception');
  });

  it('is active while its request is worked on', async () => {
    register();
    expect((await post(`${url}/v1/embed`, { texts: [] })).status).toBe(422);
    const [request] = await spansOf(1);
    const refused = lines.find(({ msg }) => msg === 'request refused')!;
    expect(refused.active).toBe(request!.spanContext().spanId);
    expect(refused.trace_id).toBe(request!.spanContext().traceId);
  });
});
