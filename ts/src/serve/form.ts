/** Forms with files (`multipart/form-data`): what a person writes with `curl -F`. */
import type { BusboyFileStream } from '@fastify/busboy';
import type { FastifyRequest } from 'fastify';
import { streamBytes } from '../image/bytes.ts';
import { formatOf, refusal } from '../image/file-kind.ts';
import { HttpError } from './errors.ts';
import type { ServerLimits } from './options.ts';

/** Kinds of files that are no pictures, whatever type they are sent as. */
const noPictures: ReadonlySet<string | undefined> = new Set([
  undefined,
  'text',
  'HTML',
  'XML',
  'PDF',
  'ZIP',
  'video',
  'Git LFS pointer',
]);

interface Entry {
  readonly name: string;
  /** A text, or the name of a file in `formFiles` of this request. */
  readonly value: string;
  readonly isFile: boolean;
}

/** The fields of a form by name; `images[]` and `images[0]` are called `images`. */
export class Form {
  readonly #entries: readonly Entry[];
  readonly #known = new Set<string>();
  #takesFiles = false;

  constructor(entries: readonly Entry[]) {
    this.#entries = entries;
  }

  /** All texts of these names, in the order in which they came. @throws HttpError 422 for a file */
  all(...names: readonly string[]): string[] | undefined {
    for (const name of names) this.#known.add(name);
    const found = this.#entries.filter(({ name }) => names.includes(name));
    const file = found.find(({ isFile }) => isFile);
    if (file)
      throw wrong(file.name, `expected a text, got a file; curl sends its content with -F '${file.name}=<file'`);
    return found.length === 0 ? undefined : found.map(({ value }) => value);
  }

  /** @throws HttpError 422 for more than one, or a file */
  one(...names: readonly string[]): string | undefined {
    return single(names[0]!, this.all(...names));
  }

  number(name: string): number | undefined {
    const text = this.one(name);
    return text === undefined || text.trim() === '' ? undefined : Number(text);
  }

  /** @throws HttpError 422 for anything but `true` and `false` */
  flag(name: string): boolean | undefined {
    const text = this.one(name)?.trim().toLowerCase();
    if (text === undefined || text === 'true' || text === 'false') return text && text === 'true';
    throw wrong(name, `expected true or false, got ${JSON.stringify(text.slice(0, 40))}`);
  }

  /**
   * Fields of these names, and all files: a file is a picture whatever its field is called.
   *
   * @param except files of these names are something else
   */
  pictures(names: readonly string[], except: readonly string[] = []): string[] | undefined {
    this.#takesFiles = true;
    for (const name of names) this.#known.add(name);
    const found = this.#entries.filter(
      ({ name, isFile }) => names.includes(name) || (isFile && !except.includes(name)),
    );
    return found.length === 0 ? undefined : found.map(({ value }) => value);
  }

  /** The one of `pictures`. @throws HttpError 422 for more */
  picture(...names: readonly string[]): string | undefined {
    return single(names[0]!, this.pictures(names));
  }

  /** One field that may be a text or a file. @throws HttpError 422 for more */
  either(name: string): string | undefined {
    this.#known.add(name);
    return single(
      name,
      this.#entries.filter((entry) => entry.name === name).map(({ value }) => value),
    );
  }

  /** @throws HttpError 422 where the form has fields that nobody asked for */
  requireKnown(): void {
    const other = this.#entries.find(({ name, isFile }) => !this.#known.has(name) && !(isFile && this.#takesFiles));
    if (other) throw wrong(other.name, `expected one of the fields ${[...this.#known].join(', ')}, got another`);
  }
}

const wrong = (name: string, message: string) =>
  new HttpError(
    422,
    'MOME_INVALID_ARGUMENT',
    `${name === '' ? 'a field without name' : name}: ${message}`,
    name || undefined,
  );

function single(name: string, found: readonly string[] | undefined): string | undefined {
  if (found && found.length > 1) throw wrong(name, `expected one, got ${found.length}`);
  return found?.[0];
}

const formFiles = new WeakMap<FastifyRequest, ReadonlyMap<string, Buffer>>();

/** The file of a form that a picture of the body stands for. */
export const fileOf = (request: FastifyRequest, name: string): Buffer | undefined => formFiles.get(request)?.get(name);

/** Whether a value stands for a file of a form. */
export const isFileName = (value: string): boolean => value.startsWith('\0file ');

/** Reads a form. @throws HttpError 400 for what is none, 413, 415 for a file that is sent as a picture and is none */
export async function formOf(request: FastifyRequest, limits: ServerLimits): Promise<Form> {
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
  const entries: Entry[] = [];
  const files = new Map<string, Buffer>();
  formFiles.set(request, files);
  let bytes = 0;
  const add = (name: string, value: string, isFile: boolean, length: number) => {
    bytes += length;
    if (bytes > limits.bodyBytes) throw tooLarge(limits.bodyBytes);
    entries.push({ name: name.replace(/\[\d*\]$/, ''), value, isFile });
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
      add(part.fieldname ?? '', String(part.value), false, Buffer.byteLength(String(part.value)));
      continue;
    }
    const { fieldname = '', mimetype } = part;
    const file = await fileBytes(fieldname, part.file, limits);
    requireHonest(fieldname, mimetype, file);
    const name = `\0file ${files.size}`;
    files.set(name, file);
    add(fieldname, name, true, file.length);
  }
  return new Form(entries);
}

/** The bytes of a file of a form. @throws HttpError 413 */
async function fileBytes(name: string, file: BusboyFileStream, { pictureBytes }: ServerLimits): Promise<Buffer> {
  const bytes = await streamBytes(name, file);
  if (file.truncated) throw tooLarge(pictureBytes);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** What a file is, its first bytes tell. @throws HttpError 415 for one that is sent as a picture and is none */
function requireHonest(name: string, type: string | undefined, file: Buffer): void {
  if (file.length === 0 || !type?.toLowerCase().startsWith('image/') || !noPictures.has(formatOf(file))) return;
  throw new HttpError(
    415,
    'UNSUPPORTED_MEDIA_TYPE',
    `${name}: ${refusal(file)}, sent as ${type.slice(0, 40)}`,
    name || undefined,
  );
}

const tooLarge = (bytes: number) => new HttpError(413, 'MOME_TOO_LARGE', `expected at most ${bytes} bytes, got more`);
