/** An index of any size that stays on disk: 8-bit rows are read through for each search, and the best few are scored by exact rows. */
import { resolve } from 'node:path';
import { shortName } from '../image/input.ts';
import type { Vlmo } from '../inference/index.ts';
import {
  describe,
  isObject,
  type Kinds,
  kinds,
  report,
  takeFields,
  takeOptions,
  takePath,
} from '../runtime/arguments.ts';
import { check, ofOuterCall, requireNotAborted } from '../runtime/errors.ts';
import { InputFile } from '../runtime/input-file.ts';
import { topKOfFile } from '../runtime/top-k.ts';
import type { IndexedImage } from './content.ts';
import { type DiskContents, DiskFile, writeDiskIndex } from './disk-file.ts';
import { rootOf } from './index-file.ts';
import { type QueryOptions, queryKinds, requireModel, type SearchQuery, searchIn } from './query.ts';
import type { SearchResult } from './search-index.ts';

export interface DiskOpenOptions {
  /** The folder that paths are relative to; default: where the file says, seen from its own place. */
  readonly root?: string;
}

export interface DiskSearchOptions extends QueryOptions {
  /** Candidates scored by exact rows for each result; default 4, and at least 64 in all. */
  readonly oversample?: number;
  /** As of `SearchIndex.search`. */
  readonly onError?: (path: string, error: unknown) => void;
}

const openKinds: Kinds<DiskOpenOptions> = { root: kinds.path };
const searchKinds: Kinds<DiskSearchOptions> = { ...queryKinds, oversample: kinds.count, onError: kinds.callback };
const contentKinds: Kinds<DiskContents> = {
  root: kinds.path,
  count: kinds.size,
  images: {
    expected: 'pictures with their embeddings, one after the other',
    accepts: (value) => isObject(value) && (Symbol.iterator in value || Symbol.asyncIterator in value),
  },
  exact: kinds.flag,
  signal: kinds.signal,
};
const defaultOversample = 4;
const leastCandidates = 64;
/** Paths of results read side by side. */
const namesAtOnce = 32;

type OwnResult = { -readonly [K in keyof SearchResult]: SearchResult[K] };

/**
 * Pictures and their embeddings in a file that is neither loaded nor mapped: a search reads it through, from the system's file cache where
 * there is room, and holds less than a megabyte. Opening takes as long for ten million pictures as for ten.
 */
export class DiskIndex {
  /** Pictures in the index. */
  readonly count: number;
  /** The folder that paths are relative to. */
  readonly root: string;
  /** Whether the file has float32 rows, so that similarities are exact. */
  readonly isExact: boolean;
  readonly #model: Vlmo;
  readonly #file: DiskFile;

  private constructor(model: Vlmo, file: DiskFile, root: string) {
    check(
      file instanceof DiskFile,
      'MOME_INVALID_ARGUMENT',
      'DiskIndex: expected "await DiskIndex.open(...)", got "new DiskIndex"',
    );
    this.#model = model;
    this.#file = file;
    this.count = file.layout.count;
    this.root = root;
    this.isExact = file.layout.embeddings !== undefined;
  }

  /**
   * Opens a file that `SearchIndex.save` with `int8`, or {@link write}, has written. Nothing but its header is read.
   *
   * @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE` also for an index of another version, `MOME_TOO_LARGE`, `MOME_IO`, or
   *   `MOME_UNSUPPORTED` when it was made with another model
   */
  static async open(model: Vlmo, file: string | URL, options?: DiskOpenOptions): Promise<DiskIndex> {
    requireModel('open', model);
    const path = takePath('open', file, 'an index');
    const { root } = takeOptions('open', options, openKinds);
    const opened = await InputFile.open(path, 'an index');
    try {
      const disk = await DiskFile.of(opened, model);
      const first = disk.layout.count === 0 ? undefined : await disk.nameOf(0);
      return new DiskIndex(model, disk, root === undefined ? await rootOf(disk.metadata, path, first) : resolve(root));
    } catch (error) {
      opened.close();
      throw error;
    }
  }

