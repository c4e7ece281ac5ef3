/**
 * `mome eval queries`: how often a search finds a right picture, where a query may have several of them: sentences as people ask, search
 * words, names that several drawings share.
 */
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { pictureKind } from '../image/formats.ts';
import type { ImageInput } from '../image/input.ts';
import type { Vlmo } from '../inference/index.ts';
import { takeList } from '../runtime/arguments.ts';
import { check, MomeError, requireNotAborted } from '../runtime/errors.ts';
import { jsonItems } from '../runtime/json-items.ts';
import { byCodeUnits, Pace } from '../runtime/pace.ts';
import { type EmojiStyle, flattenOnWhite, loadEmojiPictures } from './data/emoji.ts';
import { parsed } from './data/vqa.ts';
import { checkEvaluation } from './evaluation-arguments.ts';
import { rankAll } from './retrieval.ts';

/** Pictures and texts of one call of the dual encoder. */
const itemsPerCall = 64;
const depths = [1, 5, 10] as const;
const maxQueries = 1_000_000;
const fileOptions = { list: 'queries', depth: 8, bytes: 2 ** 28 };
const querySchema = z.object({
  query: z.string().trim().min(1).max(4096),
  right: z.array(z.string().min(1).max(4096)).min(1).max(100_000),
  split: z.string().max(64).optional(),
});

/** A picture that is searched, under the name that queries call it by. */
export interface SearchedPicture {
  readonly name: string;
  readonly image: ImageInput;
}

/** A query with the names of all pictures that are right results. */
export interface SearchQuery {
  readonly query: string;
  readonly right: readonly string[];
}

export interface QueriesEvaluation {
  readonly model: Vlmo;
  readonly pictures: readonly SearchedPicture[];
  readonly queries: readonly SearchQuery[];
  /** Candidates of each query that the fusion encoder re-ranks; 0, as unless named, leaves it out. */
  readonly k?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
  /** Called for each query in order. */
  readonly onQuery?: (result: SearchedQuery) => void;
}

/** How one query went. */
export interface SearchedQuery extends SearchQuery {
  /** Names of the first ten results. */
  readonly found: readonly string[];
  /** Place of the first right one among them, counted from 1, or null. */
  readonly rank: number | null;
}

/** Shares at the first 1, 5 and 10 results. */
export interface AtDepths {
  readonly at1: number;
  readonly at5: number;
  readonly at10: number;
}

/** Two ways to count. */
export interface QueryScores {
  /** Share of queries with a right picture among the first results. */
  readonly success: AtDepths;
  /** Share of pairs of a query and a right picture where that picture is among the first results. */
  readonly recall: AtDepths;
}

/** Output of `mome eval queries --json`. */
export interface QueriesReport {
  readonly pictures: number;
  readonly queries: number;
  /** Pairs of a query and a right picture. */
  readonly pairs: number;
  readonly dual: QueryScores;
  readonly reranked: QueryScores | null;
  /** What a random order gives on average, and the best order there is. */
  readonly chance: QueryScores;
  readonly best: QueryScores;
}

/**
 * Queries of a JSON file: an object with a list `queries` of `{ "query", "right": [names], "split"? }`.
 *
 * @param split only those of this part; all unless named
 * @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE` with the number of the query, `MOME_TOO_LARGE`; `MOME_INVALID_ARGUMENT` for a
 *   part without queries
 */
export async function readQueries(file: string, split?: string): Promise<SearchQuery[]> {
  const queries: SearchQuery[] = [];
  const splits = new Set<string>();
  let index = 0;
  for await (const value of jsonItems(file, 'a file of queries', fileOptions)) {
    const origin = `${file}: query ${index++}`;
    check(index <= maxQueries, 'MOME_TOO_LARGE', `${origin}: expected at most ${maxQueries} queries`);
    const item = parsed(querySchema, value, origin);
    if (item.split !== undefined) splits.add(item.split);
    if (split === undefined || item.split === split) queries.push({ query: item.query, right: item.right });
  }
  check(
    queries.length > 0 || split === undefined,
    'MOME_INVALID_ARGUMENT',
    `${file}: expected a split of ${[...splits].join(', ') || 'no name'}, got ${split}`,
  );
  check(queries.length > 0, 'MOME_INVALID_FILE', `${file}: expected at least one query, got none`);
  return queries;
}

