/** The embeddings of one call as text or as a file: each format with the names of its rows where it can hold them. */
import { createReadStream } from 'node:fs';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, extname, join, resolve } from 'node:path';
import { type Format, formats, npyHeader, PartWriter, type Row, rowsAsText, writeArrays } from '../bulk/index.ts';
import { check } from '../runtime/errors.ts';
import { replaceFile, writeTogether } from '../runtime/files.ts';
import { print, printJson } from './output.ts';

/** One input and what became of it. */
export interface EmbeddedRow {
  readonly kind: 'text' | 'picture';
  /** The text, or the path of the picture as it was given. */
  readonly input: string;
  /** [width]; undefined for a picture that could not be embedded. */
  readonly embedding?: Float32Array;
  readonly error?: { readonly code: string; readonly message: string };
}

export interface EmbedOutput {
  readonly width: number;
  /** "mome version ...", for files that say who made them. */
  readonly createdBy: string;
  /** What a Parquet file says of the model. */
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * The format that is asked for, by its name or by the ending of the file; nothing for plain numbers.
 *
 * @throws MomeError `MOME_INVALID_ARGUMENT` for an ending that no format has, and for bytes that would go to a terminal
 */
export function formatOf(flags: {
  readonly format?: Format;
  readonly output?: string;
  readonly json?: boolean;
}): Format | undefined {
  const { format, output, json } = flags;
  check(
    !json || format === undefined || format === 'json',
    'MOME_INVALID_ARGUMENT',
    `embed: expected --json or --format ${format}, got both`,
  );
  if (format === undefined && output !== undefined && !json) {
    const ending = extname(output).slice(1).toLowerCase();
    const found = formats.find((each) => each === ending);
    check(
      found,
      'MOME_INVALID_ARGUMENT',
      `embed: expected --format, or --output ending in ${formats.map((each) => `.${each}`).join(', ')}, got ${output}`,
    );
    return found;
  }
  const isBinary = format === 'npy' || format === 'parquet';
  check(
    !isBinary || output !== undefined || !process.stdout.isTTY,
    'MOME_INVALID_ARGUMENT',
    `embed: expected --output or a pipe for --format ${format}, got a terminal`,
  );
  return format ?? (json ? 'json' : undefined);
}

/** Writes rows to standard output. Plain numbers and `npy` have no place for names: rows that failed are left out there. */
export async function printRows(
  rows: readonly EmbeddedRow[],
  format: Format | undefined,
  about: EmbedOutput,
): Promise<void> {
  const good = rows.flatMap(({ embedding }) => (embedding ? [embedding] : []));
  switch (format) {
    case undefined:
      for (const row of good) print(Array.from(row, (value) => value.toPrecision(7)).join('\t'));
      return;
    case 'json':
      printJson(jsonOf(rows, about.width));
      return;
    case 'npy':
      await write(npyHeader(good.length, about.width));
      for (const { buffer, byteOffset, byteLength } of good)
        await write(new Uint8Array(buffer, byteOffset, byteLength));
      return;
    case 'parquet': {
      const folder = await mkdtemp(join(tmpdir(), 'mome-'));
      try {
        const path = join(folder, 'rows.parquet');
        await writeParquet(path, rows, about);
        for await (const piece of createReadStream(path)) await write(piece as Uint8Array);
      } finally {
        await rm(folder, { recursive: true, force: true });
      }
      return;
    }
    default:
      for await (const piece of rowsAsText(format, ['input'], rows.map(textRow), about.width)) await write(piece);
  }
}

/** Writes rows into a file, which changes as a whole or not at all. Beside `x.npy` stands `x.names.jsonl`, whose line i names row i. */
export async function writeRows(
  path: string,
  rows: readonly EmbeddedRow[],
  format: Format,
  about: EmbedOutput,
): Promise<void> {
  switch (format) {
    case 'npy': {
      const base = basename(path).replace(/\.npy$/i, '');
      await writeTogether(
        dirname(resolve(path)),
        (fileIn) => writeArrays(base, rows.map(partRow), about.width, fileIn),
        {
          make: false,
        },
      );
      return;
    }
    case 'parquet':
      await replaceFile(path, (temporary) => writeParquet(temporary, rows, about));
      return;
    default:
      await replaceFile(path, async (temporary) => {
        const file = await open(temporary, 'w');
        try {
          if (format === 'json') await file.write(`${JSON.stringify(jsonOf(rows, about.width), null, 2)}\n`);
          else
            for await (const piece of rowsAsText(format, ['input'], rows.map(textRow), about.width))
              await file.write(piece);
        } finally {
          await file.close();
        }
      });
  }
}

const jsonOf = (rows: readonly EmbeddedRow[], width: number) => ({
  width,
  rows: rows.map(({ input, embedding, error }) => ({
    input,
    ...(embedding ? { embedding: [...embedding] } : { error }),
  })),
});

const reasonOf = ({ error }: EmbeddedRow): string | undefined => error && `${error.code}: ${error.message}`;

const textRow = (row: EmbeddedRow) => ({ names: [row.input], embedding: row.embedding, error: reasonOf(row) });

/** A row with the columns that the files of bulk jobs have. */
const partRow = (row: EmbeddedRow): Row => {
  const error = reasonOf(row);
  return {
    source: row.kind,
    name: row.input,
    ...(row.embedding && { embedding: row.embedding }),
    ...(error !== undefined && { error }),
  };
};

async function writeParquet(path: string, rows: readonly EmbeddedRow[], about: EmbedOutput): Promise<void> {
  const writer = new PartWriter('parquet');
  try {
    await writer.parquet(path, rows.map(partRow), { kind: 'pictures', ...about });
  } finally {
    await writer.close();
  }
}

/** Writes to standard output, no faster than it is read. */
async function write(piece: string | Uint8Array): Promise<void> {
  if (!process.stdout.write(piece)) await new Promise((resolve) => process.stdout.once('drain', resolve));
}
