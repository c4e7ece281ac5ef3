/**
 * Recall@k of image-text retrieval, for the dual encoder alone and after fusion re-ranking.
 *
 * A query is a hit at k when any of its true partners is among the first k results; ties are broken by the lower index. The mean
 * runs over queries.
 */
import { checkKind, kinds } from '../runtime/arguments.ts';
import { check } from '../runtime/errors.ts';
import { topK } from '../runtime/top-k.ts';

/** Recall at 1, 5 and 10, each in [0, 1]. */
export interface Recall {
  readonly r1: number;
  readonly r5: number;
  readonly r10: number;
}

export interface RetrievalScores {
  readonly textToImage: Recall;
  readonly imageToText: Recall;
}

/** For each query its candidates in order, best first. */
export type Rankings = readonly Int32Array[];

/** Recall of `rankings` where candidate `partner(query)` is the right answer. */
export function recall(rankings: Rankings, isPartner: (query: number, candidate: number) => boolean): Recall {
  checkKind('recall', 'rankings', rankings, kinds.list);
  checkKind('recall', 'isPartner', isPartner, kinds.callback);
  const hits = { r1: 0, r5: 0, r10: 0 };
  for (const [query, ranking] of rankings.entries()) {
    const place = ranking.findIndex((candidate) => isPartner(query, candidate));
    if (place < 0) continue;
    if (place < 1) hits.r1++;
    if (place < 5) hits.r5++;
    if (place < 10) hits.r10++;
  }
  const n = Math.max(1, rankings.length);
  return { r1: hits.r1 / n, r5: hits.r5 / n, r10: hits.r10 / n };
}

/** The best candidates of each query and their similarities. */
export interface RankedAll {
  readonly rankings: Rankings;
  readonly scores: readonly Float32Array[];
}

/**
 * The `k` items with the largest dot product for each query, best first; ties by the lower index.
 *
 * @param queries queries x width, L2-normalised
 * @param items items x width, L2-normalised
 * @throws MomeError `MOME_INVALID_SHAPE`, `MOME_INVALID_ARGUMENT`
 */
export async function rankAll(
  queries: Float32Array,
  items: Float32Array,
  width: number,
  k: number,
): Promise<RankedAll> {
  checkKind('rankAll', 'queries', queries, kinds.floats);
  checkKind('rankAll', 'items', items, kinds.floats);
  checkKind('rankAll', 'width', width, kinds.count);
  checkKind('rankAll', 'k', k, kinds.size);
  check(
    width > 0 && queries.length % width === 0,
    'MOME_INVALID_SHAPE',
    `retrieval: expected queries of width ${width}, got ${queries.length} numbers`,
  );
  const rankings: Int32Array[] = [];
  const scores: Float32Array[] = [];
  for (let row = 0; row < queries.length; row += width) {
    const best = await topK(items, width, queries.subarray(row, row + width), k);
    rankings.push(best.indices);
    scores.push(best.scores);
  }
  return { rankings, scores };
}

/**
 * Re-orders the first candidates of each ranking by a fusion score; the rest keep their places.
 *
 * @param scores for each ranking, one score for each of its first candidates
 */
export function rerankAll(rankings: Rankings, scores: readonly Float32Array[]): Rankings {
  checkKind('rerankAll', 'rankings', rankings, kinds.list);
  checkKind('rerankAll', 'scores', scores, kinds.list);
  return rankings.map((ranking, query) => {
    const own = scores[query] ?? new Float32Array(0);
    const order = Int32Array.from(own, (_, i) => i).sort((a, b) => own[b]! - own[a]! || a - b);
    const result = Int32Array.from(ranking);
    for (const [place, from] of order.entries()) result[place] = ranking[from]!;
    return result;
  });
}