  /**
   * Writes an index of pictures that come one after the other, in one move: there may be more of them than memory holds.
   *
   * @param contents with `exact: false` float32 rows are left out: a fifth of the size, and similarities are off by some thousandths
   * @throws MomeError `MOME_INVALID_ARGUMENT` also for another number of pictures than `count`, `MOME_INVALID_SHAPE` and `MOME_NON_FINITE`
   *   for an embedding, `MOME_INVALID_FILE` for a file that is there and is no index, `MOME_TOO_LARGE`, `MOME_IO`, `MOME_ABORTED`; what
   *   `images` throws
   */
  static async write(model: Vlmo, file: string | URL, contents: DiskContents): Promise<void> {
    requireModel('write', model);
    const path = takePath('write', file, 'an index');
    const taken = takeFields('write', 'contents', contents, contentKinds);
    const { root, count, images } = taken;
    check(
      root !== undefined && count !== undefined && images !== undefined,
      'MOME_INVALID_ARGUMENT',
      'write: expected contents with root, count and images',
    );
    await writeDiskIndex(path, model, { ...taken, root: resolve(root), count, images });
  }

  /** Fingerprint of the model that the index was made with. */
  get fingerprint(): string {
    return this.#model.fingerprint;
  }

  /**
   * Pictures [first, end), read from the file.
   *
   * @throws MomeError `MOME_INVALID_ARGUMENT`, `MOME_INVALID_FILE`, `MOME_IO`, `MOME_DISPOSED`
   */
  async items(first: number, end: number): Promise<IndexedImage[]> {
    const isRange = Number.isInteger(first) && Number.isInteger(end) && first >= 0 && first <= end && end <= this.count;
    check(
      isRange,
      'MOME_INVALID_ARGUMENT',
      `items: expected a part of 0 to ${this.count}, got ${describe(first)} to ${describe(end)}`,
    );
    return this.#file.items(first, end, this.root);
  }

  /**
   * Finds pictures for a text, or pictures like a picture, as `SearchIndex.search`. With exact rows results have the same similarities to
   * the last bit; a picture can only be missed whose codes put it behind all candidates.
   *
   * @throws MomeError as `SearchIndex.search`; `MOME_INVALID_FILE` where the file is cut off, `MOME_IO` where it was written to since it
   *   was opened, `MOME_NON_FINITE` for a damaged row, `MOME_DISPOSED` after {@link close}
   */
  async search(query: SearchQuery, options?: DiskSearchOptions): Promise<SearchResult[]> {
    const { onError, oversample, ...taken } = takeOptions('search', options, searchKinds);
    return searchIn<OwnResult>(
      {
        model: this.#model,
        nearest: (embedded, count, signal) => this.#nearest(embedded, count, oversample, signal),
        pictureOf: ({ path }) => path,
        onError: ({ path }, error) =>
          report(onError, path, ofOuterCall(error, 'search', { kind: 'picture', item: shortName(path) })),
      },
      query,
      taken,
    );
  }

  /** Closes the file once searches that have begun are done. Calling it again does nothing. */
  close(): void {
    this.#file.file.close();
  }

  async #nearest(
    query: Float32Array,
    k: number,
    oversample = defaultOversample,
    signal: AbortSignal | undefined,
  ): Promise<OwnResult[]> {
    const { file, layout } = this.#file;
    const { codes, scales, embeddings } = layout;
    await file.requireUnchanged();
    const rows = { count: this.count, codesAt: codes.at, scalesAt: scales.at, rowsAt: embeddings?.at ?? 0 };
    const candidates = Math.min(this.count, Math.max(leastCandidates, oversample * k));
    const found = await topKOfFile(file, rows, query, Math.min(k, this.count), candidates, signal);
    const results: OwnResult[] = [];
    for (let begin = 0; begin < found.indices.length; begin += namesAtOnce) {
      requireNotAborted(signal, 'search');
      const some = Array.from(found.indices.subarray(begin, begin + namesAtOnce));
      const names = await Promise.all(some.map((row) => this.#file.nameOf(row)));
      for (const [i, index] of some.entries()) {
        const score = found.scores[begin + i]!;
        // Those of codes can be a little beyond that of equal pictures.
        const similarity = this.isExact ? score : Math.min(1, Math.max(-1, score));
        const path = resolve(this.root, names[i]!);
        results.push({ path, index, score: similarity, similarity, match: null, dualRank: begin + i });
      }
    }
    await file.requireUnchanged();
    return results;
  }
}
