/** What every route needs of a request: its pictures, its engine, and the options of its calls. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import pLimit from 'p-limit';
import { z } from 'zod';
import { dataUrlBytes, isDataUrl } from '../image/data-url.ts';
import type { BatchedOptions } from '../inference/index.ts';
import type { Engines, ServedEngine } from './engines.ts';
import { HttpError } from './errors.ts';
import { fileOf } from './form.ts';
import type { HeldBytes } from './held-bytes.ts';
import type { ServerLimits } from './options.ts';
import { traceOf } from './tracing.ts';
import type { PictureFetcher } from './url-fetch.ts';

/** Pictures of one request that are read at the same time. */
const readTogether = 8;

/** What the routes of a server share. */
export interface Context {
  readonly engines: Engines;
  readonly limits: ServerLimits;
  readonly held: HeldBytes;
  /** Fetches pictures by URL; undefined where that is not allowed. */
  readonly fetcher: PictureFetcher | undefined;
  /** Whether requests may change the store. */
  readonly isWritable: boolean;
  /** Origins whose pages may call. */
  readonly corsOrigins: readonly string[];
}

/** Fields that every request of our own may have. */
export const common = {
  model: z.string().max(200).optional().describe('Name of a model of this server; default: the first.'),
  priority: z.enum(['interactive', 'bulk']).optional().describe('`bulk` goes behind `interactive`, the default.'),
};

export const pictureSchema = z
  .string()
  .min(1)
  .describe(
    'A picture file as base64 or as data: URL, or in a form a file. Web addresses are fetched where the server allows it; no path is read.',
  );

/** A text that is not too long. */
export const textSchema = (limits: ServerLimits) => z.string().max(limits.textLength);

/** A list of at most as many items as a request may have. */
export const listSchema = <T extends z.ZodType>(item: T, limits: ServerLimits) => z.array(item).max(limits.items);

/** One item, or a list of them. */
export const someSchema = <T extends z.ZodType>(item: T, limits: ServerLimits) =>
  z.union([item, listSchema(item, limits)]);

export const listOf = <T>(value: T | readonly T[] | undefined): readonly T[] =>
  value === undefined ? [] : Array.isArray(value) ? (value as readonly T[]) : [value as T];

/**
 * The bytes of a picture of a request: of a file of its form, base64, a `data:` URL, or a web address where the server allows it.
 *
 * @param param names it in messages
 * @throws HttpError 413, 422, 429; MomeError
 */
export async function pictureOf(
  { limits: { pictureBytes }, fetcher, held }: Context,
  request: FastifyRequest,
  value: string,
  param: string,
): Promise<Uint8Array> {
  const file = fileOf(request, value);
  if (file) return file;
  const start = value.slice(0, 64);
  if (fetcher && isWebAddress(start))
    return fetcher.fetch(value, { param, signal: endOf(request), onBytes: (count) => held.add(request, count) });
  if (!isDataUrl(start) && /^\s*[a-z][a-z\d+.-]*:/i.test(start))
    throw new HttpError(
      422,
      'URL_REFUSED',
      isWebAddress(start)
        ? `${param}: expected base64 or a data: URL, got a web address; this server fetches none unless it is started with --allow-url <host>`
        : `${param}: expected base64 or a data: URL, got another URL`,
      param,
    );
  if ((value.length * 3) / 4 > pictureBytes + 1024)
    throw new HttpError(
      413,
      'MOME_TOO_LARGE',
      `${param}: expected a picture of at most ${pictureBytes} bytes, got a larger one`,
      param,
    );
  if (!isDataUrl(start) && !/^[\w+/=\s-]+$/.test(start))
    throw new HttpError(
      422,
      'MOME_INVALID_ARGUMENT',
      `${param}: expected base64 or a data: URL, got neither; no path is read`,
      param,
    );
  return dataUrlBytes(param, isDataUrl(start) ? value : `data:;base64,${value}`);
}

