/**
 * Pairs of a query with its candidates, and their order by score.
 */
import { check } from '../runtime/errors.ts';
import { isObject, requireList } from './arguments.ts';
import type { ImageInput } from './pictures.ts';
import type { Ranked } from './results.ts';

/** What candidates are ordered by: a text that pictures may fit, or a picture that texts may fit. */
export type RerankQuery = { readonly text: string } | { readonly image: ImageInput };

/** @throws MomeError `MOME_INVALID_ARGUMENT` for another query, or a candidate of a picture query that is no text */
export function pairsOf(
  query: RerankQuery,
  candidates: readonly ImageInput[],
): { readonly image: ImageInput; readonly text: string }[] {
  check(
    isObject(query) && ('text' in query || 'image' in query),
    'MOME_INVALID_ARGUMENT',
    'rerank: expected { text } or { image } as query',
  );
  requireList(candidates, 'rerank', 'candidates');
  return candidates.map((candidate) => {
    if ('text' in query) return { image: candidate, text: query.text };
    check(
      typeof candidate === 'string',
      'MOME_INVALID_ARGUMENT',
      'rerank: expected texts as candidates of a picture query',
    );
    return { image: query.image, text: candidate };
  });
}

/** Places by score, best first; equal scores keep their order. */
export function rankedBy(scores: Float32Array): Ranked[] {
  return Array.from(scores, (score, index) => ({ index, score })).sort(
    (a, b) => b.score - a.score || a.index - b.index,
  );
}
