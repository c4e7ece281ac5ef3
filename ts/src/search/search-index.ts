/**
 * An index of pictures: embeddings of the dual encoder, searched by dot product and re-ranked by the fusion encoder.
 */
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { z } from 'zod';
import { openSafetensors, readTensor, writeSafetensors } from '../checkpoint/index.ts';
import { fusedScore } from '../model/fused-score.ts';
import type { CallOptions, ImageInput, Vlmo } from '../model/vlmo.ts';
import { native } from '../runtime/addon.ts';
import { check, MomeError } from '../runtime/errors.ts';
import { Pace } from '../runtime/pace.ts';

/** A picture of the index. */
export interface IndexedImage {
  /** Absolute path. */
  readonly path: string;
  /** Bytes and time of change, by which a later build knows whether to embed the file again. */
  readonly size: number;
  readonly modified: number;
}

export interface BuildOptions extends CallOptions {
  /** Embeddings of unchanged files are taken from here. */
  readonly previous?: SearchIndex;
  /** Called for each file that cannot be read; without it the build fails with the first. */
  readonly onError?: (path: string, error: unknown) => void;
}

export interface SearchOptions extends CallOptions {
  /** Results wanted; default 10. */
  readonly k?: number;
  /** Candidates of a text query that the fusion encoder re-ranks; default 32, 0 leaves it out. */
  readonly rerank?: number;
}

/** One result. */
export interface SearchResult {
  readonly path: string;
  /** Cosine of the embeddings. */
  readonly score: number;
  /** Probability of the fusion encoder that text and picture belong together; null where it was not asked. */
  readonly match: number | null;
  /** Place by `score` alone, from 0. */
  readonly dualRank: number;
}

const indexVersion = '1';
/** Pictures embedded between two looks at errors and progress. */
const filesPerPart = 64;

