/**
 * An index of pictures: embeddings of the dual encoder, searched by dot product and re-ranked by the fusion encoder.
 */
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { CallOptions, ImageInput, Ranked, Vlmo } from '../inference/vlmo.ts';
import { native } from '../runtime/addon.ts';
import { check, type ErrorCode, MomeError } from '../runtime/errors.ts';
import { checkIndexSize, type IndexedImage, readIndex, writeIndex } from './index-file.ts';

export interface BuildOptions extends CallOptions {
  /** Embeddings of unchanged files are taken from here, unless another model made them. */
  readonly previous?: SearchIndex;
  /** Called for each file that cannot be read; without it the build fails with the first. */
  readonly onError?: (path: string, error: unknown) => void;
}

export interface SearchOptions extends CallOptions {
  /** Results wanted; default 10. */
  readonly k?: number;
  /** Candidates of a text query that the fusion encoder re-ranks; default 32, 0 leaves it out. */
  readonly rerank?: number;
  /** Called for each candidate whose picture can no longer be read; it keeps its score and is not re-ranked. */
  readonly onError?: (path: string, error: unknown) => void;
}

/** One result. */
export interface SearchResult {
  readonly path: string;
  /** Cosine of the embeddings. */
  readonly score: number;
  /** Probability of the fusion encoder that text and picture belong together; null where it was not asked or could not read the file. */
  readonly match: number | null;
  /** Place by `score` alone, from 0. */
  readonly dualRank: number;
}

/** Pictures embedded between two looks at errors and progress. */
const filesPerPart = 64;
/** What a picture file can be refused with; every other error ends the call. */
const pictureErrors: readonly ErrorCode[] = ['MOME_NOT_FOUND', 'MOME_INVALID_IMAGE', 'MOME_TOO_LARGE'];

/** Pictures and their embeddings, made with one model. */
export class SearchIndex {
  readonly items: readonly IndexedImage[];
  /** [items, width] rows of length 1. */
  readonly embeddings: Float32Array;
  readonly #model: Vlmo;

  private constructor(model: Vlmo, items: readonly IndexedImage[], embeddings: Float32Array) {
    this.#model = model;
    this.items = items;
    this.embeddings = embeddings;
  }

  /**
   * Embeds picture files.
   *
   * @param files paths; the same file given twice is kept once
   * @throws MomeError of the first file that cannot be read, unless `onError` is given; `MOME_TOO_LARGE` for more pictures than an index
   *   can hold, `MOME_ABORTED`, `MOME_DISPOSED`, `MOME_OUT_OF_MEMORY`
   */
  static async build(model: Vlmo, files: readonly string[], options: BuildOptions = {}): Promise<SearchIndex> {
    const width = model.config.width;
    checkIndexSize(files.length, width, 'index');
    const paths = [...new Set(files.map((file) => resolve(file)))];
    const { previous } = options;
    const isUsable = previous !== undefined && previous.#model.fingerprint === model.fingerprint;
    const known = isUsable ? rowsByPath(previous) : new Map<string, Row>();
    const rows: Row[] = [];
    for (let first = 0; first < paths.length; first += filesPerPart) {
      const part = paths.slice(first, first + filesPerPart);
      rows.push(...(await embedPart(model, part, known, options)));
      options.onProgress?.(first + part.length, paths.length);
    }
    const embeddings = new Float32Array(rows.length * width);
    for (const [i, { embedding }] of rows.entries()) embeddings.set(embedding, i * width);
    return new SearchIndex(
      model,
      rows.map(({ item }) => item),
      embeddings,
    );
  }

  /**
   * Reads an index that {@link save} wrote.
   *
   * @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE`, `MOME_TOO_LARGE`, `MOME_NON_FINITE`, or `MOME_UNSUPPORTED` when it was made
   *   with another model
   */
  static async open(model: Vlmo, path: string): Promise<SearchIndex> {
    const { items, embeddings } = await readIndex(path, model);
    return new SearchIndex(model, items, embeddings);
  }

