/** Vectors with metadata in one of several places, searched, filtered and re-ranked in the same way in all of them. */

import { types } from 'node:util';
import { type PictureSource, shortName, takePictures } from '../../image/input.ts';
import type { ImageInput, Vlmo } from '../../inference/index.ts';
import { eachReadable, requirePictureError } from '../../inference/readable.ts';
import { describe, isObject, kinds, report, takeFields, takeOptions } from '../../runtime/arguments.ts';
import { check, ofOuterCall, requireNotAborted } from '../../runtime/errors.ts';
import { Pace } from '../../runtime/pace.ts';
import { sourceOfItems } from '../../runtime/source.ts';
import { requireModel, type SearchQuery, searchIn } from '../query.ts';
import { firstNonFinite } from '../rows.ts';
import type { StoredRow, VectorBackend, VectorRow } from './backend.ts';
import { ofStore, raced, untilAborted } from './calls.ts';
import { exactBackend } from './exact.ts';
import { byCodePoints, isStorable, type Metadata, takeFilter, takeMetadata } from './filter.ts';
import {
  type Added,
  type AddOptions,
  addKinds,
  backendKind,
  callKinds,
  type FilterOptions,
  filterKinds,
  itemKinds,
  type OwnResult,
  rowKinds,
  type StoreCallOptions,
  type StoreItem,
  type StoreResult,
  type StoreSearchOptions,
  searchKinds,
  type VectorMatch,
} from './options.ts';

/** Rows of one statement or transaction. */
const rowsAtOnce = 64;
const maxIdBytes = 2000;
const mostResults = 10_000;
/** Rows asked for beyond those wanted: places order by distances of their own rounding, and the last few could differ. */
const beyond = 16;
/** How far from 1 the length of a vector may be. */
const lengthError = 1e-3;

/** Vectors of one model, in a backend. Safe under concurrent calls. */
export class VectorStore {
  readonly #model: Vlmo;
  readonly #backend: VectorBackend;

  private constructor(model: Vlmo, backend: VectorBackend) {
    check(
      backendKind.accepts(backend),
      'MOME_INVALID_ARGUMENT',
      'VectorStore: expected "await VectorStore.open(...)", got "new VectorStore"',
    );
    this.#model = model;
    this.#backend = backend;
  }

  /**
   * Opens what a backend holds, and makes its tables or file where there is nothing.
   *
   * @param backend where rows are kept; default: memory alone
   * @throws MomeError `MOME_UNSUPPORTED` when another model filled it, or an extension is missing; `MOME_INVALID_ARGUMENT`,
   *   `MOME_INVALID_FILE`, `MOME_IO` with the database's error as cause
   */
  static async open(model: Vlmo, backend: VectorBackend = exactBackend()): Promise<VectorStore> {
    requireModel('open', model);
    check(
      isObject(model.config) && kinds.count.accepts(model.config.width),
      'MOME_INVALID_ARGUMENT',
      `open: expected a Vlmo, got ${describe(model)}; a batcher goes to calls as through`,
    );
    check(
      backendKind.accepts(backend),
      'MOME_INVALID_ARGUMENT',
      `open: expected ${backendKind.expected}, got ${describe(backend)}`,
    );
    const { width } = model.config;
    const found = await ofStore('open', () => backend.open({ fingerprint: model.fingerprint, width }));
    const isOurs = found.fingerprint === model.fingerprint && found.width === width;
    if (!isOurs) await backend.close?.();
    check(isOurs, 'MOME_UNSUPPORTED', 'open: expected a store filled with this model, got one of another');
    return new VectorStore(model, backend);
  }

  /** Fingerprint of the model that the store is filled with. */
  get fingerprint(): string {
    return this.#model.fingerprint;
  }