/** The pictures of a folder and its subfolders by their paths in it. @throws MomeError `MOME_NOT_FOUND` */
export async function picturesOfFolder(folder: string): Promise<SearchedPicture[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch((error: unknown) => {
    throw new MomeError('MOME_NOT_FOUND', `${folder}: expected a folder of pictures`, { cause: error });
  });
  const files = entries
    .filter((entry) => !entry.isDirectory() && pictureKind(entry.name) === 'readable')
    .map((entry) => path.join(entry.parentPath, entry.name))
    .sort(byCodeUnits);
  check(files.length > 0, 'MOME_NOT_FOUND', `${folder}: expected pictures, found none`);
  return files.map((file) => ({ name: path.relative(folder, file).split(path.sep).join('/'), image: file }));
}

/** The drawings of a style by their CLDR names, drawn at `size`. @throws MomeError as `loadEmojiPictures` */
export async function picturesOfStyle(
  style: EmojiStyle,
  size: number,
  signal?: AbortSignal,
): Promise<SearchedPicture[]> {
  const { drawings, pixels } = await loadEmojiPictures({ style, size, ...(signal && { signal }) });
  const rgb = flattenOnWhite(pixels);
  const bytes = size * size * 3;
  return drawings.map(({ label }, at) => ({
    name: label,
    image: { data: rgb.subarray(at * bytes, (at + 1) * bytes), width: size, height: size, channels: 3 },
  }));
}

/**
 * Searches all pictures for each query. Equal scores keep the order of the pictures.
 *
 * @throws MomeError `MOME_INVALID_ARGUMENT` without queries, for two pictures of one name and for a right name that no picture has; else as
 *   `embedImages`, `embedTexts` and `rerank`
 */
export async function evaluateQueries(options: QueriesEvaluation): Promise<QueriesReport> {
  checkEvaluation('evaluateQueries', options, 'embedImages', 'embedTexts');
  const pictures = takeList('evaluateQueries', options.pictures, 'pictures', 'picture') as SearchedPicture[];
  const queries = takeList('evaluateQueries', options.queries, 'queries', 'query') as SearchQuery[];
  const { model, k = 0, signal, onProgress, onQuery } = options;
  check(Number.isInteger(k) && k >= 0, 'MOME_INVALID_ARGUMENT', `evaluateQueries: expected k >= 0, got ${k}`);
  check(queries.length > 0, 'MOME_INVALID_ARGUMENT', 'evaluateQueries: expected at least one query, got none');
  const rights = rightPlaces(pictures, queries);
  const call = signal ? { signal } : {};
  const total = pictures.length + queries.length + (k > 0 ? queries.length : 0);
  let done = 0;
  const progress = (count: number) => {
    done += count;
    onProgress?.(done, total);
  };
  const embedded = async <T>(items: readonly T[], embed: (part: readonly T[]) => Promise<Float32Array>) => {
    const rows = new Float32Array(items.length * model.config.width);
    for (let first = 0; first < items.length; first += itemsPerCall) {
      requireNotAborted(signal, 'evaluateQueries');
      const part = items.slice(first, first + itemsPerCall);
      rows.set(await embed(part), first * model.config.width);
      progress(part.length);
    }
    return rows;
  };
  const images = await embedded(
    pictures,
    async (part) =>
      (
        await model.embedImages(
          part.map(({ image }) => image),
          call,
        )
      ).embeddings,
  );
  const texts = await embedded(
    queries,
    async (part) =>
      (
        await model.embedTexts(
          part.map(({ query }) => query),
          call,
        )
      ).embeddings,
  );
  const depth = Math.min(pictures.length, Math.max(k, depths.at(-1)!));
  const { rankings, scores } = await rankAll(texts, images, model.config.width, depth);
  const reranked: Int32Array[] = [];
  const pace = new Pace();
  for (const [query, ranking] of rankings.entries()) {
    let order = ranking;
    if (k > 0) {
      const first = [...ranking.subarray(0, k)];
      const candidates = first.map((place) => pictures[place]!.image);
      const similarities = scores[query]!.subarray(0, first.length);
      const judged = await model.rerank({ text: queries[query]!.query }, candidates, { ...call, similarities });
      order = Int32Array.from(ranking);
      for (const [place, { index }] of judged.entries()) order[place] = first[index]!;
      reranked.push(order);
      progress(1);
    }
    const found = [...order.subarray(0, depths.at(-1)!)];
    const place = found.findIndex((each) => rights[query]!.has(each));
    onQuery?.({
      ...queries[query]!,
      found: found.map((each) => pictures[each]!.name),
      rank: place < 0 ? null : place + 1,
    });
    await pace.rest();
  }
  return {
    pictures: pictures.length,
    queries: queries.length,
    pairs: rights.reduce((sum, right) => sum + right.size, 0),
    dual: scoresOf(rankings, rights),
    reranked: k > 0 ? scoresOf(reranked, rights) : null,
    ...boundsOf(rights, pictures.length),
  };
}

