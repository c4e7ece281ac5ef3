/** Clients of gRPC that send nonsense, too much, too slowly, or never read: the server goes on and holds nothing of them. */
import { type ClientHttp2Session, connect, constants } from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { status } from '@grpc/grpc-js';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Vlmo } from '../../src/inference/index.ts';
import { Messages } from '../../src/serve/grpc/messages.ts';
import { defaultLimits } from '../../src/serve/options.ts';
import { expectShortTurns } from '../loop-gap.ts';
import { clientOf, packed, tensor, texts } from './grpc-client.ts';
import { loadTiny, raw, started } from './helpers.ts';

let model: Vlmo;
let url = '';
let address = '';
const bodyBytes = 2 ** 20;
beforeAll(async () => {
  model = await loadTiny();
  const limits = {
    bodyBytes,
    bodyBytesTogether: 4 * bodyBytes,
    headTimeout: 800,
    bodyTimeout: 3000,
    writeTimeout: 1500,
  };
  const { server, url: http } = await started(model, { limits });
  url = http;
  address = await server.listenGrpc({ port: 0 });
});

/** The server still answers, and nothing is left of earlier calls: also no room for messages. */
async function expectWell() {
  const { call } = clientOf(address);
  const most = { model_name: 'mome', inputs: [{ name: 'text', datatype: 'BYTES', shape: [400] }] };
  const raw_input_contents = [
    packed(...Array.from({ length: 400 }, (_, i) => Buffer.from(`well ${i} ${'word '.repeat(300)}`))),
  ];
  expect((await call('ModelInfer', { ...most, raw_input_contents })).outputs[0].shape[0]).toBe(400);
  for (let i = 0; i < 100; i++) {
    if (/mome_queue_items\{engine="mome"\} 0\n/.test(await (await fetch(`${url}/metrics`)).text())) return;
    await sleep(20);
  }
  throw new Error('expected an empty queue');
}

const path = '/inference.GRPCInferenceService/ModelInfer';

/** A connection of HTTP/2 without a library of gRPC on it. */
async function connected(): Promise<ClientHttp2Session> {
  const session = connect(`http://${address}`);
  session.on('error', () => {});
  await new Promise((resolve) => session.once('connect', resolve));
  return session;
}

