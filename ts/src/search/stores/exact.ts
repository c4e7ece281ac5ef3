/**
 * The built-in backend: every row in memory, compared with by native code, and kept in a file where one is given.
 *
 * The file is only ever appended to: a line of JSON that names the model, then records of the length of a line of JSON, the line, a vector
 * where rows are added, and the first bytes of their hash. A batch at the end that was cut off, because the process or the machine
 * stopped, counts as not written; a file that is damaged further ahead is refused, and stays as it is. When most of the file is rows that were replaced or deleted, opening it writes it anew.
 */
import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { resolve } from 'node:path';
import { z } from 'zod';
import { type Kinds, kinds, takeOptions } from '../../runtime/arguments.ts';
import { check } from '../../runtime/errors.ts';
import { exists, replaceFile, writeError } from '../../runtime/files.ts';
import { InputFile } from '../../runtime/input-file.ts';
import { Pace, sortInPieces } from '../../runtime/pace.ts';
import { topK } from '../../runtime/top-k.ts';
import { newRows } from '../rows.ts';
import { bytesOf, floatsOf, type StoredRow, type StoreIdentity, type VectorBackend } from './backend.ts';
import { byCodePoints, type Condition, isMetadata, type Metadata, matches } from './filter.ts';

export interface ExactOptions {
  /** Where rows are kept. One process at a time may have it open. Default: in memory alone. */
  readonly file?: string;
}

const optionKinds: Kinds<ExactOptions> = { file: kinds.path };
const format = 'mome-vectors-1';
const headerSchema = z.object({ format: z.literal(format), fingerprint: z.string(), width: z.number().int().min(1) });
const recordSchema = z.union([
  // (A record of zod would drop a field named `__proto__`.)
  z.strictObject({ id: z.string(), metadata: z.custom<Metadata>(isMetadata) }),
  z.strictObject({ deleted: z.array(z.string()) }),
]);
type RecordContent = z.infer<typeof recordSchema>;
const lengthBytes = 4;
const checkBytes = 8;
/** Longest line: a batch of names that are deleted. */
const maxLineBytes = 2 ** 24;
/**
 * Records of a batch, and their most bytes: what a stopped process or machine leaves unfinished, for each batch is on the disk before the
 * next begins.
 */
const batchRecords = 64;
const mostBatchBytes = (width: number): number => maxLineBytes + batchRecords * 4 * width;
const firstCapacity = 1024;
/** Rows that were replaced or deleted, before a file is written anew for them. */
const leastDead = 4096;

/** @throws MomeError `MOME_INVALID_ARGUMENT` */
export function exactBackend(options?: ExactOptions): VectorBackend {
  const { file } = takeOptions('exactBackend', options, optionKinds);
  return new ExactBackend(file === undefined ? undefined : resolve(file));
}

class ExactBackend implements VectorBackend {
  readonly #path: string | undefined;
  #file: FileHandle | undefined;
  #end = 0;
  #width = 0;
  #ids: string[] = [];
  #metadata: Metadata[] = [];
  readonly #places = new Map<string, number>();
  #vectors: Float32Array = new Float32Array(0);
  /** Scans that read rows now: whoever changes rows waits for them. */
  readonly #scans = new Set<Promise<unknown>>();
  /** A change that waits for scans: those that come later wait for it, or it would wait for ever. */
  #changing: Promise<void> | undefined;
  #writing: Promise<unknown> = Promise.resolve();

  constructor(path: string | undefined) {
    this.#path = path;
  }

