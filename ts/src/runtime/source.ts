/** Streams and iterables of callers: read one value after the other, and ended when nothing more is wanted. */
import { check, MomeError } from './errors.ts';

/** A stream of values: an async iterable, such as a generator or a stream of Node in object mode, or a stream of the web. */
export type ItemStream<T> = AsyncIterable<T> | WebStream<T>;

/** The part of a web stream that is used: streams of any library have it. */
export interface WebStream<T = unknown> {
  getReader(): {
    read(): Promise<{ readonly done: boolean; readonly value?: T | undefined }>;
    cancel(reason?: unknown): Promise<void>;
  };
}

/** What a stream gives, one value after the other. */
export interface Source {
  next(): Promise<{ readonly done?: boolean | undefined; readonly value?: unknown }>;
  /** Nothing more is wanted. Settles when the source has ended, and never rejects. */
  stop(): Promise<void>;
}

/** The part of Node's readable streams that is used. */
interface NodeStream {
  readonly destroyed: boolean;
  readonly readableEnded: boolean;
  readonly errored: Error | null;
  destroy(): unknown;
}

export function isItemStream(value: unknown): value is ItemStream<unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  return 'getReader' in value || Symbol.asyncIterator in value;
}

/** Whether a stream of Node gives bytes in pieces, which say nothing of where one item ends. */
export const isByteStream = (stream: ItemStream<unknown>): boolean =>
  'readableObjectMode' in stream && stream.readableObjectMode === false;

/** Items one after the other, of a list, a generator or a stream. @throws MomeError as {@link sourceOf} */
export function sourceOfItems(name: string, items: Iterable<unknown> | AsyncIterable<unknown>): Source {
  if (Symbol.asyncIterator in items) return sourceOf(name, items);
  const iterator = items[Symbol.iterator]();
  return {
    next: async () => iterator.next(),
    stop: async () => {
      try {
        iterator.return?.();
      } catch {
        // Nothing more is wanted of it.
      }
    },
  };
}

/** @throws MomeError `MOME_INVALID_ARGUMENT` for a stream that is locked or was read before, and as `begun` */
export function sourceOf(name: string, stream: ItemStream<unknown>): Source {
  const used = 'expected a stream that nobody has read, got one that is locked, ended or destroyed';
  if ('getReader' in stream) {
    let reader: ReturnType<WebStream['getReader']>;
    try {
      reader = stream.getReader();
    } catch (error) {
      throw new MomeError('MOME_INVALID_ARGUMENT', `${name}: ${used}`, { cause: error });
    }
    return { next: () => reader.read(), stop: () => reader.cancel().catch(() => {}) };
  }
  const { destroy, destroyed, readableEnded, errored } = stream as Partial<NodeStream>;
  if (errored) return { next: () => Promise.reject(errored), stop: async () => {} };
  check(!destroyed && !readableEnded, 'MOME_INVALID_ARGUMENT', `${name}: ${used}`);
  const iterator = begun(name, stream);
  return {
    next: async () => {
      const step = await iterator.next();
      if (typeof step === 'object' && step !== null) return step;
      throw new MomeError(
        'MOME_INVALID_ARGUMENT',
        `${name}: expected { done, value } of its next(), got ${String(step)}`,
      );
    },
    stop: async () => {
      // The iterator of a Node stream waits for the read that is under way; the stream itself ends at once.
      if (destroy) destroy.call(stream);
      else await iterator.return?.().catch(() => {});
    },
  };
}

/** @throws MomeError `MOME_INVALID_ARGUMENT` for what is no stream, `MOME_IO` for one that fails when it begins */
function begun(name: string, stream: AsyncIterable<unknown>): AsyncIterator<unknown> {
  const wrong = `${name}: expected a stream, got an object that cannot be read one item after the other`;
  check(typeof stream[Symbol.asyncIterator] === 'function', 'MOME_INVALID_ARGUMENT', wrong);
  let iterator: Partial<AsyncIterator<unknown>> | undefined;
  try {
    iterator = stream[Symbol.asyncIterator]();
  } catch (error) {
    throw new MomeError('MOME_IO', `${name}: expected a stream, could not begin to read it`, { cause: error });
  }
  check(typeof iterator?.next === 'function', 'MOME_INVALID_ARGUMENT', wrong);
  return iterator as AsyncIterator<unknown>;
}
