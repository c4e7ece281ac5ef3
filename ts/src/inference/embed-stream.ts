/**
 * Embeddings of a stream of inputs, in their order and as they come: while a batch is computed the next is read, and while its results are
 * taken the next is computed. Nothing is read further ahead.
 */
import { onAbort } from '../runtime/abort.ts';
import { type Kinds, kinds, report, takeText } from '../runtime/arguments.ts';
import { check } from '../runtime/errors.ts';
import { type ItemStream, isByteStream, type Source, sourceOf } from '../runtime/source.ts';
import { noItems, type TakenItems, takePicture } from './arguments.ts';
import type { PictureSource } from './pictures.ts';
import { ReadAhead } from './read-ahead.ts';
import { eachReadable } from './readable.ts';
import type { Call, Runs } from './runs.ts';

/** Options of a call that takes a stream. */
export interface StreamOptions {
  /** Ends the stream and its source; it rejects with `MOME_ABORTED`, and the signal's reason as `cause`. */
  readonly signal?: AbortSignal;
  /**
   * Most inputs of one batch; default 32 pictures or 128 texts. At most three batches are held: of one the results are taken, one is
   * computed, and one is read.
   */
  readonly batchSize?: number;
  /**
   * Called with the place of each input that cannot be read, which is left out; without it the stream rejects with the first. The stream
   * waits for a promise that it returns, and rejects with what it throws.
   */
  readonly onError?: (index: number, error: unknown) => void;
}

/** The embedding of one input of a stream. */
export interface StreamedEmbedding<T> {
  /** Place of the input in the stream, from 0. */
  readonly index: number;
  readonly input: T;
  /** [width] numbers of length 1, in memory of their own. */
  readonly embedding: Float32Array;
}

export const streamKinds: Kinds<StreamOptions> = {
  signal: kinds.signal,
  batchSize: kinds.count,
  onError: kinds.callback,
};

/** An input, as the source gave it and as the call took it over. */
interface Taken<T, Own> {
  readonly index: number;
  readonly input: T;
  readonly own: Own;
}

/** What embeds a stream. */
export interface StreamEmbedder<Own> {
  readonly batchSize: number;
  /** Takes an input over from the caller. @throws MomeError for what is none */
  take(value: unknown, index: number): Own;
  /** Reads what can be read only once, before a batch that may be tried again. Never rejects. */
  readStreams?(some: readonly Own[], signal: AbortSignal): Promise<void>;
  /** @returns [some, width] */
  embed(some: readonly Own[], nameOf: (place: number) => number, signal: AbortSignal): Promise<Float32Array>;
  /** Fires when the model is disposed. */
  readonly disposed: AbortSignal;
  /** @throws MomeError `MOME_ABORTED` unless the call is still wanted */
  requireWanted(): void;
}

/** @throws what the source throws; MomeError as `embedImages` and `embedTexts` */
async function* embedStream<T, Own>(
  { signal }: Call,
  open: () => Source,
  { take, readStreams, embed, batchSize, disposed, requireWanted }: StreamEmbedder<Own>,
  onError: StreamOptions['onError'],
): AsyncGenerator<StreamedEmbedding<T>, void, undefined> {
  const ending = new AbortController();
  const ended = new Promise<never>((_, reject) => {
    ending.signal.addEventListener('abort', () => reject(ending.signal.reason), { once: true });
  });
  ended.catch(() => {});
  const listening = [signal, disposed].map((each) => onAbort(each, () => ending.abort(each?.reason)));
  const nextBatch = async (): Promise<StreamedEmbedding<T>[] | undefined> => {
    const items = await reader!.take(ended);
    if (items.length === 0) return undefined;
    const results: StreamedEmbedding<T>[] = [];
    const embedTogether = async (some: readonly Taken<T, Own>[]) => {
      const rows = await embed(
        some.map(({ own }) => own),
        (place) => some[place]!.index,
        ending.signal,
      );
      const width = rows.length / some.length;
      for (const [place, { index, input }] of some.entries())
        results.push({ index, input, embedding: rows.slice(place * width, (place + 1) * width) });
    };
    await readStreams?.(
      items.map(({ own }) => own),
      ending.signal,
    );
    await eachReadable(items, embedTogether, async ({ index }, error) => {
      if (!onError) throw error;
      await report(onError, index, error);
    });
    return results;
  };
  let reader: ReadAhead<Taken<T, Own>> | undefined;
  try {
    requireWanted();
    reader = new ReadAhead(open(), batchSize, (value, index) => ({
      index,
      input: value as T,
      own: take(value, index),
    }));
    for (let next = nextBatch(); ; ) {
      const results = await Promise.race([next, ended]);
      if (results === undefined) return;
      next = nextBatch();
      next.catch(() => {}); // it is waited for once these results were taken, if they are
      for (const result of results) {
        yield result;
        requireWanted();
      }
    }
  } catch (error) {
    requireWanted();
    throw error;
  } finally {
    for (const end of listening) end();
    ending.abort();
    await reader?.stop();
  }
}

/** What a stream is of, and how a run takes it. */
interface StreamKind<Own> {
  readonly kind: 'picture' | 'text';
  readonly usualBatch: number;
  take(value: unknown, index: number): Own;
  readonly readStreams?: NonNullable<StreamEmbedder<Own>['readStreams']>;
  items(some: readonly Own[]): TakenItems;
  readonly list: 'images' | 'texts';
}

export const imageStream = (where: string): StreamKind<PictureSource> => ({
  kind: 'picture',
  usualBatch: 32,
  take: (value, index) => takePicture(where, value, 'picture', index),
  readStreams: async (some, signal) => {
    await Promise.all(some.map((source) => source.readStream(signal)));
  },
  items: (some) => ({ ...noItems, images: some }),
  list: 'images',
});

export const textStream = (where: string): StreamKind<string> => ({
  kind: 'text',
  usualBatch: 128,
  take: (value, index) => takeText(where, value, 'text', index),
  items: (some) => ({ ...noItems, texts: some }),
  list: 'texts',
});

/** Embeds the items of a stream; what is wrong with the stream itself is thrown at once. */
export function embedItems<T, Own>(
  runs: Runs,
  { batchSize, onError, ...call }: Call & StreamOptions,
  stream: ItemStream<T>,
  { kind, usualBatch, take, readStreams, items, list }: StreamKind<Own>,
): AsyncGenerator<StreamedEmbedding<T>, void, undefined> {
  const { where } = call;
  check(
    !isByteStream(stream),
    'MOME_INVALID_ARGUMENT',
    `${where}: expected a list or a stream of ${kind}s, got a stream of bytes, which is one ${kind} at most`,
  );
  const embedder = {
    batchSize: batchSize ?? usualBatch,
    take,
    ...(readStreams && { readStreams }),
    embed: async (some: readonly Own[], nameOf: (place: number) => number, signal: AbortSignal) => {
      const names = (_: unknown, place: number) => ({ kind, index: nameOf(place) });
      return (await runs.together({ where, signal }, items(some), names))[list];
    },
    disposed: runs.whenDisposed,
    requireWanted: () => runs.requireWanted(call),
  };
  return embedStream<T, Own>(call, () => sourceOf(where, stream), embedder, onError);
}