/** Sends bytes as a call. @returns what it ends with */
function send(session: ClientHttp2Session, bytes: readonly Buffer[], headers: Record<string, string> = {}, end = true) {
  const stream = session.request(
    { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers', ...headers },
    { endStream: false },
  );
  stream.on('error', () => {}).resume();
  for (const each of bytes) stream.write(each);
  if (end) stream.end();
  return new Promise<number>((resolve) => {
    let code = -1;
    const take = (given: object) => {
      code = Number((given as Record<string, string>)['grpc-status'] ?? code);
    };
    stream
      .on('response', take)
      .on('trailers', take)
      .once('close', () => resolve(code));
  });
}

const framed = (message: Buffer, declared = message.length, flag = 0) => {
  const head = Buffer.alloc(5);
  head.writeUInt8(flag, 0);
  head.writeUInt32BE(declared, 1);
  return Buffer.concat([head, message]);
};

describe('messages', () => {
  it('of any bytes are refused', async () => {
    const session = await connected();
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), fc.boolean(), async (bytes, isFramed) => {
        const given = Buffer.from(bytes);
        const code = await send(session, [isFramed ? framed(given) : given]);
        expect(code).not.toBe(status.OK);
        expect([status.INTERNAL, status.UNKNOWN]).not.toContain(isFramed ? code : -1);
      }),
      { numRuns: 100 },
    );
    session.close();
    await expectWell();
  });

  it('that would take much memory or time to decode are told by a look', async () => {
    const messages = new Messages(defaultLimits);
    const name = 'inference.ModelInferRequest';
    const nested = (tag: number, inside: Buffer) => Buffer.concat([Buffer.from([tag]), varint(inside.length), inside]);
    const many = 2 ** 24;
    const bombs: Record<string, Buffer> = {
      'empty elements': Buffer.alloc(many, Buffer.from([0x3a, 0])),
      'empty inputs': Buffer.alloc(many, Buffer.from([0x2a, 0])),
      'elements of an input': nested(0x2a, nested(0x2a, Buffer.alloc(many, Buffer.from([0x42, 0])))),
      'packed numbers': nested(0x2a, nested(0x2a, nested(0x12, Buffer.alloc(many, 1)))),
      'a long shape': nested(0x2a, nested(0x1a, Buffer.alloc(many, 1))),
      'a parameter again and again': nested(0x22, Buffer.alloc(many, Buffer.from([0x12, 0]))),
      'unknown fields': Buffer.alloc(many, Buffer.from([0x78, 1])),
      groups: Buffer.alloc(many, 0x7b),
      'a long name': nested(0x0a, Buffer.alloc(many, 65)),
      'a long parameter': nested(0x22, nested(0x12, nested(0x1a, Buffer.alloc(many, 65)))),
    };
    for (const [bomb, bytes] of Object.entries(bombs)) {
      let best = Number.POSITIVE_INFINITY; // of a machine that does other work as well
      for (let i = 0; i < 3; i++) {
        const begun = performance.now();
        expect(() => messages.decode(name, bytes), bomb).toThrow(/expected/);
        best = Math.min(best, performance.now() - begun);
      }
      expect(best, bomb).toBeLessThan(50);
    }
    // One large element is no bomb.
    const large = Buffer.alloc(many);
    const decoded = messages.decode(name, nested(0x3a, large));
    expect(decoded.raw_input_contents[0].buffer).not.toBe(large.buffer);
    expect(decoded.raw_input_contents[0].length).toBe(many);
    expect(() => messages.decode(name, nested(0x3a, large).subarray(0, many))).toThrow(/expected a message/);
  });

  it('hold the loop no longer than 50 ms', async () => {
    // Encoded beforehand: that is the client's work.
    const elements = Array.from({ length: 512 }, () => Buffer.alloc(1900, 65));
    const request = { model_name: 'mome', inputs: [tensor('image', elements)] };
    const message = framed(new Messages(defaultLimits).encode('inference.ModelInferRequest', request));
    const session = await connected();
    expect(await expectShortTurns(() => send(session, [message]))).toBe(status.INVALID_ARGUMENT);
    session.close();
    await expectWell();
  });

  it('that are too large end before they have arrived', async () => {
    const { failed } = clientOf(address);
    const large = { ...texts(), raw_input_contents: [Buffer.alloc(2 * bodyBytes)] };
    expect((await failed('ModelInfer', large)).code).toBe(status.RESOURCE_EXHAUSTED);
    const session = await connected();
    expect(await send(session, [framed(Buffer.alloc(0), 2 ** 31)], {}, false)).toBe(status.RESOURCE_EXHAUSTED);
    // Small as they are: of other calls no more than a little is read.
    const other = { ':path': '/inference.GRPCInferenceService/ModelMetadata' };
    expect(await send(session, [framed(Buffer.alloc(200_000))], other)).toBe(status.INVALID_ARGUMENT);
    // What is compressed takes as much room as it may need, and no more.
    const bomb = gzipSync(Buffer.alloc(64 * bodyBytes));
    const codes = await Promise.all(
      Array.from({ length: 8 }, () => send(session, [framed(bomb, bomb.length, 1)], { 'grpc-encoding': 'gzip' })),
    );
    expect(new Set(codes)).toEqual(new Set([status.RESOURCE_EXHAUSTED]));
    session.close();
    await expectWell();
  });

  it('of all clients together have so much room', async () => {
    const sessions = await Promise.all(Array.from({ length: 4 }, connected));
    const begun = sessions.flatMap((session) =>
      Array.from({ length: 3 }, () => send(session, [framed(Buffer.alloc(bodyBytes / 2), bodyBytes)], {}, false)),
    );
    const codes = await Promise.all(begun);
    expect(codes).toContain(status.RESOURCE_EXHAUSTED);
    for (const session of sessions) session.destroy();
    await expectWell();
  });
});

describe('bad clients', () => {
  it('that send slowly are cut off', async () => {
    const session = await connected();
    const begun = Date.now();
    expect(await send(session, [framed(Buffer.alloc(10), 100)], {}, false)).toBe(status.DEADLINE_EXCEEDED);
    expect(Date.now() - begun).toBeLessThan(9000);
    session.close();
    const [silent, other] = await Promise.all([
      raw(`http://${address}`, '', 6000),
      raw(`http://${address}`, 'GET / HTTP/1.1\r\nhost: localhost\r\n\r\n', 6000),
    ]);
    expect([silent!.ended, other!.ended]).toEqual([true, true]);
    await expectWell();
  });

  it('that never read their answers are cut off', async () => {
    const session = connect(`http://${address}`, { settings: { initialWindowSize: 0 } });
    session.on('error', () => {});
    await new Promise((resolve) => session.once('connect', resolve));
    const messages = new Messages(defaultLimits);
    const request = messages.encode(
      'inference.ModelInferRequest',
      texts(...Array.from({ length: 50 }, (_, i) => `unread ${i}`)),
    );
    const begun = Date.now();
    expect(await send(session, [framed(request)])).toBe(-1);
    expect(Date.now() - begun).toBeLessThan(8000);
    session.destroy();
    await expectWell();
  });

  it('that leave in the middle, or open more calls than they may, leave nothing behind', async () => {
    for (let round = 0; round < 3; round++) {
      const session = await connected();
      const open = Array.from({ length: 400 }, () => {
        const stream = session.request(
          { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' },
          { endStream: false },
        );
        stream.on('error', () => {});
        stream.write(framed(Buffer.alloc(100), 200));
        return stream;
      });
      await sleep(50);
      for (const stream of open.slice(0, 200)) stream.close(constants.NGHTTP2_CANCEL);
      await sleep(20);
      session.destroy();
    }
    await expectWell();
  });
});

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Buffer.from([...bytes, rest]);
    bytes.push((rest % 128) | 128);
  }
}