const itemsSchema = z.array(z.object({ path: z.string(), size: z.number(), modified: z.number() }));

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
   * @throws MomeError of the first file that cannot be read, unless `onError` is given; `MOME_ABORTED`
   */
  static async build(model: Vlmo, files: readonly string[], options: BuildOptions = {}): Promise<SearchIndex> {
    const paths = [...new Set(files.map((file) => resolve(file)))];
    const known = new Map(options.previous?.items.map((item, row) => [item.path, { item, row }]));
    const width = model.config.width;
    const items: IndexedImage[] = [];
    const rows: Float32Array[] = [];
    for (let first = 0; first < paths.length; first += filesPerPart) {
      const part = paths.slice(first, first + filesPerPart);
      for (const { item, embedding } of await embedPart(model, part, known, options)) {
        items.push(item);
        rows.push(embedding);
      }
      options.onProgress?.(first + part.length, paths.length);
    }
    const embeddings = new Float32Array(rows.length * width);
    for (const [i, row] of rows.entries()) embeddings.set(row, i * width);
    return new SearchIndex(model, items, embeddings);
  }

  /**
   * Reads an index that {@link save} wrote.
   *
   * @throws MomeError `MOME_INVALID_FILE`, or `MOME_UNSUPPORTED` when it was made with another model
   */
  static async open(model: Vlmo, path: string): Promise<SearchIndex> {
    const file = await openSafetensors(path);
    const { version, fingerprint, items: text } = file.metadata;
    check(
      version === indexVersion && text !== undefined,
      'MOME_INVALID_FILE',
      `${path}: expected a mome index of version ${indexVersion}`,
    );
    check(
      fingerprint === model.fingerprint,
      'MOME_UNSUPPORTED',
      `${path}: expected an index made with this model, got one of another; build it again`,
    );
    const items = parseItems(text, path);
    const entry = file.entries.get('embeddings');
    const { width } = model.config;
    check(
      entry?.shape.length === 2 && entry.shape[0] === items.length && entry.shape[1] === width && entry.dtype === 'F32',
      'MOME_INVALID_FILE',
      `${path}: expected ${items.length} embeddings of width ${width}, got [${entry?.shape.join(', ')}]`,
    );
    const embeddings = await readTensor(entry);
    const pace = new Pace();
    for (let row = 0; row < items.length; row++) {
      const finite = embeddings.subarray(row * width, (row + 1) * width).every(Number.isFinite);
      check(finite, 'MOME_NON_FINITE', `${path}: expected finite embeddings, got others in row ${row}`);
      await pace.rest();
    }
    return new SearchIndex(model, items, embeddings);
  }

  /** Writes the index to a file, in one move. */
  async save(path: string): Promise<void> {
    const shape = [this.items.length, this.#model.config.width];
    await writeSafetensors(path, [{ name: 'embeddings', dtype: 'F32', shape, data: this.embeddings }], {
      version: indexVersion,
      fingerprint: this.#model.fingerprint,
      items: JSON.stringify(this.items),
    });
  }

  /**
   * Finds pictures for a text, or pictures like a picture.
   *
   * The dual encoder finds the nearest; for a text the fusion encoder then reads the first `rerank` of them with the query, and those
   * are ordered by what both encoders say (`fusedScore`).
   *
   * @throws MomeError `MOME_INVALID_IMAGE`, `MOME_ABORTED`, `MOME_DISPOSED`
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
    const candidates = results.slice(0, rerank);
    const matches = await this.#model.match(
      candidates.map(({ path }) => ({ image: path, text: query })),
      call,
    );
    const fused = (result: { readonly match: number; readonly score: number }) =>
      fusedScore(result.match, result.score, this.#model.similarityScale, this.#model.fusionWeight);
    const reranked = candidates
      .map((result, i) => ({ ...result, match: matches[i]! }))
      .sort((a, b) => fused(b) - fused(a) || a.dualRank - b.dualRank);
    return [...reranked, ...results.slice(rerank)].slice(0, k);
  }
}

async function embedPart(
  model: Vlmo,
  paths: readonly string[],
  known: ReadonlyMap<string, { readonly item: IndexedImage; readonly row: number }>,
  { previous, onError, signal }: BuildOptions,
): Promise<{ readonly item: IndexedImage; readonly embedding: Float32Array }[]> {
  const { width } = model.config;
  const found: { item: IndexedImage; embedding: Float32Array | undefined }[] = [];
  for (const path of paths) {
    try {
      const info = await stat(path);
      const item = { path, size: info.size, modified: info.mtimeMs };
      const before = known.get(path);
      const same = before !== undefined && before.item.size === item.size && before.item.modified === item.modified;
      found.push({
        item,
        embedding: same ? previous?.embeddings.slice(before.row * width, (before.row + 1) * width) : undefined,
      });
    } catch (error) {
      const failure = new MomeError('MOME_NOT_FOUND', `${path}: expected a picture, found nothing`, { cause: error });
      if (!onError) throw failure;
      onError(path, failure);
    }
  }
  const missing = found.filter(({ embedding }) => embedding === undefined);
  const call = signal ? { signal } : {};
  const embed = async (some: typeof missing) => {
    const { embeddings } = await model.embedImages(
      some.map(({ item }) => item.path),
      call,
    );
    for (const [i, each] of some.entries()) each.embedding = embeddings.slice(i * width, (i + 1) * width);
  };
  try {
    await embed(missing);
  } catch (error) {
    if (!onError || (error instanceof MomeError && (error.code === 'MOME_ABORTED' || error.code === 'MOME_DISPOSED')))
      throw error;
    // One of them cannot be read: find out which.
    for (const each of missing) await embed([each]).catch((failure: unknown) => onError(each.item.path, failure));
  }
  return found.flatMap(({ item, embedding }) => (embedding ? [{ item, embedding }] : []));
}

function parseItems(text: string, path: string): IndexedImage[] {
  try {
    return itemsSchema.parse(JSON.parse(text));
  } catch (error) {
    throw new MomeError('MOME_INVALID_FILE', `${path}: expected the list of its pictures`, { cause: error });
  }
}
