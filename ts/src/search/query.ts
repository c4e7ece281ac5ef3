/**
 * A search in its phases, over whatever keeps the vectors: the query is embedded, the nearest are found, and the fusion encoder reads the
 * first of them.
 */
import { type Fusion, fusedScore } from '../inference/fused-score.ts';
import type {
  CallOptions,
  EmbeddingMatrix,
  ImageInput,
  Ranked,
  RerankOptions,
  RerankQuery,
} from '../inference/index.ts';
import { eachReadable } from '../inference/readable.ts';
import { describe, isObject, type Kinds, kinds, takeFields, withMethods } from '../runtime/arguments.ts';
import { check, ofOuterCall, requireNotAborted } from '../runtime/errors.ts';
import { forEachPaced, sortInPieces } from '../runtime/pace.ts';
import { firstNonFinite } from './rows.ts';

type SignalOption = Pick<CallOptions, 'signal'>;

/** What embeds queries and re-ranks: a `Vlmo`, a `Batcher`, or a request of a batcher. */
export interface SearchModel {
  readonly fingerprint: string;
  embedTexts(texts: readonly string[], options?: SignalOption): Promise<EmbeddingMatrix>;
  embedImages(images: readonly ImageInput[], options?: SignalOption): Promise<EmbeddingMatrix>;
  rerank(
    query: RerankQuery,
    candidates: readonly ImageInput[],
    options?: SignalOption & Pick<RerankOptions, 'similarities'>,
  ): Promise<Ranked[]>;
}

export type SearchQuery = string | { readonly image: ImageInput };

/** Options of every search. */
export interface QueryOptions extends SignalOption {
  /** Results wanted; default 10. */
  readonly k?: number;
  /** Candidates of a text query that the fusion encoder re-ranks; default 32, 0 leaves it out. */
  readonly rerank?: number;
  /**
   * What embeds the query and re-ranks, in place of the model that the index was opened with: a queue in front of the same model, such as
   * `batcher.request({ client, priority, timeout })`.
   */
  readonly through?: SearchModel;
}

export const queryKinds: Kinds<QueryOptions> = {
  k: kinds.count,
  rerank: kinds.size,
  through: withMethods('a model or a batcher', 'embedTexts', 'embedImages', 'rerank'),
  signal: kinds.signal,
};

const anything = { expected: 'a picture', accepts: () => true };

/** A result that is still to be put in order. */
export interface Scored {
  score: number;
  readonly similarity: number;
  match: number | null;
  readonly dualRank: number;
}

/** Where a search looks. */
export interface Searched<T extends Scored> {
  readonly model: SearchModel & Fusion;
  /** The nearest `count` by the dual encoder, best first, `score` being `similarity`. */
  nearest(query: Float32Array, count: number, signal: AbortSignal | undefined): Promise<T[]>;
  /** The picture of a result, for the fusion encoder. */
  pictureOf(result: T): ImageInput;
  /** Called, and waited for, for each candidate whose picture cannot be read. */
  onError(result: T, error: unknown): Promise<void>;
}

/**
 * @param options taken by {@link queryKinds}
 * @throws MomeError as `SearchIndex.search`
 */
export async function searchIn<T extends Scored>(
  { model, nearest, pictureOf, onError }: Searched<T>,
  query: SearchQuery,
  { k = 10, rerank = 32, through = model, signal }: QueryOptions,
): Promise<T[]> {
  const isText = typeof query === 'string';
  check(
    isText || isObject(query),
    'MOME_INVALID_ARGUMENT',
    `search: expected a text or { image } as query, got ${describe(query)}`,
  );
  check(
    through.fingerprint === model.fingerprint,
    'MOME_UNSUPPORTED',
    'search: expected through to be of the model that the index was made with, got one of another model',
  );
  requireNotAborted(signal, 'search');
  const embedded = await embedQuery(through, query, signal);
  requireNotAborted(signal, 'search');
  const judged = isText ? rerank : 0;
  const found = await nearest(embedded, Math.max(k, judged), signal);
  requireNotAborted(signal, 'search');
  if (!isText || judged === 0) return found;
  const ranked = new Map<T, Ranked>();
  const judge = async (some: readonly T[]) => {
    const similarities = some.map(({ similarity }) => similarity);
    const order = await through.rerank({ text: query }, some.map(pictureOf), {
      ...(signal && { signal }),
      similarities,
    });
    for (const each of order) ranked.set(some[each.index]!, each);
  };
  const first = found.slice(0, judged);
  await eachReadable(first, judge, async (result, error) => {
    await onError(result, error);
    requireNotAborted(signal, 'search');
  });
  const results = await inOrder(found, ranked, first.length, k, model);
  requireNotAborted(signal, 'search');
  return results;
}

/** @throws MomeError `MOME_INVALID_ARGUMENT` for what is no model */
export function requireModel(where: string, model: unknown): void {
  check(
    isObject(model) && 'fingerprint' in model && 'embedImages' in model,
    'MOME_INVALID_ARGUMENT',
    `${where}: expected a model, got ${describe(model)}`,
  );
}

/** The vector of a query, [width]. */
async function embedQuery(
  through: SearchModel,
  query: SearchQuery,
  signal: AbortSignal | undefined,
): Promise<Float32Array> {
  const call = signal ? { signal } : {};
  const image = () => takeFields<{ image: ImageInput }>('search', 'query', query, { image: anything }).image!;
  const embedded = typeof query === 'string' ? through.embedTexts([query], call) : through.embedImages([image()], call);
  const { embeddings } = await embedded.catch((error: unknown) => {
    throw ofOuterCall(error, 'search', { kind: 'query' });
  });
  check(firstNonFinite(embeddings) < 0, 'MOME_NON_FINITE', 'search: expected a finite embedding of the query');
  return embeddings;
}

/**
 * Orders by both encoders. Behind the first `judged` results the fusion encoder has read none, and by similarity they are no better: they
 * are in order, and behind the others.
 */
async function inOrder<T extends Scored>(
  found: T[],
  ranked: ReadonlyMap<T, Ranked>,
  judged: number,
  k: number,
  fusion: Fusion,
): Promise<T[]> {
  await forEachPaced(found, (result) => {
    const { similarity } = result;
    const { score, match } = ranked.get(result) ?? { score: fusedScore({ similarity, match: 0 }, fusion), match: null };
    // In place: nobody has the results yet, and copies of many would be work for the collector.
    result.score = score;
    result.match = match;
  });
  const first = await sortInPieces(
    found.slice(0, judged),
    (a, b) => b.score - a.score || Number(a.match === null) - Number(b.match === null) || a.dualRank - b.dualRank,
  );
  for (const [place, result] of first.entries()) found[place] = result;
  return found.length > k ? found.slice(0, k) : found;
}