  /**
   * Adds rows, or replaces those with the same ids. Batches of 64 are written whole or not at all.
   *
   * @param rows of length 1, as embeddings are; of rows with the same id the last one counts
   * @throws MomeError `MOME_INVALID_ARGUMENT`, `MOME_INVALID_SHAPE`, `MOME_NON_FINITE` and `MOME_TOO_LARGE` before anything is written;
   *   `MOME_IO`, `MOME_ABORTED` between batches
   */
  async upsert(rows: readonly VectorRow[], options?: StoreCallOptions): Promise<void> {
    const { signal } = takeOptions('upsert', options, callKinds);
    check(Array.isArray(rows), 'MOME_INVALID_ARGUMENT', `upsert: expected a list of rows, got ${describe(rows)}`);
    const taken = new Map<string, StoredRow>();
    const pace = new Pace();
    for (const [index, row] of [...rows].entries()) {
      const checked = this.#takeRow(`upsert: row ${index}`, row);
      taken.set(checked.id, checked);
      await pace.rest();
    }
    const list = [...taken.values()];
    for (let first = 0; first < list.length; first += rowsAtOnce) {
      requireNotAborted(signal, 'upsert');
      await ofStore('upsert', () => this.#backend.upsert(list.slice(first, first + rowsAtOnce)));
      await pace.rest();
    }
  }

  /** Removes rows. @returns how many were there. @throws MomeError as `upsert` */
  async delete(ids: readonly string[], options?: StoreCallOptions): Promise<number> {
    const { signal } = takeOptions('delete', options, callKinds);
    return this.#inParts(
      'delete',
      ids,
      signal,
      (some) => this.#backend.delete(some),
      0,
      (sum, count) => sum + count,
    );
  }

  /** Those of the ids that are in the store. @throws MomeError as `upsert` */
  async present(ids: readonly string[], options?: StoreCallOptions): Promise<Set<string>> {
    const { signal } = takeOptions('present', options, callKinds);
    const add = (all: Set<string>, some: readonly string[]) => {
      for (const id of some) all.add(id);
      return all;
    };
    return this.#inParts('present', ids, signal, (some) => this.#backend.present(some), new Set<string>(), add);
  }