  async open(identity: StoreIdentity): Promise<StoreIdentity> {
    check(this.#width === 0, 'MOME_INVALID_ARGUMENT', 'exactBackend: expected a backend that no store has opened yet');
    this.#width = identity.width;
    if (this.#path === undefined) return identity;
    if (!(await exists(this.#path))) await this.#rewrite(this.#path, identity);
    const { found, records } = await this.#read(this.#path, identity);
    if (found.fingerprint !== identity.fingerprint || found.width !== identity.width) return found;
    const dead = records - this.#ids.length;
    if (dead > leastDead && dead > this.#ids.length) await this.#rewrite(this.#path, identity);
    this.#file = await open(this.#path, 'r+');
    // What was cut off is overwritten.
    await this.#file.truncate(this.#end);
    return found;
  }

  async upsert(rows: readonly StoredRow[]): Promise<void> {
    await this.#change(
      () => rows.map(recordOf),
      () => {
        for (const row of rows) this.#put(row);
      },
    );
  }

  async delete(ids: readonly string[]): Promise<number> {
    let count = 0;
    await this.#change(
      () => [recordOfLine(JSON.stringify({ deleted: ids }))],
      () => {
        for (const id of ids) if (this.#drop(id)) count++;
      },
    );
    return count;
  }

  async present(ids: readonly string[]): Promise<readonly string[]> {
    return ids.filter((id) => this.#places.has(id));
  }

  async nearest(
    vector: Float32Array,
    k: number,
    conditions: readonly Condition[],
    signal: AbortSignal | undefined,
  ): Promise<readonly StoredRow[]> {
    return this.#scanning(async () => {
      const width = this.#width;
      const places = conditions.length === 0 ? undefined : await this.#matching(conditions);
      const rows = places ? await this.#gathered(places) : this.#vectors.subarray(0, this.#ids.length * width);
      let most = k;
      let found = await topK(rows, width, vector, most, signal);
      // Equal rows come by place, and are wanted by id: all of those that are as near as the last one are looked at.
      while (
        found.scores.length === most &&
        found.scores[most - 1] === found.scores[k - 1] &&
        most * width < rows.length
      ) {
        most = Math.min(4 * most, rows.length / width);
        found = await topK(rows, width, vector, most, signal);
      }
      const near = Array.from(found.indices, (index) => (places ? places[index]! : index));
      const last = found.scores[k - 1];
      const begin = last === undefined ? near.length : found.scores.indexOf(last);
      const equal = near.slice(begin, last === undefined ? begin : found.scores.lastIndexOf(last) + 1);
      const byId = await sortInPieces(equal, (a, b) => byCodePoints(this.#ids[a]!, this.#ids[b]!));
      return [...near.slice(0, begin), ...byId.slice(0, k - begin)].map((place) => this.#row(place));
    });
  }

  async count(conditions: readonly Condition[]): Promise<number> {
    if (conditions.length === 0) return this.#ids.length;
    return this.#scanning(async () => (await this.#matching(conditions)).length);
  }

  async close(): Promise<void> {
    await this.#writing.catch(() => {});
    await this.#file?.close();
    this.#file = undefined;
  }

  async #matching(conditions: readonly Condition[]): Promise<number[]> {
    const places: number[] = [];
    const pace = new Pace();
    for (const [place, metadata] of this.#metadata.entries()) {
      if (matches(conditions, metadata)) places.push(place);
      if (place % 256 === 0) await pace.rest();
    }
    return places;
  }

  async #gathered(places: readonly number[]): Promise<Float32Array> {
    const width = this.#width;
    const rows = newRows(places.length, width);
    const pace = new Pace();
    for (const [i, place] of places.entries()) {
      rows.set(this.#vectors.subarray(place * width, (place + 1) * width), i * width);
      if (i % 64 === 0) await pace.rest();
    }
    return rows;
  }

  #row(place: number): StoredRow {
    const vector = this.#vectors.slice(place * this.#width, (place + 1) * this.#width);
    return { id: this.#ids[place]!, vector, metadata: this.#metadata[place]! };
  }

  async #scanning<T>(work: () => Promise<T>): Promise<T> {
    if (this.#changing) await this.#changing;
    const scan = work();
    const settled = scan.catch(() => {});
    this.#scans.add(settled);
    void settled.then(() => this.#scans.delete(settled));
    return scan;
  }

  /** Writes records to the file, then changes what is in memory while nobody reads it. */
  #change(records: () => readonly Buffer[], change: () => void): Promise<void> {
    const next = async () => {
      if (this.#path !== undefined) await this.#append(Buffer.concat(records()));
      let changed = () => {};
      this.#changing = new Promise((resolve) => {
        changed = resolve;
      });
      try {
        while (this.#scans.size > 0) await Promise.all(this.#scans);
        change();
      } finally {
        this.#changing = undefined;
        changed();
      }
    };
    const done = this.#writing.then(next, next);
    this.#writing = done.catch(() => {});
    return done;
  }

  async #append(bytes: Buffer): Promise<void> {
    check(this.#file !== undefined, 'MOME_DISPOSED', 'exact store: expected an open store, got one that was closed');
    try {
      for (let done = 0; done < bytes.length; )
        done += (await this.#file.write(bytes, done, bytes.length - done, this.#end + done)).bytesWritten;
      await this.#file.datasync();
      this.#end += bytes.length;
    } catch (error) {
      throw writeError(error, this.#path!);
    }
  }

  #put({ id, vector, metadata }: StoredRow): void {
    const known = this.#places.get(id);
    const place = known ?? this.#ids.length;
    const needed = (place + 1) * this.#width;
    if (needed > this.#vectors.length) {
      const grown = newRows(Math.max(firstCapacity, 2 * place), this.#width);
      grown.set(this.#vectors);
      this.#vectors = grown;
    }
    this.#vectors.set(vector, place * this.#width);
    this.#ids[place] = id;
    this.#metadata[place] = metadata;
    if (known === undefined) this.#places.set(id, place);
  }

  /** Removes a row; the last one takes its place. */
  #drop(id: string): boolean {
    const place = this.#places.get(id);
    if (place === undefined) return false;
    const last = this.#row(this.#ids.length - 1);
    this.#ids.pop();
    this.#metadata.pop();
    this.#places.delete(id);
    if (last.id !== id) {
      this.#places.set(last.id, place);
      this.#put(last);
    }
    return true;
  }

  /** Takes over the rows of a file. */
  async #read(path: string, { fingerprint, width }: StoreIdentity) {
    const file = await InputFile.open(path, 'a file of vectors');
    const pace = new Pace();
    try {
      const head = await lineAt(file, 0);
      const header = headerSchema.safeParse(head && parsed(head));
      check(
        header.success,
        'MOME_INVALID_FILE',
        `${path}: expected a new name or a file of vectors, got another file, which is left as it is`,
      );
      const found = header.data;
      let records = 0;
      if (found.fingerprint !== fingerprint || found.width !== width) return { found, records };
      this.#end = head!.length;
      // Whole records behind one that is not: more than a batch of them were not written together with it.
      let behind = 0;
      for (let at = this.#end; behind < batchRecords; ) {
        const record = await recordAt(file, at, width);
        if (!record) break;
        const isUnbroken = at === this.#end;
        at += record.length;
        await pace.rest();
        if (isUnbroken && record.content) {
          this.#take(record.content, record.vector);
          this.#end = at;
          records++;
        } else if (record.content) behind++;
      }
      const left = file.size - this.#end;
      check(
        behind < batchRecords && left <= mostBatchBytes(width),
        'MOME_INVALID_FILE',
        `${path}: expected whole records, got a damaged one at byte ${this.#end}, with others in ${left} bytes behind it; the file is left as it is`,
      );
      return { found, records };
    } finally {
      file.close();
    }
  }

  #take(content: RecordContent, vector: Uint8Array): void {
    if ('id' in content) this.#put({ ...content, vector: floatsOf(vector) });
    else for (const id of content.deleted) this.#drop(id);
  }

  /** Writes the file anew, with the rows that there are. */
  async #rewrite(path: string, { fingerprint, width }: StoreIdentity): Promise<void> {
    const pace = new Pace();
    await replaceFile(path, async (temporary) => {
      const file = await open(temporary, 'wx');
      try {
        const header = sized(JSON.stringify({ format, fingerprint, width }));
        await file.writeFile(header);
        this.#end = header.length;
        for (let place = 0; place < this.#ids.length; place++) {
          const record = recordOf(this.#row(place));
          await file.writeFile(record);
          this.#end += record.length;
          await pace.rest();
        }
      } finally {
        await file.close();
      }
    });
  }
}

const digest = (...parts: readonly Uint8Array[]): Buffer => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest().subarray(0, checkBytes);
};

function sized(line: string): Buffer {
  const text = Buffer.from(line);
  const length = Buffer.alloc(lengthBytes);
  length.writeUInt32LE(text.length);
  return Buffer.concat([length, text]);
}

function recordOfLine(text: string, vector: Uint8Array = new Uint8Array(0)): Buffer {
  const line = sized(text);
  return Buffer.concat([line, vector, digest(line, vector)]);
}

const recordOf = ({ id, vector, metadata }: StoredRow): Buffer =>
  recordOfLine(JSON.stringify({ id, metadata }), bytesOf(vector));

async function read(file: InputFile, position: number, length: number): Promise<Buffer | undefined> {
  if (position + length > file.size) return undefined;
  const bytes = await file.read(position, length);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A line with its length before it; nothing where there is none, or no whole one. */
async function lineAt(file: InputFile, position: number): Promise<Buffer | undefined> {
  const length = (await read(file, position, lengthBytes))?.readUInt32LE();
  return length === undefined || length > maxLineBytes ? undefined : read(file, position, lengthBytes + length);
}

interface FileRecord {
  /** Nothing for a record that is damaged. */
  readonly content: RecordContent | undefined;
  /** Bytes of its vector: none for names that are deleted. */
  readonly vector: Uint8Array;
  /** Bytes of all of it. */
  readonly length: number;
}

/** The record at a place; nothing where the file ends before it does. */
async function recordAt(file: InputFile, position: number, width: number): Promise<FileRecord | undefined> {
  const line = await lineAt(file, position);
  if (!line) return undefined;
  const { data } = recordSchema.safeParse(parsed(line));
  const vectorBytes = data && 'deleted' in data ? 0 : 4 * width;
  const rest = await read(file, position + line.length, vectorBytes + checkBytes);
  if (!rest) return undefined;
  const vector = rest.subarray(0, vectorBytes);
  const isWhole = digest(line, vector).equals(rest.subarray(vectorBytes));
  return { content: isWhole ? data : undefined, vector, length: line.length + rest.length };
}

function parsed(line: Buffer): unknown {
  try {
    return JSON.parse(line.toString('utf8', lengthBytes));
  } catch {
    return undefined;
  }
}
