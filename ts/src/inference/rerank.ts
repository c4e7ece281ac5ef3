/**
 * Re-ranking: a query with its candidates as pairs, and their order by what both encoders say.
 */
import { describe, takeFields, takeText, takeTexts } from '../runtime/arguments.ts';
import { check, MomeError } from '../runtime/errors.ts';
import { noItems, type TakenItems, takeImages, takePicture } from './arguments.ts';
import { type Fusion, fusedLogOdds, matchProbability } from './fused-score.ts';
import type { Naming } from './mixed.ts';
import type { ImageInput } from './pictures.ts';
import type { Ranked, RerankOptions } from './results.ts';

/** What candidates are ordered by: a text that pictures may fit, or a picture that texts may fit. */
export type RerankQuery = { readonly text: string } | { readonly image: ImageInput };

/** A re-ranking call as a mixed call: the pairs, and what has to be embedded where no similarities were given. */
export interface TakenRerank {
  readonly items: TakenItems;
  readonly names: Naming;
  readonly similarities: Float64Array | undefined;
}

const anything = { expected: 'a text or a picture', accepts: () => true };

/**
 * @throws MomeError `MOME_INVALID_ARGUMENT` for a query that is no text or picture, a candidate of a picture query that is no text, or
 *   similarities that do not fit the candidates
 */
export function takeRerank(
  query: RerankQuery,
  candidates: readonly ImageInput[],
  given: RerankOptions['similarities'],
): TakenRerank {
  const where = 'rerank';
  const known = { text: anything, image: anything };
  const { text, image } = takeFields<{ text: string; image: ImageInput }>(where, 'query', query, known);
  check(
    (text === undefined) !== (image === undefined),
    'MOME_INVALID_ARGUMENT',
    `${where}: expected { text } or { image } as query, got ${text === undefined ? 'neither' : 'both'}`,
  );
  const isQuery: ReadonlySet<string> = new Set(text === undefined ? ['images', 'image'] : ['texts', 'text']);
  const names: Naming = (list, index, half) =>
    isQuery.has(list) || (list === 'pairs' && isQuery.has(half)) ? { kind: 'query' } : { kind: 'candidate', index };
  let items: TakenItems;
  if (text !== undefined) {
    const query = takeText(where, text, 'query');
    const images = takeImages(where, candidates, 'candidates', 'candidate');
    items = { images, texts: [query], pairs: images.map((image) => ({ image, text: query })) };
  } else {
    const query = takePicture(where, image, 'query');
    const texts = takeTexts(where, candidates, 'texts as candidates of a picture query', 'candidate');
    items = { images: [query], texts, pairs: texts.map((text) => ({ image: query, text })) };
  }
  const similarities = given && takeSimilarities(where, given, items.pairs.length);
  if (items.pairs.length === 0 || similarities) items = { ...noItems, pairs: items.pairs };
  return { items, names, similarities };
}

/** Rounding may take a cosine a little beyond 1. */
const largestCosine = 1.001;

function takeSimilarities(
  where: string,
  given: NonNullable<RerankOptions['similarities']>,
  count: number,
): Float64Array {
  check(
    given.length === count,
    'MOME_INVALID_ARGUMENT',
    `${where}: expected ${count} similarities, one for each candidate, got ${given.length}`,
  );
  const taken = new Float64Array(count);
  for (let index = 0; index < count; index++) {
    const value: unknown = given[index];
    if (typeof value === 'number' && Math.abs(value) <= largestCosine) taken[index] = value;
    else {
      const message = `${where}: candidate ${index}: expected a cosine from -1 to 1 as its similarity, got ${describe(value)}`;
      throw new MomeError('MOME_INVALID_ARGUMENT', message, { kind: 'candidate', index });
    }
  }
  return taken;
}

/** Cosine of the one row of a query, [width], and each row of its candidates, [count, width]. */
export function cosines(query: Float32Array, candidates: Float32Array): Float64Array {
  const width = query.length;
  return Float64Array.from({ length: candidates.length / Math.max(1, width) }, (_, row) => {
    let sum = 0;
    for (let i = 0; i < width; i++) sum += query[i]! * candidates[row * width + i]!;
    return sum;
  });
}

/**
 * Candidates, best first; equal scores keep their order.
 *
 * @param logits [candidates, 2] of the matching head
 */
export function rankedBy(
  similarities: Float64Array,
  logits: Float32Array,
  fusion: Fusion,
  rule: RerankOptions['rule'] = 'fused',
): Ranked[] {
  return Array.from(similarities, (similarity, index): Ranked => {
    const logOdds = logits[2 * index + 1]! - logits[2 * index]!;
    const score = rule === 'original' ? logits[2 * index + 1]! + similarity : fusedLogOdds(similarity, logOdds, fusion);
    const match = Math.fround(matchProbability(logOdds, fusion.matchCalibration));
    return { index, score, similarity, match };
  }).sort((a, b) => b.score - a.score || a.index - b.index);
}