  /** Rows that match. @throws MomeError as `query` */
  async count(options?: FilterOptions): Promise<number> {
    const { filter, signal } = takeOptions('count', options, filterKinds);
    const conditions = takeFilter('count', filter);
    return raced('count', signal, () => this.#backend.count(conditions, signal));
  }

  /**
   * The `k` rows nearest to a vector, best first; equal ones by id, in the order of Unicode code points. Similarities are computed here, from the vectors as they are stored:
   * they have the same bits in every place.
   *
   * @param vector of length 1
   * @throws MomeError `MOME_INVALID_ARGUMENT`, `MOME_INVALID_SHAPE`, `MOME_NON_FINITE`, `MOME_IO`, `MOME_ABORTED`: the call ends at once, and the
   *   statement of a pool of PostgreSQL with it; other databases may finish theirs
   */
  async query(vector: Float32Array, k: number, options?: FilterOptions): Promise<VectorMatch[]> {
    const { filter, signal } = takeOptions('query', options, filterKinds);
    const conditions = takeFilter('query', filter);
    check(
      kinds.count.accepts(k) && k <= mostResults,
      'MOME_INVALID_ARGUMENT',
      `query: expected k to be a whole number from 1 to ${mostResults}, got ${describe(k)}`,
    );
    const wanted = this.#takeVector('query', vector);
    const found = await raced('query', signal, () => this.#backend.nearest(wanted, k + beyond, conditions, signal));
    const matched: VectorMatch[] = [];
    const pace = new Pace();
    for (const row of found) {
      matched.push({ id: row.id, metadata: row.metadata, similarity: cosine(wanted, row.vector) });
      await pace.rest();
    }
    matched.sort((a, b) => b.similarity - a.similarity || byCodePoints(a.id, b.id));
    return matched.slice(0, k);
  }

  /**
   * Embeds pictures that are not in the store yet and adds them, batch by batch. A call that was stopped, also by a kill, is continued by
   * the next one with the same items: what was written is not embedded again. An item is taken over as soon as it comes: a source may
   * reuse its memory for the next one.
   *
   * @throws MomeError as `embedImages`, of the first picture that cannot be read unless `onError` is given, and as `upsert`
   */
  async add(items: Iterable<StoreItem> | AsyncIterable<StoreItem>, options?: AddOptions): Promise<Added> {
    const { replace, through = this.#model, onProgress, onError, signal } = takeOptions('add', options, addKinds);
    check(
      isObject(items) && (Symbol.iterator in items || Symbol.asyncIterator in items),
      'MOME_INVALID_ARGUMENT',
      `add: expected items one after the other, got ${describe(items)}`,
    );
    this.#requireOwn('add', through);
    const done = { added: 0, present: 0, failed: 0 };
    let batch = new Map<string, TakenItem>();
    const call = signal ? { signal } : {};
    const leaveOut = async ({ id, index, source }: TakenItem, error: unknown) => {
      const named = ofOuterCall(error, 'add', { kind: 'picture', index, item: source.name });
      if (!onError) throw named;
      done.failed++;
      await report(onError, id, named);
    };
    const flush = async () => {
      const ids = [...batch.keys()];
      const known = replace ? new Set<string>() : new Set(await ofStore('add', () => this.#backend.present(ids)));
      const missing = [...batch.values()].filter(({ id }) => !known.has(id));
      batch = new Map();
      done.present += known.size;
      const embedTogether = async (some: readonly ReadItem[]) => {
        requireNotAborted(signal, 'add');
        const { embeddings, width } = await through.embedImages(
          some.map(({ image }) => image),
          call,
        );
        const rows = some.map(({ id, metadata }, i) => {
          const vector = embeddings.slice(i * width, (i + 1) * width);
          return { id, metadata, vector: this.#takeVector(`add: ${id}`, vector) };
        });
        if (rows.length > 0) await ofStore('add', () => this.#backend.upsert(rows));
        done.added += rows.length;
      };
      await eachReadable(await readItems(missing, signal, leaveOut), embedTogether, leaveOut);
      if (onProgress) await report(onProgress, { ...done });
    };
    const source = sourceOfItems('add', items);
    const pace = new Pace();
    let isReading = false;
    try {
      for (let index = 0; ; index++) {
        requireNotAborted(signal, 'add');
        isReading = true;
        const { done: isAtEnd, value } = await untilAborted('add', signal, source.next());
        isReading = false;
        if (isAtEnd) break;
        const item = takeItem(value, index);
        batch.set(item.id, item);
        if (batch.size === rowsAtOnce) await flush();
        await pace.rest();
      }
      if (batch.size > 0) await flush();
    } finally {
      const stopped = source.stop();
      if (!isReading) await stopped;
    }
    return done;
  }

  /**
   * Finds rows for a text, or rows like a picture, as `SearchIndex.search`: the nearest that match the filter, of which the fusion encoder
   * reads the first `rerank` for a text.
   *
   * @throws MomeError as `SearchIndex.search` and `query`
   */
  async search(query: SearchQuery, options?: StoreSearchOptions): Promise<StoreResult[]> {
    const { filter, pictureOf, onError, ...taken } = takeOptions('search', options, searchKinds);
    takeFilter('search', filter);
    const nearest = async (embedded: Float32Array, count: number, signal: AbortSignal | undefined) => {
      const found = await this.query(embedded, count, { ...(filter && { filter }), ...(signal && { signal }) });
      return found.map((match, dualRank): OwnResult => ({ ...match, score: match.similarity, match: null, dualRank }));
    };
    return searchIn<OwnResult>(
      {
        model: this.#model,
        nearest,
        pictureOf: (result) => (pictureOf ? pictureOf(result) : result.id),
        onError: ({ id }, error) =>
          report(onError, id, ofOuterCall(error, 'search', { kind: 'picture', item: shortName(id) })),
      },
      query,
      taken,
    );
  }

  /** Waits for writes that have begun, and closes a file of the backend; connections of the caller stay open. */
  async close(): Promise<void> {
    await this.#backend.close?.();
  }

  #requireOwn(where: string, through: { readonly fingerprint: string }): void {
    check(
      through.fingerprint === this.#model.fingerprint,
      'MOME_UNSUPPORTED',
      `${where}: expected through to be of the model of this store, got one of another model`,
    );
  }

  #takeRow(where: string, row: VectorRow): StoredRow {
    const { id, vector, metadata } = takeFields(where, 'row', row, rowKinds);
    return {
      id: requireId(where, id),
      vector: this.#takeVector(where, vector),
      metadata: takeMetadata(where, metadata),
    };
  }

  /** A copy of a vector. */
  #takeVector(where: string, vector: unknown): Float32Array {
    const { width } = this.#model.config;
    check(
      types.isFloat32Array(vector),
      'MOME_INVALID_ARGUMENT',
      `${where}: expected a vector as Float32Array, got ${describe(vector)}`,
    );
    check(vector.length === width, 'MOME_INVALID_SHAPE', `${where}: expected ${width} values, got ${vector.length}`);
    const wrong = firstNonFinite(vector);
    check(wrong < 0, 'MOME_NON_FINITE', `${where}: expected finite values, got ${vector[wrong]} at ${wrong}`);
    const length = Math.sqrt(cosine(vector, vector));
    check(
      Math.abs(length - 1) <= lengthError,
      'MOME_INVALID_ARGUMENT',
      `${where}: expected a vector of length 1, as embeddings are, got ${length}`,
    );
    return vector.slice();
  }

  async #inParts<Part, All>(
    where: string,
    ids: readonly string[],
    signal: AbortSignal | undefined,
    work: (some: readonly string[]) => Promise<Part>,
    start: All,
    add: (all: All, part: Part) => All,
  ): Promise<All> {
    check(Array.isArray(ids), 'MOME_INVALID_ARGUMENT', `${where}: expected a list of ids, got ${describe(ids)}`);
    const taken = [...new Set(ids.map((id, index) => requireId(`${where}: id ${index}`, id)))];
    let all = start;
    for (let first = 0; first < taken.length; first += rowsAtOnce) {
      requireNotAborted(signal, where);
      const part = await ofStore(where, () => work(taken.slice(first, first + rowsAtOnce)));
      all = add(all, part);
    }
    return all;
  }
}

/** An item that is no longer the caller's. */
interface TakenItem {
  readonly id: string;
  readonly source: PictureSource;
  readonly metadata: Metadata;
  readonly index: number;
}

/** An item whose picture can be looked at more than once. */
interface ReadItem extends TakenItem {
  readonly image: ImageInput;
}

/** @throws MomeError `MOME_INVALID_ARGUMENT` for what is no item */
function takeItem(item: unknown, index: number): TakenItem {
  const name = `add: item ${index}`;
  const { id, image, metadata } = takeFields<StoreItem>(name, 'item', item, itemKinds);
  check(image !== undefined && image !== null, 'MOME_INVALID_ARGUMENT', `${name}: expected an image`);
  return { id: requireId(name, id), source: takePictures([image])[0]!, metadata: takeMetadata(name, metadata), index };
}

/** Reads the streams among the pictures, which can be read only once, so that their batch can be tried again in parts. */
async function readItems(
  items: readonly TakenItem[],
  signal: AbortSignal | undefined,
  leaveOut: (item: TakenItem, error: unknown) => Promise<void>,
): Promise<ReadItem[]> {
  const results = await Promise.allSettled(items.map(({ source }) => source.toInput(signal)));
  requireNotAborted(signal, 'add');
  const read: ReadItem[] = [];
  for (const [place, result] of results.entries()) {
    if (result.status === 'fulfilled') read.push({ ...items[place]!, image: result.value });
    else {
      requirePictureError(result.reason);
      await leaveOut(items[place]!, result.reason);
    }
  }
  return read;
}

function requireId(where: string, id: unknown): string {
  const isId = typeof id === 'string' && id !== '' && isStorable(id) && Buffer.byteLength(id) <= maxIdBytes;
  check(
    isId,
    'MOME_INVALID_ARGUMENT',
    `${where}: expected an id of 1 to ${maxIdBytes} bytes without NUL, got ${describe(id)}`,
  );
  return id;
}

function cosine(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}
