/** Bytes that callers give: copied while other events run, streams read to their end. */
import { onAbort } from '../runtime/abort.ts';
import { check, MomeError } from '../runtime/errors.ts';
import { Pace } from '../runtime/pace.ts';
import { type ItemStream, type Source, sourceOf } from '../runtime/source.ts';
import { maxFileBytes } from './limits.ts';
import { requireAttached } from './pixels.ts';

/** Bytes copied between two looks at the clock. */
const pieceLength = 2 ** 20;

/** A stream of bytes: of the web (also of a `Response` or `Blob`), or of Node. */
export type ByteStream = ItemStream<unknown>;

/**
 * Copies bytes of a caller into memory of our own.
 *
 * @param length of `view` when the call began
 * @throws MomeError `MOME_INVALID_ARGUMENT` where the memory was transferred meanwhile
 */
export async function copied(
  name: string,
  view: Uint8Array,
  length: number,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  const copy = new Uint8Array(length);
  const pace = new Pace();
  for (let at = 0; at < length; at += pieceLength) {
    signal?.throwIfAborted();
    requireAttached(name, view.length, length);
    copy.set(view.subarray(at, at + pieceLength), at);
    await pace.rest();
  }
  return copy;
}

/** Bytes that come in pieces: copied into blocks, for a stream may reuse its memory, and give millions of small pieces. */
class Blocks {
  readonly #blocks: Uint8Array[] = [];
  /** Bytes of the last block that are taken. */
  #filled = 0;
  readonly #pace = new Pace();

  /** Lets other events run also for pieces without bytes: one that is always there would keep them waiting, an abort among them. */
  async add(piece: Uint8Array): Promise<void> {
    let at = 0;
    do {
      let last = this.#blocks.at(-1);
      if (last === undefined || this.#filled === last.length) {
        last = new Uint8Array(pieceLength);
        this.#blocks.push(last);
        this.#filled = 0;
      }
      const part = piece.subarray(at, at + last.length - this.#filled);
      last.set(part, this.#filled);
      this.#filled += part.length;
      at += part.length;
      await this.#pace.rest();
    } while (at < piece.length);
  }

  all(): readonly Uint8Array[] {
    return this.#blocks.map((block, i) => (i < this.#blocks.length - 1 ? block : block.subarray(0, this.#filled)));
  }
}

/** One array of all pieces. */
export async function joined(pieces: readonly Uint8Array[], signal?: AbortSignal): Promise<Uint8Array> {
  if (pieces.length === 1) return pieces[0]!;
  const whole = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  const pace = new Pace();
  let at = 0;
  for (const piece of pieces) {
    signal?.throwIfAborted();
    whole.set(piece, at);
    at += piece.length;
    await pace.rest();
  }
  return whole;
}

/** The bytes of any buffer or view, shared with it. */
export function viewOf(buffer: ArrayBufferView | ArrayBufferLike): Uint8Array {
  return ArrayBuffer.isView(buffer)
    ? new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength)
    : new Uint8Array(buffer);
}

/**
 * Reads a stream to its end. An abort, an error or too many bytes end the stream too.
 *
 * @throws MomeError `MOME_TOO_LARGE`, `MOME_IO` with the stream's error as cause, `MOME_INVALID_ARGUMENT` for a stream that is locked,
 *   was read before, or holds other things than bytes
 */
export async function streamBytes(name: string, stream: ByteStream, signal?: AbortSignal): Promise<Uint8Array> {
  const aborted = abortOf(signal);
  const blocks = new Blocks();
  let length = 0;
  let source: Source | undefined;
  try {
    source = sourceOf(name, stream);
    for (;;) {
      const { done, value } = await Promise.race([source.next(), aborted.promise]);
      if (done) return await joined(blocks.all(), signal);
      check(
        ArrayBuffer.isView(value),
        'MOME_INVALID_ARGUMENT',
        `${name}: expected a stream of bytes, got one of ${typeof value === 'string' ? 'text' : typeof value}`,
      );
      const piece = viewOf(value);
      length += piece.length;
      check(length <= maxFileBytes, 'MOME_TOO_LARGE', `${name}: expected at most ${maxFileBytes} bytes, got more`);
      await blocks.add(piece);
    }
  } catch (error) {
    void source?.stop();
    signal?.throwIfAborted();
    if (error instanceof MomeError) throw error;
    throw new MomeError('MOME_IO', `${name}: expected to read the stream to its end, could not`, { cause: error });
  } finally {
    aborted.forget();
  }
}

/** A promise that rejects when the signal fires, until it is forgotten. */
function abortOf(signal: AbortSignal | undefined): { readonly promise: Promise<never>; forget(): void } {
  let forget = () => {};
  const promise = new Promise<never>((_, reject) => {
    forget = onAbort(signal, () => reject(signal?.reason));
    if (signal?.aborted) reject(signal.reason);
  });
  promise.catch(() => {});
  return { promise, forget };
}
