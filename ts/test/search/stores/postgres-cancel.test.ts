/** Statements of PostgreSQL that are cancelled in the database: with the client of pg, against a server that speaks as much of the protocol. */
import { createServer, type Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { postgresBackend } from '../../../src/search/index.ts';
import { runCancellable } from '../../../src/search/stores/postgres-cancel.ts';

const cancelRequest = 80_877_102;
const sessions = new Map<number, { readonly socket: Socket; readonly secret: number; isWorking: boolean }>();
const cancelled: number[] = [];
const closed: number[] = [];

const message = (type: string, content: Buffer) => {
  const head = Buffer.alloc(5);
  head.write(type, 'latin1');
  head.writeUInt32BE(content.length + 4, 1);
  return Buffer.concat([head, content]);
};
const numbers = (...values: number[]) => {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [i, value] of values.entries()) bytes.writeInt32BE(value, 4 * i);
  return bytes;
};
const ready = message('Z', Buffer.from('I'));

/** A database whose statements go on until they are cancelled. */
const server = createServer((socket) => {
  let bytes: Buffer = Buffer.alloc(0);
  let session: number | undefined;
  socket.on('error', () => {});
  socket.on('close', () => session !== undefined && closed.push(session));
  socket.on('data', (piece) => {
    bytes = Buffer.concat([bytes, piece]);
    for (;;) {
      const start = session === undefined ? 0 : 1;
      if (bytes.length < start + 4) return;
      const length = bytes.readUInt32BE(start);
      if (bytes.length < start + length) return;
      const [type, content] = [String.fromCharCode(bytes[0]!), bytes.subarray(start + 4, start + length)];
      bytes = bytes.subarray(start + length);
      if (session !== undefined) {
        if (type === 'S' || type === 'Q') sessions.get(session)!.isWorking = true;
      } else if (content.readInt32BE(0) === cancelRequest) {
        const found = sessions.get(content.readInt32BE(4));
        if (found?.secret === content.readInt32BE(8) && found.isWorking) {
          cancelled.push(content.readInt32BE(4));
          found.isWorking = false;
          found.socket.write(message('E', Buffer.from('SERROR\0C57014\0Mcanceling statement due to user request\0\0')));
          found.socket.write(ready);
        }
        socket.end();
        return;
      } else {
        session = 1000 + sessions.size;
        const secret = -7 * session;
        sessions.set(session, { socket, secret, isWorking: false });
        socket.write(Buffer.concat([message('R', numbers(0)), message('K', numbers(session, secret)), ready]));
      }
    }
  });
});
const listening = new Promise<number>((resolve) => {
  server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port));
});
afterAll(() => {
  for (const { socket } of sessions.values()) socket.destroy();
  server.close();
});
beforeEach(() => {
  sessions.clear();
  cancelled.length = closed.length = 0;
});

const working = () => [...sessions.values()].filter(({ isWorking }) => isWorking).length;
const options = async () => ({ host: '127.0.0.1', port: await listening, user: 'mome', database: 'mome' });
const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => 'done',
    (error: { code?: string }) => error.code,
  );

describe('a statement of a pool', () => {
  it('gives its session back where the database closes the connection that asks for TLS', async () => {
    const closing = createServer((socket) => socket.once('data', () => socket.end()));
    await new Promise<void>((resolve) => closing.listen(0, '127.0.0.1', resolve));
    const { port } = closing.address() as { port: number };
    let finish = () => {};
    const query = () =>
      new Promise<{ rows: [] }>((resolve) => {
        finish = () => resolve({ rows: [] });
      });
    const release = vi.fn();
    const session = { query, release, host: '127.0.0.1', port, ssl: true, processID: 1, secretKey: 2 };
    const stop = new AbortController();
    const done = runCancellable({ connect: async () => session }, 'SELECT 1', [], stop.signal);
    await setImmediate(); // until it has its session
    const asked = new Promise((resolve) => closing.once('connection', resolve));
    stop.abort();
    await asked;
    finish();
    expect(await done).toEqual({ rows: [] });
    expect(release).toHaveBeenCalledWith(true);
    closing.close();
  });

  it('is cancelled in the database when its signal fires, and no other one is', async () => {
    const pool = new pg.Pool({ ...(await options()), max: 2 });
    const backend = postgresBackend(pool, { table: 'rows' });
    const [stopFirst, stopSecond] = [new AbortController(), new AbortController()];
    const first = codeOf(backend.nearest(new Float32Array([1, 0]), 3, [], stopFirst.signal));
    await vi.waitFor(() => expect(working()).toBe(1));
    const second = codeOf(backend.count([], stopSecond.signal));
    await vi.waitFor(() => expect(working()).toBe(2));
    stopSecond.abort();
    expect(await second).toBe('57014');
    expect([cancelled, working()]).toEqual([[1001], 1]);
    // Its session is not used again: a request that comes late would reach somebody else's statement.
    await vi.waitFor(() => expect(closed).toEqual([1001]));
    stopFirst.abort();
    expect(await first).toBe('57014');
    await pool.end();
    expect(cancelled).toEqual([1001, 1000]);
  });

  it('does not begin where the signal fires while it waits for a session, and one without a signal goes on', async () => {
    const pool = new pg.Pool({ ...(await options()), max: 1 });
    const backend = postgresBackend(pool, { table: 'rows' });
    const [stop, stopWaiting] = [new AbortController(), new AbortController()];
    const first = codeOf(backend.count([], stop.signal));
    const waiting = codeOf(backend.count([], stopWaiting.signal));
    await vi.waitFor(() => expect(working()).toBe(1));
    stopWaiting.abort();
    stop.abort();
    expect(await first).toBe('57014');
    expect(await waiting).toBe('MOME_ABORTED');
    expect(cancelled).toEqual([1000]);
    expect(working()).toBe(0);
    await pool.end();
  });
});
