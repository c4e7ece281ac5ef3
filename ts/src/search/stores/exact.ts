/**
 * The built-in backend: every row in memory, compared with by native code, and kept in a file where one is given.
 *
 * The file is only ever appended to: a line of JSON that names the model, then records of the length of a line of JSON, the line, a vector
 * where rows are added, and the first bytes of their hash. A record that was cut off, because the process or the machine stopped, counts
 * as not written. When most of the file is rows that were replaced or deleted, opening it writes it anew.
 */
import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { resolve } from 'node:path';
import { z } from 'zod';
import { type Kinds, kinds, takeOptions } from '../../runtime/arguments.ts';
import { check } from '../../runtime/errors.ts';
import { exists, replaceFile, writeError } from '../../runtime/files.ts';
import { InputFile } from '../../runtime/input-file.ts';
import { Pace } from '../../runtime/pace.ts';
import { topK } from '../../runtime/top-k.ts';
import { newRows } from '../rows.ts';
import { bytesOf, floatsOf, type StoredRow, type StoreIdentity, type VectorBackend } from './backend.ts';
import { type Condition, type Metadata, matches } from './filter.ts';

export interface ExactOptions {
  /** Where rows are kept. One process at a time may have it open. Default: in memory alone. */
  readonly file?: string;
}

const optionKinds: Kinds<ExactOptions> = { file: kinds.path };
const format = 'mome-vectors-1';
const headerSchema = z.object({ format: z.literal(format), fingerprint: z.string(), width: z.number().int().min(1) });
const scalar = z.union([z.string(), z.number(), z.boolean()]);
const recordSchema = z.union([
  z.strictObject({ id: z.string(), metadata: z.record(z.string(), scalar) }),
  z.strictObject({ deleted: z.array(z.string()) }),
]);
const lengthBytes = 4;
const checkBytes = 8;
/** Longest line: a batch of names that are deleted. */
const maxLineBytes = 2 ** 24;
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
    await this.#change(rows.map(recordOf), () => {
      for (const row of rows) this.#put(row);
    });
  }

  async delete(ids: readonly string[]): Promise<number> {
    let count = 0;
    await this.#change([recordOfLine(JSON.stringify({ deleted: ids }))], () => {
      for (const id of ids) if (this.#drop(id)) count++;
    });
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
      const { indices } = await topK(rows, width, vector, k, signal);
      return Array.from(indices, (index) => this.#row(places ? places[index]! : index));
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
    const scan = work();
    const settled = scan.catch(() => {});
    this.#scans.add(settled);
    void settled.then(() => this.#scans.delete(settled));
    return scan;
  }

  /** Writes records to the file, then changes what is in memory while nobody reads it. */
  #change(records: readonly Buffer[], change: () => void): Promise<void> {
    const next = async () => {
      if (this.#path !== undefined) await this.#append(Buffer.concat(records));
      while (this.#scans.size > 0) await Promise.all(this.#scans);
      change();
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
      for (;;) {
        const line = await lineAt(file, this.#end);
        const record = recordSchema.safeParse(line && parsed(line));
        if (!record.success) break;
        const vectorBytes = 'id' in record.data ? 4 * width : 0;
        const rest = await read(file, this.#end + line!.length, vectorBytes + checkBytes);
        if (!rest || !digest(line!, rest.subarray(0, vectorBytes)).equals(rest.subarray(vectorBytes))) break;
        if ('id' in record.data) this.#put({ ...record.data, vector: floatsOf(rest.subarray(0, vectorBytes)) });
        else for (const id of record.data.deleted) this.#drop(id);
        this.#end += line!.length + rest.length;
        records++;
        await pace.rest();
      }
      return { found, records };
    } finally {
      file.close();
    }
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

function parsed(line: Buffer): unknown {
  try {
    return JSON.parse(line.toString('utf8', lengthBytes));
  } catch {
    return undefined;
  }
}
