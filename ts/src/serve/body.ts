/** Bodies of requests: JSON read in pieces, forms with files, and their check against a schema. */
import { isAscii, isUtf8 } from 'node:buffer';
import type { Readable } from 'node:stream';
import type { BusboyFileStream } from '@fastify/busboy';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { z } from 'zod';
import { joined, streamBytes } from '../image/bytes.ts';
import { MomeError } from '../runtime/errors.ts';
import { parseJson } from '../runtime/json.ts';
import { HttpError } from './errors.ts';
import type { ServerLimits } from './options.ts';

/** Bytes of a body that `JSON.parse` takes, whatever it holds, in a few milliseconds. */
const smallBody = 2 ** 14;
/** Most lists and objects inside each other, and most values, of a body. */
const depth = 32;
const values = 2 ** 17;
/** Most escapes of one text: base64 of some languages has one for each slash. */
const escapes = 2 ** 17;

/** Fields of a form; files stand as names that no client can give to JSON. */
export interface Form {
  /** All values of the fields of these names, in the order in which they came. */
  all(...names: readonly string[]): string[] | undefined;
  one(...names: readonly string[]): string | undefined;
  number(name: string): number | undefined;
}

const formFiles = new WeakMap<FastifyRequest, ReadonlyMap<string, Buffer>>();

/** The file of a form that a picture of the body stands for. */
export const fileOf = (request: FastifyRequest, name: string): Buffer | undefined => formFiles.get(request)?.get(name);

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
  if (!isUtf8(body)) throw new HttpError(400, 'INVALID_JSON', 'expected JSON in UTF-8, got other bytes');
  const text = body.toString(isAscii(body) ? 'latin1' : 'utf8'); // the same, and several times as fast
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
    body = fromForm(await formOf(request, limits));
  }
  return checked(schema, body);
}

/** @throws HttpError 422 for a value that the schema refuses, 413 for a list or a text that is too long */
export function checked<T extends z.ZodType>(schema: T, body: unknown): z.output<T> {
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  const issue = deepest(parsed.error.issues[0]!);
  const param = issue.path.map(String).join('.');
  const message = `${param === '' ? 'body' : param}: ${issue.message}`.slice(0, 500);
  const isTooLong = issue.code === 'too_big' && (issue.origin === 'array' || issue.origin === 'string');
  throw new HttpError(
    isTooLong ? 413 : 422,
    isTooLong ? 'MOME_TOO_LARGE' : 'MOME_INVALID_ARGUMENT',
    message,
    param || undefined,
  );
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
 * Of a choice of types the complaint that went furthest into the value; at the same place one that is not about the type. That type was
 * meant.
 */
function deepest(issue: Issue): Issue {
  if (issue.code !== 'invalid_union' || !issue.errors) return issue;
  const inner = issue.errors.flatMap((each) => each.slice(0, 1)).map((each) => deepest(each));
  const depthOf = ({ path, code }: Issue) => path.length + (code === 'invalid_type' ? 0 : 0.5);
  const none: Issue = { path: [], message: issue.message, code: 'invalid_type' };
  const best = inner.reduce((a, b) => (depthOf(b) > depthOf(a) ? b : a), none);
  return { ...best, path: [...issue.path, ...best.path] };
}

/** Reads a form. @throws HttpError 400 for what is none, 413 */
async function formOf(request: FastifyRequest, limits: ServerLimits): Promise<Form> {
  try {
    return await readForm(request, limits);
  } catch (error) {
    // The parser of forms has errors of its own, some with a status.
    if (error instanceof HttpError || typeof (error as { statusCode?: unknown }).statusCode === 'number') throw error;
    const reason = error instanceof Error ? error.message.slice(0, 200) : '';
    throw new HttpError(400, 'INVALID_FORM', `expected multipart/form-data, got something else: ${reason}`);
  }
}

async function readForm(request: FastifyRequest, limits: ServerLimits): Promise<Form> {
  const fields = new Map<string, string[]>();
  const files = new Map<string, Buffer>();
  formFiles.set(request, files);
  let bytes = 0;
  const add = (name: string, value: string, length: number) => {
    bytes += length;
    if (bytes > limits.bodyBytes) throw tooLarge(limits.bodyBytes);
    const known = fields.get(name);
    if (known) known.push(value);
    else fields.set(name, [value]);
  };
  const parts = request.parts({
    limits: {
      fileSize: limits.pictureBytes,
      files: limits.items,
      fields: 2 * limits.items + 16,
      parts: 3 * limits.items + 16,
      fieldSize: 4 * limits.textLength,
      fieldNameSize: 100,
    },
  });
  for await (const part of parts) {
    if (part.type === 'field') {
      if (part.fieldnameTruncated || part.valueTruncated) throw tooLarge(4 * limits.textLength);
      add(part.fieldname, String(part.value), Buffer.byteLength(String(part.value)));
      continue;
    }
    const file = await fileBytes(part.fieldname, part.file, limits);
    const name = `\0file ${files.size}`;
    files.set(name, file);
    add(part.fieldname, name, file.length);
  }
  const all = (...names: readonly string[]) => {
    const found = names.flatMap((name) => fields.get(name) ?? []);
    return found.length === 0 ? undefined : found;
  };
  const one = (...names: readonly string[]) => {
    const found = all(...names);
    if (found && found.length > 1)
      throw new HttpError(422, 'MOME_INVALID_ARGUMENT', `${names[0]}: expected one, got ${found.length}`, names[0]);
    return found?.[0];
  };
  const number = (name: string) => {
    const text = one(name);
    return text === undefined ? undefined : Number(text);
  };
  return { all, one, number };
}

/** The bytes of a file of a form. @throws HttpError 413 */
async function fileBytes(name: string, file: BusboyFileStream, { pictureBytes }: ServerLimits): Promise<Buffer> {
  const bytes = await streamBytes(name, file);
  if (file.truncated) throw tooLarge(pictureBytes);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

const tooLarge = (bytes: number) => new HttpError(413, 'MOME_TOO_LARGE', `expected at most ${bytes} bytes, got more`);
