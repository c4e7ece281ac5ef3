/**
 * An index of pictures: embeddings of the dual encoder, searched by dot product and re-ranked by the fusion encoder.
 */
import { stat } from 'node:fs/promises';
import { shortName } from '../image/input.ts';
import type { Vlmo } from '../inference/index.ts';
import { describe, isObject, type Kinds, kinds, report, takeOptions, takePath } from '../runtime/arguments.ts';
import { check, ofOuterCall } from '../runtime/errors.ts';
import { forEachPaced } from '../runtime/pace.ts';
import { topK } from '../runtime/top-k.ts';
import { type BuildFilesOptions, buildContents } from './build.ts';
import type { IndexedImage } from './content.ts';
import { writeDiskIndex } from './disk-file.ts';
import { type IndexContents, isDiskIndex, type ReadOptions, readIndex, writeIndex } from './index-file.ts';
import { indexTarget } from './index-target.ts';
import type { EmbeddedImage } from './journal.ts';
import { removeLeftovers } from './journal-names.ts';
import { type QueryOptions, queryKinds, requireModel, type Searched, type SearchQuery, searchIn } from './query.ts';

export interface BuildOptions extends BuildFilesOptions {
  /**
   * Embeddings are taken from here, unless another model made them: of files that nobody has touched since, and of any whose contents are
   * known, wherever they lay.
   */
  readonly previous?: SearchIndex;
}

export interface OpenOptions extends ReadOptions {}

export interface SearchOptions extends QueryOptions {
  /**
   * Called for each candidate whose picture can no longer be read; it is not re-ranked. The search waits for a promise that it returns, and
   * rejects with what it throws.
   */
  readonly onError?: (path: string, error: unknown) => void;
}

export interface SaveOptions {
  /**
   * Writes 8-bit rows beside the exact ones, for `DiskIndex.open`: searches then read a quarter of the bytes, and nothing stays in memory.
   * Default: exact rows alone. {@link SearchIndex.open} reads both.
   */
  readonly int8?: boolean;
}

/** One result. */
export interface SearchResult {
  readonly path: string;
  /** Number of the picture: its place in `items`. */
  readonly index: number;
  /**
   * What results are ordered by, best first. With re-ranking it is `fusedScore`, log-odds by both encoders, in which a picture that the
   * fusion encoder has not read counts as one that it rules out; without it is `similarity`.
   */
  readonly score: number;
  /** Cosine of the embeddings. */
  readonly similarity: number;
  /** What the fusion encoder says, from 0 to 1, of text and picture belonging together; null where it has not read the picture. */
  readonly match: number | null;
  /** Place by `similarity` alone, from 0. */
  readonly dualRank: number;
}

/** A result that is still to be put in order. */
type OwnResult = { -readonly [K in keyof SearchResult]: SearchResult[K] };

/** A file and its state when it was read or written. */
interface StoredFile {
  readonly target: string;
  readonly stamp: string;
}

const buildKinds: Kinds<BuildOptions> = {
  root: kinds.path,
  file: kinds.path,
  previous: { expected: 'a SearchIndex', accepts: (value) => value instanceof SearchIndex },
  onError: kinds.callback,
  onProgress: kinds.callback,
  signal: kinds.signal,
};
const openKinds: Kinds<OpenOptions> = { root: kinds.path, signal: kinds.signal };
const saveKinds: Kinds<SaveOptions> = { int8: kinds.flag };
const searchKinds: Kinds<SearchOptions> = { ...queryKinds, onError: kinds.callback };

/** Times that an index is read again because somebody replaced it meanwhile. */
const mostReads = 5;

/** Pictures and their embeddings, made with one model. */
export class SearchIndex {
  /** The pictures, in the order of `embeddings`. */
  readonly items: readonly IndexedImage[];
  readonly #model: Vlmo;
  /** Its rows are read by native threads: nobody outside ever gets their array. */
  readonly #contents: IndexContents;
  /** The file that holds just this. */
  #stored: StoredFile | undefined;

