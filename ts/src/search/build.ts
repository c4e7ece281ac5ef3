/** Brings an index up to date: takes over what is known, embeds the rest, and keeps it in a journal as it goes. */
import { dirname, resolve } from 'node:path';
import { shortName } from '../image/input.ts';
import type { CallOptions, Vlmo } from '../inference/index.ts';
import { eachReadable, requirePictureError } from '../inference/readable.ts';
import { describe, isPath, report } from '../runtime/arguments.ts';
import { check, MomeError, ofOuterCall, requireNotAborted } from '../runtime/errors.ts';
import { forEachPaced } from '../runtime/pace.ts';
import { type FileStamp, hashOf, type IndexedImage, isUntouched, stampOf } from './content.ts';
import { checkIndexSize, type IndexContents } from './index-file.ts';
import { type EmbeddedImage, Journal } from './journal.ts';
import { KnownRows, LargeMap } from './known-rows.ts';
import { copyRows, firstNonFinite, newRows } from './rows.ts';

export interface BuildFilesOptions extends CallOptions {
  /**
   * The folder that paths are relative to in the saved index, so that it can be moved together with its index; default: the deepest folder
   * that all files lie in.
   */
  readonly root?: string;
  /**
   * The file that the index will be saved to. Embeddings are kept beside it as they are made: a build that was aborted or killed is
   * continued by the next one of the same file, and saving the index removes them.
   */
  readonly file?: string;
  /**
   * Called for each file that cannot be read; without it the build fails with the first. The build waits for a promise that it returns,
   * and rejects with what it throws.
   */
  readonly onError?: (path: string, error: unknown) => void;
}

const where = 'build';
/** Files looked at together. */
const filesAtOnce = 64;
/** Milliseconds of embedding between two records of the journal, as far as pictures of one run allow. */
const embeddedAtOnce = 1000;

/**
 * The contents of an index of `files`.
 *
 * @param previous of the same model
 * @returns contents, and whether they are those of `previous`
 * @throws MomeError as `SearchIndex.build`
 */
export async function buildContents(
  model: Vlmo,
  files: readonly string[],
  previous: IndexContents | undefined,
  { root, file, onError, onProgress, signal }: BuildFilesOptions,
): Promise<{ readonly contents: IndexContents; readonly isUnchanged: boolean }> {
  const { width } = model.config;
  check(
    Array.isArray(files),
    'MOME_INVALID_ARGUMENT',
    `${where}: expected a list of paths, also for a single one, got ${describe(files)}`,
  );
  checkIndexSize(files.length, width, where);
  requireNotAborted(signal, where);
  const { entries, folder } = await distinctFiles([...files]);
  const known = await KnownRows.of(previous, width);
  const journal = file === undefined ? undefined : await Journal.beside(file, model);
  await journal?.readEarlier((image) => known.add(image), signal);
  const built = new Builder(model, known, entries.length, journal, onError, signal);
  try {
    for (let first = 0; first < entries.length; first += filesAtOnce) {
      const part = entries.slice(first, first + filesAtOnce);
      await built.addAll(part);
      if (onProgress) await report(onProgress, first + part.length, entries.length);
    }
  } finally {
    await journal?.close();
  }
  const ownRoot = root === undefined ? folder : resolve(root);
  const contents = { root: ownRoot, items: built.items, embeddings: built.rows(previous?.embeddings) };
  const isUnchanged = built.isAsBefore && previous?.root === ownRoot && previous.items.length === contents.items.length;
  return { contents, isUnchanged };
}

/** A file of the call: its absolute path, and its place in the caller's list. */
interface Entry {
  readonly path: string;
  readonly index: number;
}

