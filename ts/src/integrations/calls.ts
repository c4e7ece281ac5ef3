/** What the integrations have in common: the calls that they make, and how these end. */

import type { Embeddings } from '../inference/embeddings.ts';
import type { ImageInput } from '../inference/pictures.ts';
import type { RerankQuery } from '../inference/rerank.ts';
import type { CallOptions, Ranked, RerankOptions } from '../inference/results.ts';
import { withMethods } from '../runtime/arguments.ts';
import { MomeError } from '../runtime/errors.ts';

type SignalOption = Pick<CallOptions, 'signal'>;

/** Who makes the calls: a model, a batcher of one, or a request of a batcher. */
export interface Encoders {
  embedTexts(texts: readonly string[], options?: SignalOption): Promise<Embeddings>;
  embedImages(images: readonly ImageInput[], options?: SignalOption): Promise<Embeddings>;
  rerank(
    query: RerankQuery,
    candidates: readonly ImageInput[],
    options?: Pick<RerankOptions, 'signal' | 'similarities'>,
  ): Promise<Ranked[]>;
}

/** The kind of {@link Encoders}. */
export const encodersKind = withMethods('a model or a batcher', 'embedTexts', 'embedImages', 'rerank');

/** A signal as an option of a call, where there is one. */
export const signalOption = (signal: AbortSignal | undefined): SignalOption => (signal ? { signal } : {});

/** Embeds texts, or pictures by their paths, `file:` or `data:` URLs. @returns a list of numbers for each */
export async function embedAs(
  kind: 'texts' | 'images',
  vlmo: Encoders,
  values: readonly string[],
  signal: AbortSignal | undefined,
): Promise<number[][]> {
  const call = signalOption(signal);
  return (await (kind === 'images' ? vlmo.embedImages(values, call) : vlmo.embedTexts(values, call))).toArrays();
}

/** @throws the signal's own reason where it ended the work, as `fetch` does: callers look for its name */
export async function endedByReason<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw signal?.aborted && error instanceof MomeError && error.code === 'MOME_ABORTED' ? signal.reason : error;
  }
}
