/**
 * Statements that end in the database too when a signal fires. PostgreSQL stops the statement of a session when a second connection names
 * the session and its secret: the session itself says nothing while it works.
 */
import { connect as connectPlain, isIP, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { onAbort } from '../../runtime/abort.ts';
import { MomeError, requireNotAborted } from '../../runtime/errors.ts';

interface Rows {
  readonly rows: readonly unknown[];
}

/** A session of a `Pool` of `pg`. */
interface PooledClient {
  query(text: string, values: unknown[]): Promise<Rows>;
  /** @param error ends the connection, which is not used again */
  release(error?: unknown): void;
  readonly processID?: unknown;
  readonly secretKey?: unknown;
  readonly host?: unknown;
  readonly port?: unknown;
  readonly ssl?: unknown;
}

/** A `Pool` of `pg`. */
export interface PostgresPool {
  connect(): Promise<PooledClient>;
}

/** Numbers by which the protocol knows both requests. */
const cancelRequest = 80_877_102;
const tlsRequest = 80_877_103;
/** Milliseconds in which a database has to take the request. */
const longestRequest = 5000;

/** Whether a connection is a pool: one that several statements share could have another one cancelled. */
export const isPool = (connection: object): connection is PostgresPool =>
  'connect' in connection && typeof connection.connect === 'function' && 'totalCount' in connection;

/** Runs a statement in a session of its own. When the signal fires, it is cancelled in the database, and the session is closed. */
export async function runCancellable(
  pool: PostgresPool,
  text: string,
  values: unknown[],
  signal: AbortSignal,
): Promise<Rows> {
  const client = await pool.connect();
  let failure: unknown;
  let cancelling: Promise<void> | undefined;
  const ended = onAbort(signal, () => {
    cancelling = cancel(client).catch(() => {}); // it then ends by itself, and nobody waits for it
  });
  try {
    requireNotAborted(signal, 'postgres'); // while it waited for a session
    return await client.query(text, values);
  } catch (error) {
    failure = error;
    throw error;
  } finally {
    ended();
    await cancelling; // before others use the session
    client.release(cancelling ? (failure ?? true) : failure);
  }
}

/** Asks the database to stop what a session does. Resolves when it has taken the request: it then closes the connection. */
async function cancel({ host, port, ssl, processID, secretKey }: PooledClient): Promise<void> {
  if (typeof host !== 'string' || typeof processID !== 'number' || typeof secretKey !== 'number') return;
  const socket = host.startsWith('/')
    ? connectPlain(`${host}/.s.PGSQL.${Number(port)}`)
    : connectPlain(Number(port), host);
  socket.setTimeout(longestRequest, () => socket.destroy(new Error('the database did not take the request in time')));
  try {
    const open = ssl ? await secured(socket, host, ssl) : socket;
    await new Promise<void>((resolve, reject) => {
      open.once('error', reject).once('close', () => resolve());
      open.resume();
      open.write(message(cancelRequest, processID, secretKey));
    });
  } finally {
    socket.destroy();
  }
}

/** A connection with TLS, as the session itself has. @param ssl `true`, or options of TLS */
async function secured(socket: Socket, host: string, ssl: unknown): Promise<Socket> {
  socket.write(message(tlsRequest));
  const [answer] = await new Promise<Buffer>((resolve, reject) => {
    const closed = () =>
      reject(new MomeError('MOME_IO', 'postgres: expected an answer about TLS, the connection closed'));
    socket.once('data', resolve).once('error', reject).once('close', closed);
  });
  if (answer !== 'S'.charCodeAt(0)) throw new MomeError('MOME_IO', 'postgres: expected TLS, the database has none');
  const name = isIP(host) === 0 && !host.startsWith('/') ? { servername: host } : {};
  const open = connectTls({ ...name, ...(typeof ssl === 'object' ? ssl : {}), socket });
  await new Promise<void>((resolve, reject) => {
    open.once('secureConnect', resolve).once('error', reject);
  });
  return open;
}

/** Numbers of 32 bits with their length in bytes in front. */
function message(...numbers: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 + 4 * numbers.length);
  bytes.writeUInt32BE(bytes.length);
  for (const [i, number] of numbers.entries()) bytes.writeInt32BE(number | 0, 4 + 4 * i);
  return bytes;
}