/** The files without repetitions, and the deepest folder that holds all of them. */
async function distinctFiles(files: readonly string[]): Promise<{ entries: Entry[]; folder: string }> {
  const seen = new LargeMap();
  const entries: Entry[] = [];
  let folder: string | undefined;
  await forEachPaced(files, (file, index) => {
    if (!isPath(file)) {
      const message = `${where}: picture ${index}: expected a path, got ${describe(file)}`;
      throw new MomeError('MOME_INVALID_ARGUMENT', message, { kind: 'picture', index });
    }
    const path = resolve(file);
    if (seen.has(path)) return;
    seen.set(path, index);
    entries.push({ path, index });
    folder = folder === undefined ? dirname(path) : commonFolder(folder, path);
  });
  return { entries, folder: folder ?? resolve('.') };
}

function commonFolder(folder: string, path: string): string {
  let common = folder;
  while (!path.startsWith(common.endsWith('/') ? common : `${common}/`)) common = dirname(common);
  return common;
}

/** A picture whose embedding is to be made, and the places of the index that show it. */
interface Missing {
  readonly item: IndexedImage;
  readonly index: number;
  embedding?: Float32Array;
}

/** Collects pictures and rows in the order of the files. */
class Builder {
  readonly items: IndexedImage[] = [];
  /** Whether every picture so far stands in the earlier index at the same place. */
  isAsBefore = true;
  readonly #model: Vlmo;
  readonly #known: KnownRows;
  readonly #most: number;
  readonly #journal: Journal | undefined;
  readonly #onError: ((path: string, error: unknown) => void) | undefined;
  readonly #signal: AbortSignal | undefined;
  /** Rows of this index once they differ from the first ones of the earlier index. */
  #own: Float32Array | undefined;
  /** Pictures that were embedded in this build, by their contents. */
  readonly #embedded = new LargeMap();
  #filesPerPart = 8;

  constructor(
    model: Vlmo,
    known: KnownRows,
    most: number,
    journal: Journal | undefined,
    onError: ((path: string, error: unknown) => void) | undefined,
    signal: AbortSignal | undefined,
  ) {
    this.#model = model;
    this.#known = known;
    this.#most = most;
    this.#journal = journal;
    this.#onError = onError;
    this.#signal = signal;
  }