/** @throws HttpError 413 for the bytes of a picture file that is too large. @param param names it in messages */
export function requirePicture(bytes: Uint8Array, { pictureBytes }: ServerLimits, param: string): void {
  if (bytes.length <= pictureBytes) return;
  throw new HttpError(
    413,
    'MOME_TOO_LARGE',
    `${param}: expected a picture of at most ${pictureBytes} bytes, got ${bytes.length}`,
    param,
  );
}

const isWebAddress = (start: string) => /^\s*https?:/i.test(start);

/** Several pictures; the same one given twice is read once. */
export function picturesOf(
  context: Context,
  request: FastifyRequest,
  values: readonly string[],
  param: string,
): Promise<Uint8Array[]> {
  const known = new Map<string, Promise<Uint8Array>>();
  return readSome(values, (value, index) => {
    const picture =
      known.get(value) ?? pictureOf(context, request, value, values.length === 1 ? param : `${param}.${index}`);
    known.set(value, picture);
    return picture;
  });
}

/** Reads each of a list, some of them at the same time: of pictures by URL each takes a while. */
export function readSome<T, Result>(
  values: readonly T[],
  read: (value: T, index: number) => Promise<Result>,
): Promise<Result[]> {
  if (values.length === 0) return Promise.resolve([]);
  if (values.length === 1) return read(values[0]!, 0).then((result) => [result]);
  let hasFailed = false;
  return pLimit(readTogether).map(values, async (value, index) => {
    if (hasFailed) throw new Error('another one has failed');
    try {
      return await read(value, index);
    } catch (error) {
      hasFailed = true;
      throw error;
    }
  });
}

const clients = new WeakMap<FastifyRequest, string>();
const ends = new WeakMap<FastifyRequest, AbortSignal>();
const noEnd = new AbortController().signal;
/** Made once, because each new error would record a stack. */
const hasLeft = new Error('the client has left');

/** Fires when a request has ended, unless its answer was a good one. */
const endOf = (request: FastifyRequest): AbortSignal => ends.get(request) ?? noEnd;

/** Notes by what a request is known as a client: runs are shared out evenly between clients. */
export const setClient = (request: FastifyRequest, client: string): void => void clients.set(request, client);

/** The engine of a request, and the options of the calls that it makes: they end with the connection. */
export function callOf(
  { engines, limits }: Context,
  request: FastifyRequest,
  reply: FastifyReply,
  fields: { readonly model?: string | undefined; readonly priority?: 'interactive' | 'bulk' | undefined } = {},
): { readonly engine: ServedEngine; readonly options: BatchedOptions } {
  const stop = new AbortController();
  const { raw } = reply;
  if (raw.destroyed) stop.abort(hasLeft);
  const engine = engines.get(fields.model);
  const release = raw.destroyed ? () => {} : engines.hold(engine);
  raw.once('close', () => {
    // After a good answer nothing of the request goes on.
    if (!raw.writableFinished || raw.statusCode >= 400) stop.abort(hasLeft);
    release();
  });
  ends.set(request, stop.signal);
  const { 'x-priority': priority } = request.headers;
  const timeout = timeoutOf(request, limits);
  const begun = performance.now();
  const traced = traceOf(request);
  const options: BatchedOptions = {
    signal: stop.signal,
    /** What is left: reading pictures takes time too. */
    get timeout() {
      return Math.max(1, Math.round(begun + timeout - performance.now()));
    },
    priority: fields.priority ?? (priority === 'bulk' ? 'bulk' : 'interactive'),
    client: clients.get(request) ?? request.ip,
    ...(traced && { onStage: traced.stagesOf(engine.name) }),
  };
  return { engine, options };
}

/** @throws HttpError 422 for a header that is no number of milliseconds */
function timeoutOf(request: FastifyRequest, { timeout }: ServerLimits): number {
  const given = request.headers['x-timeout-ms'];
  if (given === undefined) return timeout;
  const value = Number(given);
  if (!/^\d{1,9}$/.test(String(given)) || value === 0)
    throw new HttpError(
      422,
      'MOME_INVALID_ARGUMENT',
      'x-timeout-ms: expected milliseconds, got something else',
      'x-timeout-ms',
    );
  return Math.min(timeout, value);
}
