/**
 * The pictures that callers may give, and their names in messages.
 */
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { types } from 'node:util';
import { check, MomeError } from '../runtime/errors.ts';
import { forEachPaced } from '../runtime/pace.ts';
import { type ByteStream, copied, streamBytes, viewOf } from './bytes.ts';
import { dataUrlBytes, isDataUrl } from './data-url.ts';
import { maxFileBytes } from './limits.ts';
import type { RawImage } from './pixels.ts';
import {
  isRawOutput,
  isSharpInstance,
  isSharpOutput,
  pixelsOfInstance,
  pixelsOfOutput,
  type SharpInstance,
  type SharpOutput,
} from './sharp-input.ts';

/** A `Blob` or `File`, of Node or of a library. */
export interface BlobLike {
  readonly size: number;
  readonly type: string;
  readonly name?: string;
  arrayBuffer(): Promise<ArrayBuffer>;
}

/** A `Response` of `fetch` whose body nobody has read. */
export interface ResponseLike {
  readonly ok: boolean;
  readonly status: number;
  readonly bodyUsed: boolean;
  readonly body: unknown;
  arrayBuffer(): Promise<ArrayBuffer>;
}

/**
 * A picture: path; `file:` or `data:` URL or its text; bytes of a file as a buffer, view, `Blob`, `File`, `Response` or stream (of the
 * web or of Node, read once to its end); pixels; or an instance of sharp, or what it gave with `resolveWithObject`.
 *
 * A string is never base64 without `data:` before it: any such text can be a path.
 */
export type ImageInput =
  | string
  | URL
  | ArrayBufferView
  | ArrayBuffer
  | SharedArrayBuffer
  | BlobLike
  | ResponseLike
  | ByteStream
  | RawImage
  | SharpOutput
  | SharpInstance;

/** Where a picture comes from. */
type Content =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'pixels'; readonly image: RawImage }
  | {
      readonly kind: 'pipeline';
      readonly instance: SharpInstance;
      readonly run: (signal?: AbortSignal) => Promise<RawImage>;
    }
  | {
      readonly kind: 'bytes';
      /** Whether the bytes come from a stream. The first `read` is the only one: others get what it got, also its error. */
      readonly isStream?: boolean;
      readonly read: (signal?: AbortSignal) => Promise<Uint8Array>;
    };

/** A picture that a call has taken over from its caller. Texts are looked at when their turn comes: a call may have hundreds of thousands. */
export class PictureSource {
  /** Sources of the same text have the same; others are the only ones of their kind. */
  readonly key: unknown;
  /** Of a text nothing is made beforehand: its key, and the folder that a relative path is seen from, tell all. */
  readonly #of: Given | string;

  /** @param of what tells name and content; of a text, the folder that it is seen from */
  constructor(of: Given | string, text?: string) {
    this.key = text ?? this;
    this.#of = of;
  }

  /** Asks the value nothing: a proxy may throw at any question. */
  static isSource(value: unknown): value is PictureSource {
    return isObject(value) && #of in value;
  }

  get name(): string {
    return typeof this.#of === 'string' ? shortText(this.key as string) : this.#of.name;
  }

  /** @throws MomeError `MOME_INVALID_ARGUMENT` for a value that is no picture, `MOME_NOT_FOUND` for a path that no file can have */
  content(): Content {
    const of = this.#of;
    try {
      return typeof of === 'string' ? contentOfText(this.key as string, of) : of.content();
    } catch (error) {
      if (error instanceof MomeError) throw error;
      const message = `${this.name}: expected ${accepted}, could not read it`;
      throw new MomeError('MOME_INVALID_ARGUMENT', message, { cause: error });
    }
  }