  private constructor(model: Vlmo, contents: IndexContents, stored?: StoredFile) {
    check(
      isObject(contents),
      'MOME_INVALID_ARGUMENT',
      'SearchIndex: expected "await SearchIndex.build(...)", got "new SearchIndex"',
    );
    this.#model = model;
    this.#contents = contents;
    this.items = contents.items;
    this.#stored = stored;
  }

  /** The folder that paths are relative to in the saved index. */
  get root(): string {
    SearchIndex.#requireIndex(this, 'root');
    return this.#contents.root;
  }

  /** Fingerprint of the model that the index was made with. */
  get fingerprint(): string {
    SearchIndex.#requireIndex(this, 'fingerprint');
    return this.#model.fingerprint;
  }

  /** A copy of all embeddings: [items, width] rows of length 1. Of a large index take some with {@link rows}. */
  get embeddings(): Float32Array {
    SearchIndex.#requireIndex(this, 'embeddings');
    return this.#contents.embeddings.slice();
  }

  /**
   * A copy of the embeddings of `items` [first, end): [end - first, width].
   *
   * @throws MomeError `MOME_INVALID_ARGUMENT`
   */
  rows(first: number, end: number): Float32Array {
    SearchIndex.#requireIndex(this, 'rows');
    const count = this.items.length;
    const isRange = Number.isInteger(first) && Number.isInteger(end) && first >= 0 && first <= end && end <= count;
    check(
      isRange,
      'MOME_INVALID_ARGUMENT',
      `rows: expected a part of 0 to ${count}, got ${describe(first)} to ${describe(end)}`,
    );
    const { width } = this.#model.config;
    return this.#contents.embeddings.slice(first * width, end * width);
  }