  /**
   * Writes the index to a file, in one move.
   *
   * @throws MomeError `MOME_IO`, or `MOME_TOO_LARGE` before anything is written
   */
  async save(path: string): Promise<void> {
    await writeIndex(path, this.#model, this);
  }

  /**
   * Finds pictures for a text, or pictures like a picture.
   *
   * The dual encoder finds the nearest; for a text the fusion encoder then reads the first `rerank` of them with the query, and those
   * are ordered by what both encoders say (`fusedScore`). Behind them come, by score, all it has not read: also those of the first
   * `rerank` whose picture was deleted or damaged since.
   *
   * @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_IMAGE` or `MOME_TOO_LARGE` for the picture of the query, `MOME_UNSUPPORTED` for
   *   re-ranking with a model that cannot match, `MOME_INVALID_ARGUMENT`, `MOME_ABORTED`, `MOME_DISPOSED`, `MOME_OUT_OF_MEMORY`
   */
  async search(query: string | { readonly image: ImageInput }, options: SearchOptions = {}): Promise<SearchResult[]> {
    const { k = 10, rerank = 32 } = options;
    check(Number.isInteger(k) && k > 0, 'MOME_INVALID_ARGUMENT', `search: expected k > 0, got ${k}`);
    check(
      Number.isInteger(rerank) && rerank >= 0,
      'MOME_INVALID_ARGUMENT',
      `search: expected rerank >= 0, got ${rerank}`,
    );
    const call = options.signal ? { signal: options.signal } : {};
    const isText = typeof query === 'string';
    const { embeddings } = isText
      ? await this.#model.embedTexts([query], call)
      : await this.#model.embedImages([query.image], call);
    const wanted = Math.max(k, isText ? rerank : 0);
    const { indices, scores } = await native((addon) =>
      addon.topK(this.embeddings, this.#model.config.width, embeddings, wanted),
    );
    const results: SearchResult[] = Array.from(indices, (index, dualRank) => ({
      path: this.items[index]!.path,
      score: scores[dualRank]!,
      match: null,
      dualRank,
    }));
    if (!isText || rerank === 0) return results.slice(0, k);
    const judged = new Map<SearchResult, Ranked>();
    const judge = async (some: readonly SearchResult[]) => {
      const paths = some.map(({ path }) => path);
      const similarities = some.map(({ score }) => score);
      const ranked = await this.#model.rerank({ text: query }, paths, { ...call, similarities });
      for (const each of ranked) judged.set(some[each.index]!, each);
    };
    await eachReadable(results.slice(0, rerank), judge, ({ path }, error) => options.onError?.(path, error));
    const reranked = [...judged]
      .sort(([a, x], [b, y]) => y.score - x.score || a.dualRank - b.dualRank)
      .map(([result, { match }]) => ({ ...result, match }));
    return [...reranked, ...results.filter((result) => !judged.has(result))].slice(0, k);
  }
}

/** A picture and its embedding, [width]. */
interface Row {
  readonly item: IndexedImage;
  readonly embedding: Float32Array;
}

function rowsByPath({ items, embeddings }: SearchIndex): ReadonlyMap<string, Row> {
  const width = embeddings.length / items.length;
  return new Map(
    items.map((item, row) => [item.path, { item, embedding: embeddings.subarray(row * width, (row + 1) * width) }]),
  );
}

/** Embeds the files that are not known or have changed since. */
async function embedPart(
  model: Vlmo,
  paths: readonly string[],
  known: ReadonlyMap<string, Row>,
  { onError, signal }: BuildOptions,
): Promise<Row[]> {
  const found: { readonly item: IndexedImage; embedding: Float32Array | undefined }[] = [];
  for (const path of paths) {
    try {
      const info = await stat(path);
      const item = { path, size: info.size, modified: info.mtimeMs };
      const before = known.get(path);
      const isSame = before?.item.size === item.size && before.item.modified === item.modified;
      found.push({ item, embedding: isSame ? before.embedding : undefined });
    } catch (error) {
      const failure = new MomeError('MOME_NOT_FOUND', `${path}: expected a picture, found nothing`, { cause: error });
      if (!onError) throw failure;
      onError(path, failure);
    }
  }
  const missing = found.filter(({ embedding }) => embedding === undefined);
  const embed = async (some: typeof missing) => {
    const files = some.map(({ item }) => item.path);
    const { embeddings, width } = await model.embedImages(files, signal ? { signal } : {});
    for (const [i, each] of some.entries()) each.embedding = embeddings.slice(i * width, (i + 1) * width);
  };
  if (onError) await eachReadable(missing, embed, ({ item }, error) => onError(item.path, error));
  else await embed(missing);
  return found.flatMap(({ item, embedding }) => (embedding ? [{ item, embedding }] : []));
}

/**
 * Does `work` for all entries at once, or for one after the other when a picture among them cannot be read.
 *
 * @param onError called for each entry whose picture cannot be read
 */
async function eachReadable<T>(
  entries: T[],
  work: (some: T[]) => Promise<void>,
  onError: (entry: T, error: unknown) => void,
): Promise<void> {
  try {
    await work(entries);
  } catch (error) {
    requirePictureError(error);
    for (const entry of entries) {
      await work([entry]).catch((failure: unknown) => {
        requirePictureError(failure);
        onError(entry, failure);
      });
    }
  }
}

/** Passes on whatever is no fault of a picture, such as an abort. */
function requirePictureError(error: unknown): void {
  if (!(error instanceof MomeError) || !pictureErrors.includes(error.code)) throw error;
}