  /**
   * Reads a stream to its end, for a caller that may look at the picture again after a call about several has failed: the streams of such a
   * call are ended with it. Never rejects: whoever reads the picture gets the error.
   */
  async readStream(signal?: AbortSignal): Promise<void> {
    if (typeof this.#of === 'string') return;
    try {
      const content = this.content();
      if (content.kind === 'bytes' && content.isStream) await content.read(signal);
    } catch {
      // The next to read it is told.
    }
  }

  /**
   * The picture as an input of another call, which may be made more than once: a path, bytes, pixels, or an instance of sharp.
   *
   * @throws MomeError as {@link content}, and of a stream that cannot be read; the reason of the signal
   */
  async toInput(signal?: AbortSignal): Promise<ImageInput> {
    const content = this.content();
    switch (content.kind) {
      case 'file':
        return content.path;
      case 'pixels':
        return content.image;
      case 'pipeline':
        return content.instance;
      case 'bytes':
        return content.read(signal);
      default:
        return content satisfies never;
    }
  }
}

/** A picture that is no text. */
interface Given {
  readonly name: string;
  readonly content: () => Content;
}

/** Most bytes of a path (a limit of the system). */
const maxPathLength = 4096;
/** Most characters of a path or URL in a message. */
const shownCharacters = 100;
/** Bytes that one call copies at once when it begins: fresh memory takes up to 3.5 ms for each MiB. */
const copiedAtOnce = 8 * 2 ** 20;

/** A short name for messages: the path or its end, a `data:` URL without its data, the kind and size of anything else. Never throws. */
export function shortName(input: unknown): string {
  try {
    return nameOf(input);
  } catch {
    return 'an object'; // its properties throw
  }
}

function nameOf(input: unknown): string {
  if (input instanceof PictureSource) return input.name;
  if (typeof input === 'string') return shortText(input);
  if (isUrl(input)) return shortText(input.href);
  if (isBuffer(input)) return `${className(input)} of ${input.byteLength} bytes`;
  if (isRaw(input)) return `pixels of ${String(input.width)} x ${String(input.height)}`;
  if (isSharpOutput(input)) return `${printable(input.info.format.slice(0, shownCharacters))} of sharp`;
  if (isSharpInstance(input)) return 'an instance of sharp';
  if (isBlob(input))
    return typeof input.name === 'string' && input.name !== '' ? shortText(input.name) : className(input);
  return typeof input === 'object' && input !== null ? className(input) : String(input).slice(0, shownCharacters);
}

function shortText(text: string): string {
  if (isDataUrl(text)) return `${printable(text.slice(0, 40).split(',', 1)[0]!.trim())} of ${text.length} characters`;
  return printable(text.length <= shownCharacters ? text : `...${text.slice(3 - shownCharacters)}`);
}

/** Control characters, and those that turn the direction of writing, as escapes. */
function printable(text: string): string {
  return text.replace(
    /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu,
    (character) => `\\u${character.codePointAt(0)!.toString(16).padStart(4, '0')}`,
  );
}

function className(value: object): string {
  const { name } = (value as { constructor?: { name?: unknown } }).constructor ?? {};
  return typeof name === 'string' && name !== '' ? printable(name.slice(0, shownCharacters)) : 'an object';
}

/**
 * Takes pictures over from the caller of a call: relative paths are those of now, and what is done to buffers and pixels later changes
 * nothing. Of very large ones (together beyond 8 MiB) the rest is copied while other events run, or when its turn comes. The same object given
 * twice is the same source, and a source stays itself. What is no picture becomes a source that is refused when it is read.
 */
export function takePictures(inputs: readonly unknown[]): readonly PictureSource[] {
  const taken = new Map<unknown, PictureSource>();
  const folder = workingFolder();
  let left = copiedAtOnce;
  return inputs.map((input) => {
    if (PictureSource.isSource(input)) return input;
    if (typeof input === 'string') return sourceOfText(input, folder);
    const known = taken.get(input);
    if (known) return known;
    const bytes = bytesIn(input);
    const source = sourceOf(input, folder, bytes <= left);
    if (bytes <= left) left -= bytes;
    taken.set(input, source);
    return source;
  });
}

/**
 * `takePictures` of a list of any length. All that may change is taken over before the call returns its promise; texts become sources while
 * other events run, for a list may have hundreds of thousands.
 */
export async function takePicturesInPieces(inputs: readonly unknown[]): Promise<readonly PictureSource[]> {
  const folder = workingFolder();
  const others = takePictures(inputs.filter((input) => typeof input !== 'string'));
  const sources: PictureSource[] = [];
  let place = 0;
  await forEachPaced(inputs, (input) => {
    sources.push(typeof input === 'string' ? sourceOfText(input, folder) : others[place++]!);
  });
  return sources;
}

/** Empty where it was removed: absolute paths are still good. */
function workingFolder(): string {
  try {
    return process.cwd();
  } catch {
    return '';
  }
}

/** Bytes of memory that the caller shares. */
function bytesIn(input: unknown): number {
  try {
    const memory: unknown = isRaw(input) || isSharpOutput(input) ? input.data : input;
    return isBuffer(memory) ? memory.byteLength : 0;
  } catch {
    return 0; // its properties throw: it is refused when it is read
  }
}

function sourceOfText(text: string, folder: string): PictureSource {
  return new PictureSource(folder, text);
}

function sourceOf(input: unknown, folder: string, copyNow: boolean): PictureSource {
  const name = shortName(input);
  const refused = (why: () => Error) =>
    new PictureSource({
      name,
      content: () => {
        throw why();
      },
    });
  try {
    if (isUrl(input)) return sourceOfText(input.href, folder);
    const content = contentOf(name, input, copyNow);
    if (content === undefined)
      return refused(
        () => new MomeError('MOME_INVALID_ARGUMENT', `${name}: expected ${accepted}, got ${kindOf(input)}`),
      );
    return new PictureSource({ name, content: () => content });
  } catch (error) {
    return refused(() => error as Error);
  }
}

/** Undefined for a value that is no picture. */
function contentOf(name: string, input: unknown, copyNow: boolean): Content | undefined {
  if (isBuffer(input)) return bytesOf(name, input, copyNow);
  if (isRaw(input)) return pixelsOf(input, copyNow);
  if (isSharpOutput(input)) {
    if (isRawOutput(input)) return pixelsOf(pixelsOfOutput(name, input), copyNow);
    const { data } = input;
    return isBuffer(data) ? bytesOf(name, data, copyNow) : undefined;
  }
  if (isSharpInstance(input)) {
    const own = input.clone(); // what is added to the pipeline of the caller changes nothing
    return { kind: 'pipeline', instance: own, run: (signal) => pixelsOfInstance(name, own, signal) };
  }
  if (isResponse(input))
    return { kind: 'bytes', isStream: true, read: once((signal) => responseBytes(name, input, signal)) };
  if (isBlob(input)) return { kind: 'bytes', read: (signal) => blobBytes(name, input, signal) };
  if (!isStream(input)) return undefined;
  // A stream that fails before it is read must not end the process.
  if ('on' in input && typeof input.on === 'function') input.on('error', () => {});
  return { kind: 'bytes', isStream: true, read: once((signal) => streamBytes(name, input, signal)) };
}

function bytesOf(name: string, input: ArrayBufferView | ArrayBufferLike, copyNow: boolean): Content {
  const view = viewOf(input);
  const { length } = view;
  if (!copyNow) return { kind: 'bytes', read: (signal) => copied(name, view, length, signal) };
  const copy = view.slice();
  return { kind: 'bytes', read: async () => copy };
}

function pixelsOf({ data, width, height, channels }: RawImage, copyNow: boolean): Content {
  const own = copyNow ? copyOf(data) : data;
  return { kind: 'pixels', image: { data: own, width, height, ...(channels !== undefined && { channels }) } };
}

/** A copy of pixels. (`slice` of a Buffer shares its memory.) */
function copyOf(data: RawImage['data']): RawImage['data'] {
  if (types.isUint8Array(data)) return new Uint8Array(data);
  return types.isUint8ClampedArray(data) || types.isFloat32Array(data) ? data.slice() : data;
}

const accepted =
  'a path, file: or data: URL, the bytes of a picture file (buffer, Blob, Response or stream), pixels { data, width, height } or a picture of sharp';

function kindOf(input: unknown): string {
  if (input === null || input === undefined) return String(input);
  if (types.isPromise(input)) return 'a promise; await it first';
  if (Array.isArray(input)) return 'a list; bytes go as a Uint8Array, several pictures one by one';
  if (typeof input !== 'object') return `a ${typeof input}`;
  if (isSharpOutput(input)) return '{ data, info } whose data are no bytes';
  if ('data' in input && 'info' in input) return '{ data, info } without the info.format that sharp gives';
  if ('data' in input && 'type' in input && input.type === 'Buffer') return 'a Buffer as JSON; give Buffer.from(it)';
  const keys = Object.keys(input).slice(0, 5).map(printable).join(', ');
  return `an object${keys === '' ? '' : ` { ${keys.slice(0, shownCharacters)} }`}`;
}

/** How base64 of the usual picture files begins. */
const base64Starts =
  /^\s*(?:\/9j\/|iVBORw0KGgo|R0lGOD|UklGR|SUkqA|TU0AK|PHN2Zy|PD94bW|AAAA[\w+/]{4}ZnR5c)[\w+/\s]*={0,2}\s*$/;

/** Says of a text that is no path but looks like base64 how that is given. */
export function base64Hint(text: string): string {
  const isBase64 = base64Starts.test(text.slice(0, shownCharacters));
  return isBase64 ? "; it looks like base64: give a data: URL, or Buffer.from(text, 'base64')" : '';
}

function contentOfText(text: string, folder: string): Content {
  const name = shortText(text);
  if (isDataUrl(text)) return { kind: 'bytes', read: (signal) => dataUrlBytes(name, text, signal) };
  const scheme = /^\s*([a-z][a-z\d+.-]+):/i.exec(text.slice(0, 64))?.[1]?.toLowerCase();
  if (scheme === 'file') return { kind: 'file', path: pathOfUrl(name, text.trim()) };
  const isUrl =
    scheme !== undefined &&
    (text
      .trim()
      .slice(scheme.length + 1)
      .startsWith('//') ||
      scheme === 'blob');
  check(
    !isUrl,
    'MOME_INVALID_ARGUMENT',
    scheme === 'http' || scheme === 'https'
      ? `${name}: expected a picture of this machine, got a web address; fetch it first and give the Response`
      : `${name}: expected a path, file: or data: URL, got a ${scheme}: URL; nothing is fetched`,
  );
  check(text !== '', 'MOME_INVALID_ARGUMENT', 'picture: expected a path, got an empty text');
  check(!text.includes('\0'), 'MOME_INVALID_ARGUMENT', `${name}: expected a path, got one with a NUL character`);
  check(
    text.length < maxPathLength,
    'MOME_NOT_FOUND',
    `${name}: expected a picture file, found none: no path has ${text.length} characters${base64Hint(text)}`,
  );
  return { kind: 'file', path: resolve(folder, text) };
}

function pathOfUrl(name: string, url: string): string {
  try {
    return fileURLToPath(url);
  } catch (error) {
    throw new MomeError('MOME_INVALID_ARGUMENT', `${name}: expected a file: URL of this machine, got another`, {
      cause: error,
    });
  }
}

async function blobBytes(name: string, blob: BlobLike, signal?: AbortSignal): Promise<Uint8Array> {
  check(
    blob.size <= maxFileBytes,
    'MOME_TOO_LARGE',
    `${name}: expected at most ${maxFileBytes} bytes, got ${blob.size}`,
  );
  const { stream } = blob as { stream?: () => ByteStream };
  if (typeof stream === 'function') return streamBytes(name, stream.call(blob), signal);
  return new Uint8Array(await blob.arrayBuffer());
}

async function responseBytes(name: string, response: ResponseLike, signal?: AbortSignal): Promise<Uint8Array> {
  check(response.ok, 'MOME_INVALID_ARGUMENT', `${name}: expected a picture, got HTTP status ${response.status}`);
  check(
    !response.bodyUsed,
    'MOME_INVALID_ARGUMENT',
    `${name}: expected a Response that nobody has read, got a used one`,
  );
  return isStream(response.body) ? streamBytes(name, response.body, signal) : new Uint8Array(0);
}

/** A stream can be read only once: it is read for all places of the call that show it. */
function once(read: (signal?: AbortSignal) => Promise<Uint8Array>): (signal?: AbortSignal) => Promise<Uint8Array> {
  let bytes: Promise<Uint8Array> | undefined;
  return (signal) => {
    bytes ??= read(signal);
    return bytes;
  };
}

function isBuffer(input: unknown): input is ArrayBufferView | ArrayBufferLike {
  return ArrayBuffer.isView(input) || types.isAnyArrayBuffer(input);
}

/** Also one of another realm. */
function isUrl(input: unknown): input is URL {
  return isObject(input) && 'href' in input && 'protocol' in input && typeof input.href === 'string';
}

function isObject(input: unknown): input is object {
  return typeof input === 'object' && input !== null;
}

function isRaw(input: unknown): input is RawImage {
  return isObject(input) && 'data' in input && 'width' in input && 'height' in input;
}

function isBlob(input: unknown): input is BlobLike {
  return isObject(input) && 'arrayBuffer' in input && 'size' in input && 'type' in input && !('body' in input);
}

function isResponse(input: unknown): input is ResponseLike {
  return isObject(input) && 'arrayBuffer' in input && 'bodyUsed' in input && 'status' in input;
}

function isStream(input: unknown): input is ByteStream {
  return isObject(input) && ('getReader' in input || Symbol.asyncIterator in input);
}