  /**
   * Embeds picture files.
   *
   * @param files paths; the same file given twice is kept once
   * @throws MomeError of the first file that cannot be read, unless `onError` is given, `MOME_NON_FINITE` naming a picture whose
   *   embedding is not finite; `MOME_TOO_LARGE` for more pictures than an index can hold, `MOME_INVALID_ARGUMENT` and `MOME_INVALID_FILE`
   *   where `file` must not be written, `MOME_ABORTED`, `MOME_DISPOSED`, `MOME_OUT_OF_MEMORY`
   */
  static async build(model: Vlmo, files: readonly string[], options?: BuildOptions): Promise<SearchIndex> {
    requireModel('build', model);
    const { previous, ...others } = takeOptions('build', options, buildKinds);
    const isUsable = previous !== undefined && previous.#model.fingerprint === model.fingerprint;
    const known = isUsable ? previous.#contents : undefined;
    const { contents, isUnchanged } = await buildContents(model, files, known, others);
    return new SearchIndex(model, contents, isUnchanged && previous !== undefined ? previous.#stored : undefined);
  }

  /**
   * Reads an index that {@link save} wrote. Its paths are seen from `root`; by default from where the file says, so that a folder may have
   * moved together with its index.
   *
   * @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE`, `MOME_TOO_LARGE`, `MOME_NON_FINITE`, `MOME_OUT_OF_MEMORY`, `MOME_IO`,
   *   `MOME_ABORTED`, or `MOME_UNSUPPORTED` when it was made with another model
   */
  static async open(model: Vlmo, file: string | URL, options?: OpenOptions): Promise<SearchIndex> {
    requireModel('open', model);
    const path = takePath('open', file, 'an index');
    const taken = takeOptions('open', options, openKinds);
    for (let read = 1; ; read++) {
      const before = await stampOfFile(path);
      try {
        const contents = await readIndex(path, model, taken);
        if (before !== undefined && before === (await stampOfFile(path)))
          return new SearchIndex(model, contents, { target: await indexTarget(path), stamp: before });
      } catch (error) {
        if (before === (await stampOfFile(path))) throw error;
      }
      check(read < mostReads, 'MOME_IO', `${path}: expected an index, got one that others keep replacing`);
    }
  }

  /**
   * Writes the index to a file, in one move; links are followed. Nothing is written where the file holds just this index already.
   *
   * @throws MomeError `MOME_INVALID_ARGUMENT` for a folder, device, pipe or socket, `MOME_INVALID_FILE` for a file that is there and is no
   *   index, `MOME_IO`, or `MOME_TOO_LARGE` before anything is written
   */
  async save(file: string | URL, options?: SaveOptions): Promise<void> {
    SearchIndex.#requireIndex(this, 'save');
    const path = takePath('save', file, 'an index');
    const { int8 = false } = takeOptions('save', options, saveKinds);
    const target = await indexTarget(path);
    const isSame = this.#stored?.target === target && this.#stored.stamp === (await stampOfFile(target));
    if (!(isSame && (await isDiskIndex(target)) === int8)) {
      const { root, items } = this.#contents;
      if (int8) await writeDiskIndex(path, this.#model, { root, count: items.length, images: this.#images() });
      else await writeIndex(path, this.#model, this.#contents);
      const stamp = await stampOfFile(target);
      this.#stored = stamp === undefined ? undefined : { target, stamp };
    }
    await removeLeftovers(target);
  }

  /**
   * Finds pictures for a text, or pictures like a picture.
   *
   * The dual encoder finds the nearest; for a text the fusion encoder then reads the first `rerank` of them with the query, and those
   * are ordered by what both encoders say (`fusedScore`). Behind them come all it has not read: also those of the first `rerank` whose
   * picture was deleted or damaged since.
   *
   * @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_IMAGE` or `MOME_TOO_LARGE` for the picture of the query, `MOME_UNSUPPORTED` for
   *   re-ranking with a model that cannot match or `through` of another model, `MOME_NON_FINITE`, `MOME_INVALID_ARGUMENT`, `MOME_ABORTED`,
   *   `MOME_DISPOSED`, `MOME_OUT_OF_MEMORY`; of a batcher also `MOME_OVERLOADED` and `MOME_DEADLINE`
   */
  async search(query: SearchQuery, options?: SearchOptions): Promise<SearchResult[]> {
    SearchIndex.#requireIndex(this, 'search');
    const { onError, ...taken } = takeOptions('search', options, searchKinds);
    const searched: Searched<OwnResult> = {
      model: this.#model,
      nearest: (embedded, count, signal) => this.#nearest(embedded, Math.min(this.items.length, count), signal),
      pictureOf: ({ path }) => path,
      onError: ({ path }, error) =>
        report(onError, path, ofOuterCall(error, 'search', { kind: 'picture', item: shortName(path) })),
    };
    return searchIn(searched, query, taken);
  }

  *#images(): Generator<EmbeddedImage> {
    const { width } = this.#model.config;
    const { items, embeddings } = this.#contents;
    for (const [row, item] of items.entries())
      yield { item, embedding: embeddings.subarray(row * width, (row + 1) * width) };
  }

  static #requireIndex(index: unknown, where: string): void {
    check(
      isObject(index) && #model in index,
      'MOME_INVALID_ARGUMENT',
      `${where}: expected to be called as a method of an index, got ${describe(index)} as "this"`,
    );
  }

  /** The nearest pictures by the dual encoder alone. */
  async #nearest(query: Float32Array, count: number, signal: AbortSignal | undefined): Promise<OwnResult[]> {
    const { width } = this.#model.config;
    const { indices, scores } = await topK(this.#contents.embeddings, width, query, count, signal);
    const results: OwnResult[] = [];
    await forEachPaced(Array.from(indices), (index, dualRank) => {
      const similarity = scores[dualRank]!;
      results.push({ path: this.items[index]!.path, index, score: similarity, similarity, match: null, dualRank });
    });
    return results;
  }
}

/** What changes when a file is replaced or written to; nothing where there is none. */
async function stampOfFile(path: string): Promise<string | undefined> {
  const info = await stat(path).catch(() => undefined);
  return info && `${info.dev} ${info.ino} ${info.size} ${info.mtimeMs}`;
}
