/** The files of a part: one in Parquet, JSON or CSV, or an array in NumPy's format with the names of its rows beside it. */
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { MomeError } from '../runtime/errors.ts';
import { Pace } from '../runtime/pace.ts';
import { packageRoot } from '../runtime/package-files.ts';
import type { ParquetPart, WriterReply } from './parquet-writer.ts';
import { rowsAsText, type TextFormat, textFormats } from './row-files.ts';

export const formats = ['parquet', 'npy', ...textFormats] as const;
export type Format = (typeof formats)[number];

/** One input and what became of it. */
export interface Row {
  readonly source: string;
  readonly name: string;
  /** Of a job of texts, where it could be read. */
  readonly text?: string;
  /** [width]; undefined for an input that could not be embedded. */
  readonly embedding?: Float32Array;
  /** Why there is no embedding: code and message. */
  readonly error?: string;
}

/** What a file says of itself. */
export interface PartDescription {
  readonly kind: 'pictures' | 'texts';
  readonly width: number;
  readonly metadata: Readonly<Record<string, string>>;
  readonly createdBy: string;
}

/** "part-000012". */
export const partName = (part: number): string => `part-${String(part).padStart(6, '0')}`;

/** The first file of a part, which every part has. */
export const partFile = (part: number, format: Format): string => `${partName(part)}.${format}`;

/** Writes parts of one job. */
export class PartWriter {
  readonly #format: Format;
  #worker: Worker | undefined;

  constructor(format: Format) {
    this.#format = format;
  }

  /**
   * Writes the files of part `part`.
   *
   * @param fileIn gives the path to write a file of this name at
   * @throws MomeError `MOME_IO`
   */
  async write(part: number, rows: readonly Row[], about: PartDescription, fileIn: (name: string) => string) {
    const path = () => fileIn(partFile(part, this.#format));
    switch (this.#format) {
      case 'parquet':
        return this.parquet(path(), rows, about);
      case 'npy':
        return writeArrays(partName(part), rows, about.width, fileIn);
      default:
        return writeText(path(), this.#format, rows, about);
    }
  }

  async close(): Promise<void> {
    await this.#worker?.terminate();
    this.#worker = undefined;
  }

  /** Writes one file in Parquet. @throws MomeError `MOME_IO` */
  async parquet(path: string, rows: readonly Row[], { kind, width, metadata, createdBy }: PartDescription) {
    const embeddings = new Float32Array(rows.length * width);
    for (const [i, { embedding }] of rows.entries()) if (embedding) embeddings.set(embedding, i * width);
    const part: ParquetPart = {
      path,
      width,
      embeddings,
      sources: rows.map(({ source }) => source),
      names: rows.map(({ name }) => name),
      texts: kind === 'texts' ? rows.map(({ text }) => text ?? null) : undefined,
      errors: rows.map(({ error }) => error ?? null),
      metadata,
      createdBy,
    };
    this.#worker ??= new Worker(join(packageRoot(), 'dist', 'parquet-writer.mjs'));
    const worker = this.#worker;
    const { error, code } = await new Promise<WriterReply>((resolve, reject) => {
      const failed = (cause: unknown) =>
        reject(new MomeError('MOME_IO', `${path}: expected to write a part, its thread ended`, { cause }));
      worker.once('error', failed).once('exit', failed);
      worker.once('message', (reply: WriterReply) => {
        worker.off('error', failed).off('exit', failed);
        resolve(reply);
      });
      worker.postMessage(part, [embeddings.buffer]);
    });
    if (error !== undefined) throw Object.assign(new Error(error), { code, path });
  }
}

/**
 * `part-000000.npy` ([rows, width], float32) and `part-000000.names.jsonl`, whose line i names row i. Inputs without an embedding are in
 * `part-000000.errors.jsonl` instead, which is there where there are some.
 */
export async function writeArrays(base: string, rows: readonly Row[], width: number, fileIn: (name: string) => string) {
  const pace = new Pace();
  const good = rows.filter(({ embedding }) => embedding !== undefined);
  await withFile(fileIn(`${base}.npy`), async (file) => {
    await file.write(npyHeader(good.length, width));
    for (const { embedding } of good) {
      await file.write(new Uint8Array(embedding!.buffer, embedding!.byteOffset, embedding!.byteLength));
      await pace.rest();
    }
  });
  const lines = async (name: string, list: readonly Row[]) =>
    withFile(fileIn(name), async (file) => {
      for (const { source, name: item, text, error } of list) {
        await file.write(`${JSON.stringify({ source, name: item, text, error })}\n`);
        await pace.rest();
      }
    });
  await lines(`${base}.names.jsonl`, good);
  if (good.length < rows.length)
    await lines(
      `${base}.errors.jsonl`,
      rows.filter(({ embedding }) => embedding === undefined),
    );
}

/** Rows as text, with the columns that Parquet has. */
async function writeText(path: string, format: TextFormat, rows: readonly Row[], { kind, width }: PartDescription) {
  const hasTexts = kind === 'texts';
  const columns = ['source', 'name', ...(hasTexts ? ['text'] : [])];
  const named = rows.map(({ source, name, text, embedding, error }) => ({
    names: [source, name, ...(hasTexts ? [text] : [])],
    embedding,
    error,
  }));
  await withFile(path, async (file) => {
    for await (const piece of rowsAsText(format, columns, named, width)) await file.write(piece);
  });
}

async function withFile(path: string, write: (file: FileHandle) => Promise<void>): Promise<void> {
  const file = await open(path, 'wx');
  try {
    await write(file);
  } finally {
    await file.close();
  }
}

/** The header of version 1.0 of NumPy's format: little-endian float32 in rows, padded to a multiple of 64 bytes. */
export function npyHeader(rows: number, width: number): Buffer {
  const text = `{'descr': '<f4', 'fortran_order': False, 'shape': (${rows}, ${width}), }`;
  const length = Math.ceil((10 + text.length + 1) / 64) * 64 - 10;
  const header = Buffer.alloc(10 + length, ' ');
  header.write('\x93NUMPY\x01\x00', 'latin1');
  header.writeUInt16LE(length, 8);
  header.write(text, 10, 'latin1');
  header.write('\n', 9 + length, 'latin1');
  return header;
}
