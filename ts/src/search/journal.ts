/**
 * Embeddings on disk while an index is being built: whatever stops the build, the next one takes them from here.
 *
 * A journal is only ever appended to. It begins with a line of JSON that names its model; each record is the length of a line of JSON, the
 * line, the embedding, and the first bytes of their hash, by which a record that was cut off is known.
 */
import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { z } from 'zod';
import { requireNotAborted } from '../runtime/errors.ts';
import { InputFile } from '../runtime/input-file.ts';
import type { IndexedImage } from './content.ts';
import type { IndexModel } from './index-file.ts';
import { indexTarget } from './index-target.ts';
import { journalBeside, journalsOf, releaseJournal } from './journal-names.ts';
import { firstNonFinite } from './rows.ts';

/** A picture and its embedding, [width]. */
export interface EmbeddedImage {
  readonly item: IndexedImage;
  readonly embedding: Float32Array;
}

const format = 'mome-journal-1';
const lengthBytes = 4;
const checkBytes = 8;
const maxLineBytes = 2 ** 16;
const headerSchema = z.object({ format: z.literal(format), fingerprint: z.string(), width: z.number() });
const itemSchema = z.object({
  path: z.string().min(1),
  size: z.number(),
  modified: z.number(),
  changed: z.number(),
  hash: z.string().min(1).max(64),
});

const digest = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest().subarray(0, checkBytes);

function sized(line: string): Buffer {
  const text = Buffer.from(line);
  const bytes = Buffer.alloc(lengthBytes + text.length);
  bytes.writeUInt32LE(text.length);
  text.copy(bytes, lengthBytes);
  return bytes;
}

/** The journal of one build. Where none can be written, such as in a folder of others, nothing is kept. */
export class Journal {
  readonly #target: string;
  readonly #model: IndexModel;
  #path: string | undefined;
  #file: FileHandle | undefined;
  #failed = false;

  private constructor(target: string, model: IndexModel) {
    this.#target = target;
    this.#model = model;
  }

  /**
   * A journal beside the index at `path`; its file is made with the first record.
   *
   * @throws MomeError as `indexTarget`
   */
  static async beside(path: string, model: IndexModel): Promise<Journal> {
    return new Journal(await indexTarget(path), model);
  }

  /** Calls `take` with what builds of the same model have left or are writing now, as far as it is whole. */
  async readEarlier(take: (image: EmbeddedImage) => void, signal: AbortSignal | undefined): Promise<void> {
    for (const path of await journalsOf(this.#target)) {
      if (path !== this.#path) await readJournal(path, this.#model, take, signal);
    }
  }

  async append(images: readonly EmbeddedImage[]): Promise<void> {
    if (this.#failed || images.length === 0) return;
    const { fingerprint, config } = this.#model;
    const records: Buffer[] = images.map(({ item, embedding }) => {
      const values = new Uint8Array(embedding.buffer, embedding.byteOffset, embedding.byteLength);
      const content = Buffer.concat([sized(JSON.stringify(item)), values]);
      return Buffer.concat([content, digest(content)]);
    });
    try {
      if (this.#file === undefined) {
        this.#path = journalBeside(this.#target);
        this.#file = await open(this.#path, 'wx');
        records.unshift(sized(JSON.stringify({ format, fingerprint, width: config.width })));
      }
      await this.#file.writeFile(Buffer.concat(records));
    } catch {
      this.#failed = true; // a record that was cut off is known as such
    }
  }

  /** Ends writing. The file stays for the next build; saving the index removes it. */
  async close(): Promise<void> {
    await this.#file?.close().catch(() => {});
    this.#file = undefined;
    if (this.#path !== undefined) releaseJournal(this.#path);
  }
}

async function readJournal(
  path: string,
  { fingerprint, config: { width } }: IndexModel,
  take: (image: EmbeddedImage) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  const file = await InputFile.open(path).catch(() => undefined);
  if (file === undefined) return;
  // Where it ends or cannot be read, nothing more is taken from it.
  const read = (position: number, length: number) =>
    file.read(position, length).then(
      ({ buffer }) => Buffer.from(buffer),
      () => undefined,
    );
  const lineAt = async (position: number): Promise<Buffer | undefined> => {
    const length = (await read(position, lengthBytes))?.readUInt32LE();
    return length === undefined || length > maxLineBytes ? undefined : read(position, lengthBytes + length);
  };
  try {
    const head = await lineAt(0);
    if (head === undefined) return;
    const header = headerSchema.safeParse(parseLine(head));
    if (!header.success || header.data.fingerprint !== fingerprint || header.data.width !== width) return;
    const rowBytes = 4 * width;
    for (let position = head.length; ; ) {
      requireNotAborted(signal, 'index');
      const line = await lineAt(position);
      const row = line && (await read(position + line.length, rowBytes + checkBytes));
      if (line === undefined || row === undefined) return;
      const values = row.subarray(0, rowBytes);
      if (!digest(Buffer.concat([line, values])).equals(row.subarray(rowBytes))) return;
      const item = itemSchema.safeParse(parseLine(line));
      const embedding = new Float32Array(new Uint8Array(values).buffer);
      if (!item.success || firstNonFinite(embedding) >= 0) return;
      take({ item: item.data, embedding });
      position += line.length + row.length;
    }
  } finally {
    file.close();
  }
}

function parseLine(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8', lengthBytes));
  } catch {
    return undefined;
  }
}