  /** [items, width]; the rows of the earlier index where they are the same. */
  rows(previous: Float32Array | undefined): Float32Array {
    const rows = this.#own ?? previous ?? new Float32Array(0);
    return rows.subarray(0, this.items.length * this.#model.config.width);
  }

  async addAll(entries: readonly Entry[]): Promise<void> {
    requireNotAborted(this.#signal, where);
    const found = await Promise.all(
      entries.map((entry) => this.#look(entry).catch((error: unknown) => ({ ...entry, error }))),
    );
    const missing = new Map<string, Missing>();
    for (const each of found) {
      if ('error' in each) requirePictureError(each.error);
      else if (each.row === undefined && !this.#embedded.has(each.item.hash) && !missing.has(each.item.hash))
        missing.set(each.item.hash, each);
    }
    const failures = await this.#embed([...missing.values()]);
    for (const each of found) {
      requireNotAborted(this.#signal, where);
      if ('error' in each) {
        await this.#fail(each, each.error);
        continue;
      }
      const { item, row, index } = each;
      const own = this.#embedded.get(item.hash);
      if (row !== undefined) await this.#addKnown(item, row);
      else if (missing.get(item.hash)?.embedding) await this.#addNew(item, missing.get(item.hash)!.embedding!);
      else if (own !== undefined) await this.#addNew(item, this.#ownRow(own));
      else await this.#fail({ path: item.path, index }, failures.get(item.hash));
    }
    requireNotAborted(this.#signal, where);
  }

  /** What a file is, and its row among those known. */
  async #look({ path, index }: Entry): Promise<Missing & { readonly row: number | undefined }> {
    const stamp: FileStamp = await stampOf(path);
    const byPath = this.#known.byPath(path);
    if (byPath !== undefined && isUntouched(stamp, this.#known.item(byPath))) {
      const item = this.#known.item(byPath);
      return { item: item.hash === '' ? await this.#hashed(stamp) : item, index, row: byPath };
    }
    const item = await this.#hashed(stamp);
    return { item, index, row: await this.#known.byHash(item.hash) };
  }

  async #hashed(stamp: FileStamp): Promise<IndexedImage> {
    return { ...stamp, hash: await hashOf(stamp.path, this.#signal) };
  }

  async #fail({ path, index }: Entry, error: unknown): Promise<void> {
    const named = ofOuterCall(error, where, { kind: 'picture', index, item: shortName(path) });
    if (!this.#onError) throw named;
    await report(this.#onError, path, named);
  }

  /** Embeds pictures a few at a time. @returns why some could not be, by their contents */
  async #embed(missing: readonly Missing[]): Promise<ReadonlyMap<string, unknown>> {
    const failures = new Map<string, unknown>();
    for (let first = 0; first < missing.length; ) {
      const part = missing.slice(first, first + this.#filesPerPart);
      first += part.length;
      const started = performance.now();
      await eachReadable(
        part,
        (some) => this.#embedTogether(some),
        async ({ item, index }, error) => {
          if (!this.#onError) await this.#fail({ path: item.path, index }, error);
          failures.set(item.hash, error);
        },
      );
      await this.#journal?.append(part.filter((each): each is Missing & EmbeddedImage => each.embedding !== undefined));
      const wanted = Math.round((part.length * embeddedAtOnce) / Math.max(1, performance.now() - started));
      this.#filesPerPart = Math.min(filesAtOnce, Math.max(1, wanted));
    }
    return failures;
  }

  async #embedTogether(some: readonly Missing[]): Promise<void> {
    const paths = some.map(({ item }) => item.path);
    const { embeddings, width } = await this.#model.embedImages(paths, this.#signal ? { signal: this.#signal } : {});
    for (const [i, path] of paths.entries()) requireFinite(embeddings.subarray(i * width, (i + 1) * width), path);
    for (const [i, each] of some.entries()) each.embedding = embeddings.slice(i * width, (i + 1) * width);
  }

  async #addKnown(item: IndexedImage, row: number): Promise<void> {
    const place = this.items.length;
    this.isAsBefore &&= row < this.#known.previousCount && row === place && isSame(item, this.#known.item(row));
    if (this.#own === undefined && row === place && row < this.#known.previousCount) {
      this.items.push(item);
      return;
    }
    await this.#add(item, this.#known.embedding(row));
  }

  async #addNew(item: IndexedImage, embedding: Float32Array): Promise<void> {
    this.isAsBefore = false;
    if (!this.#embedded.has(item.hash)) this.#embedded.set(item.hash, this.items.length);
    await this.#add(item, embedding);
  }

  async #add(item: IndexedImage, embedding: Float32Array): Promise<void> {
    const { width } = this.#model.config;
    if (this.#own === undefined) {
      // Memory that is never written to is not taken from the system.
      this.#own = newRows(this.#most, width);
      await copyRows(this.#known.previousRows, 0, this.items.length * width, this.#own);
    }
    this.#own.set(embedding, this.items.length * width);
    this.items.push(item);
  }

  #ownRow(row: number): Float32Array {
    const { width } = this.#model.config;
    return this.#own!.subarray(row * width, (row + 1) * width);
  }
}

/** @throws MomeError `MOME_NON_FINITE` naming the picture */
function requireFinite(embedding: Float32Array, path: string): void {
  const wrong = firstNonFinite(embedding);
  check(wrong < 0, 'MOME_NON_FINITE', `${path}: expected a finite embedding, got ${embedding[wrong]} at ${wrong}`);
}

const isSame = (a: IndexedImage, b: IndexedImage): boolean =>
  a === b ||
  (a.path === b.path && a.size === b.size && a.modified === b.modified && a.changed === b.changed && a.hash === b.hash);