/** Places of the right pictures of each query. */
function rightPlaces(pictures: readonly SearchedPicture[], queries: readonly SearchQuery[]): ReadonlySet<number>[] {
  const places = new Map<string, number>();
  for (const [place, { name }] of pictures.entries()) {
    check(
      !places.has(name),
      'MOME_INVALID_ARGUMENT',
      `evaluateQueries: expected pictures of different names, got two of ${JSON.stringify(name)}`,
    );
    places.set(name, place);
  }
  return queries.map(({ query, right }) => {
    check(
      Array.isArray(right) && right.length > 0,
      'MOME_INVALID_ARGUMENT',
      `evaluateQueries: expected right pictures of ${JSON.stringify(query)}, got none`,
    );
    return new Set(
      right.map((name) => {
        const place = places.get(name);
        check(
          place !== undefined,
          'MOME_INVALID_ARGUMENT',
          `evaluateQueries: ${JSON.stringify(query)}: expected a picture named ${JSON.stringify(name)}, found none`,
        );
        return place;
      }),
    );
  });
}

/**
 * Scores of orders.
 *
 * @param rankings for each query, places of pictures, best first; at least ten, or all
 * @param rights for each query, places of the right pictures
 */
export function scoresOf(rankings: readonly ArrayLike<number>[], rights: readonly ReadonlySet<number>[]): QueryScores {
  const hits = rankings.map((ranking, query) => {
    const right = rights[query]!;
    return depths.map(
      (depth) =>
        Array.from(ranking)
          .slice(0, depth)
          .filter((place) => right.has(place)).length,
    );
  });
  return countedScores(hits, rights);
}

/** @param hits for each query, right pictures among the first of each depth; may be an expected number */
function countedScores(hits: readonly (readonly number[])[], rights: readonly ReadonlySet<number>[]): QueryScores {
  const pairs = Math.max(
    1,
    rights.reduce((sum, right) => sum + right.size, 0),
  );
  const at = (value: (depth: number) => number): AtDepths => ({ at1: value(0), at5: value(1), at10: value(2) });
  const sum = (value: (of: readonly number[]) => number) => hits.reduce((total, each) => total + value(each), 0);
  return {
    success: at((depth) => sum((of) => (of[depth]! > 0 ? 1 : 0)) / Math.max(1, hits.length)),
    recall: at((depth) => sum((of) => of[depth]!) / pairs),
  };
}

/** Scores of a random order, on average, and of the best one. */
export function boundsOf(
  rights: readonly ReadonlySet<number>[],
  pictures: number,
): { readonly chance: QueryScores; readonly best: QueryScores } {
  const best = countedScores(
    rights.map(({ size }) => depths.map((depth) => Math.min(size, depth))),
    rights,
  );
  const mean = (value: (size: number) => number) =>
    rights.reduce((sum, { size }) => sum + value(size), 0) / Math.max(1, rights.length);
  const missed = (size: number, depth: number): number => {
    let share = 1;
    for (let drawn = 0; drawn < Math.min(depth, pictures); drawn++)
      share *= Math.max(0, pictures - size - drawn) / (pictures - drawn);
    return share;
  };
  const at = (value: (depth: number) => number): AtDepths => ({ at1: value(1), at5: value(5), at10: value(10) });
  return {
    chance: {
      success: at((depth) => mean((size) => 1 - missed(size, depth))),
      recall: at((depth) => Math.min(1, depth / Math.max(1, pictures))),
    },
    best,
  };
}
