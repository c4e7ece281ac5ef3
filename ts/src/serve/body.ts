/** Bodies of requests: JSON read in pieces, or forms, and their check against a schema. */
import { isAscii, isUtf8 } from 'node:buffer';
import type { Readable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { z } from 'zod';
import { joined } from '../image/bytes.ts';
import { MomeError } from '../runtime/errors.ts';
import { parseJson } from '../runtime/json.ts';
import { HttpError } from './errors.ts';
import { type Form, formOf } from './form.ts';
import type { ServerLimits } from './options.ts';

/** Bytes of a body that `JSON.parse` takes, whatever it holds, in a few milliseconds. */
const smallBody = 2 ** 14;
/** Bytes beyond which each pass over a body has a turn of the event loop of its own. */
const largeBody = 2 ** 20;
/** Most lists and objects inside each other, and most values, of a body. */
const depth = 32;
const values = 2 ** 17;
/** Most escapes of one text: base64 of some languages has one for each slash. */
const escapes = 2 ** 17;

/** Parses the JSON of bodies while other events run. */
export function addJsonParser(app: FastifyInstance, limits: ServerLimits): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', async (request: FastifyRequest, stream: Readable) =>
    jsonOf(await bytesOfStream(request, stream, Math.min(limits.jsonBytes, limits.bodyBytes)), limits),
  );
}

/** The bytes of a body, joined in pieces. @throws HttpError 413 for more than `most`, 400 for a body that breaks off */
export async function bytesOfStream(request: FastifyRequest, stream: Readable, most: number): Promise<Buffer> {
  if (Number(request.headers['content-length'] ?? 0) > most) throw tooLarge(most);
  const pieces: Buffer[] = [];
  let length = 0;
  await new Promise<void>((resolve, reject) => {
    // Not by iteration, whose end would take the connection away before the answer.
    const take = (piece: Buffer) => {
      length += piece.length;
      pieces.push(piece);
      if (length <= most) return;
      stream.off('data', take).pause();
      reject(tooLarge(most));
    };
    const broken = () => reject(new HttpError(400, 'INCOMPLETE_BODY', 'expected the whole body, it broke off'));
    const end = () => {
      stream.off('close', broken);
      resolve();
    };
    stream.on('data', take).on('end', end).on('error', broken).on('close', broken);
  });
  const bytes = await joined(pieces);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The value of a JSON text. @throws HttpError 400 */
export async function jsonOf(body: Buffer, { jsonBytes }: ServerLimits): Promise<unknown> {
  // Each of these goes over all of a body at once: of a large one in a turn of its own.
  const isLarge = body.length > largeBody;
  if (!isUtf8(body)) throw new HttpError(400, 'INVALID_JSON', 'expected JSON in UTF-8, got other bytes');
  if (isLarge) await setImmediate();
  const text = body.toString(isAscii(body) ? 'latin1' : 'utf8'); // the same, and several times as fast
  if (isLarge) await setImmediate();
  try {
    if (body.length <= smallBody) return JSON.parse(text);
    return await parseJson(text, 'body', { bytes: jsonBytes, depth, values, text: jsonBytes, escapes });
  } catch (error) {
    if (error instanceof MomeError && error.code === 'MOME_TOO_LARGE') throw error;
    const reason = error instanceof Error ? error.message.slice(0, 200) : '';
    throw new HttpError(400, 'INVALID_JSON', `expected JSON, got something else: ${reason}`);
  }
}

/**
 * The body of a request, JSON or a form, as `schema` describes it.
 *
 * @param fromForm what the fields of a form mean as JSON; without it forms are refused
 * @throws HttpError 415 for another type, 422 for a value that the schema refuses, with its place
 */
export async function bodyOf<T extends z.ZodType>(
  request: FastifyRequest,
  schema: T,
  limits: ServerLimits,
  fromForm?: (form: Form) => object,
): Promise<z.output<T>> {
  let body = request.body;
  if (request.isMultipart()) {
    if (!fromForm) throw new HttpError(415, 'UNSUPPORTED_MEDIA_TYPE', 'expected application/json, got a form');
    const form = await formOf(request, limits);
    body = fromForm(form);
    form.requireKnown();
  }
  return checked(schema, body);
}

/** @throws HttpError 422 for a value that the schema refuses, 413 for a list or a text that is too long */
export function checked<T extends z.ZodType>(schema: T, body: unknown): z.output<T> {
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  const issue = deepest(parsed.error.issues[0]!);
  const param = issue.path.map(String).join('.');
  const reason = isMissing(body, issue.path) ? 'expected a value, got none' : issue.message;
  const message = `${param === '' ? 'body' : param}: ${reason}`.slice(0, 500);
  const isTooLong = issue.code === 'too_big' && (issue.origin === 'array' || issue.origin === 'string');
  throw new HttpError(
    isTooLong ? 413 : 422,
    isTooLong ? 'MOME_TOO_LARGE' : 'MOME_INVALID_ARGUMENT',
    message,
    param || undefined,
  );
}

/** Whether a body has nothing at a place. */
function isMissing(body: unknown, path: readonly PropertyKey[]): boolean {
  let value = body;
  for (const key of path) value = typeof value === 'object' && value !== null ? Reflect.get(value, key) : undefined;
  return value === undefined;
}

interface Issue {
  readonly path: readonly PropertyKey[];
  readonly message: string;
  readonly code?: string;
  readonly origin?: string;
  /** Of a choice of types: the complaints of each. */
  readonly errors?: readonly (readonly Issue[])[];
}

/**
 * Of the complaints of a union, the one that lies furthest inside the value; of equally deep ones, one that is not about a wrong type. The
 * client has most likely meant that alternative.
 */
function deepest(issue: Issue): Issue {
  if (issue.code !== 'invalid_union' || !issue.errors) return issue;
  const inner = issue.errors.flatMap((each) => each.slice(0, 1)).map((each) => deepest(each));
  const depthOf = ({ path, code }: Issue) => path.length + (code === 'invalid_type' ? 0 : 0.5);
  const none: Issue = { path: [], message: issue.message, code: 'invalid_type' };
  const best = inner.reduce((a, b) => (depthOf(b) > depthOf(a) ? b : a), none);
  return { ...best, path: [...issue.path, ...best.path] };
}

const tooLarge = (bytes: number) => new HttpError(413, 'MOME_TOO_LARGE', `expected at most ${bytes} bytes, got more`);
