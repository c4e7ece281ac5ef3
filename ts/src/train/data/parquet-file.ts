/**
 * The footer and the row groups of a Parquet file. This runs in a thread of its own (`parquet-reader.ts`): decoding takes long, and a damaged
 * file may keep the library busy for ever.
 */
import { createHash } from 'node:crypto';
import {
  type AsyncBuffer,
  type Compressors,
  type FileMetaData,
  parquetMetadataAsync,
  parquetReadObjects,
  parquetSchema,
  type SchemaTree,
} from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { check, clip, MomeError } from '../../runtime/errors.ts';
import { InputFile, refuseLfsPointer } from '../../runtime/input-file.ts';
import type { Row } from './row-table.ts';

const magic = 'PAR1';
/** Most bytes that are read at once, and that one page may have when unpacked. */
const mostReadBytes = 2 ** 31 - 1;
const mostPageBytes = 2 ** 30;
/** Bytes of row groups that are shuffled together, and so are kept. */
const windowBytes = 2 ** 28;
/** Most rows of a group: they are held as objects. */
const mostGroupRows = 2 ** 22;
const mostGroups = 2 ** 20;
/** Bytes that a packed byte may become. */
const mostExpansion = 2 ** 16;

/** What is known of a file once its footer was read. */
export interface ParquetDescription {
  readonly rows: number;
  readonly columns: readonly string[];
  readonly chunkStarts: readonly number[];
  /** Row groups that may be shuffled together, and so are kept. */
  readonly chunkWindow: number;
  /** A hash of the size of the file and its footer. */
  readonly description: string;
}

/** An open file. */
export interface ParquetFile extends ParquetDescription {
  /** Rows from `begin` to before `end` as objects. */
  read(columns: readonly string[], begin: number, end: number): Promise<readonly Row[]>;
  close(): void;
}

/** @throws MomeError `MOME_NOT_FOUND`; `MOME_INVALID_FILE` for other files and damaged ones; `MOME_TOO_LARGE` */
export async function openParquetFile(path: string): Promise<ParquetFile> {
  const file = await InputFile.open(path, 'a Parquet file');
  try {
    await checkEnds(file);
    const buffer = bufferOf(file);
    const metadata = await parquetMetadataAsync(buffer);
    const schema = parquetSchema(metadata);
    const { starts, rows, largest } = checkGroups(metadata, file, new Set(leavesOf(schema)));
    const unpackers = limited(compressors, path);
    const text = JSON.stringify([file.size, metadata], (_, value) =>
      typeof value === 'bigint' ? String(value) : value,
    );
    return {
      rows,
      columns: schema.children.map(({ element }) => element.name),
      chunkStarts: starts,
      chunkWindow: Math.max(1, Math.floor(windowBytes / Math.max(1, largest))),
      description: createHash('sha256').update(text).digest('hex'),
      async read(columns, rowStart, rowEnd) {
        const where = `${path}: rows ${rowStart} to ${rowEnd - 1}`;
        try {
          const options = { file: buffer, metadata, columns: [...columns], rowStart, rowEnd, compressors: unpackers };
          const read = await parquetReadObjects({ ...options, utf8: false });
          const count = rowEnd - rowStart;
          check(read.length === count, 'MOME_INVALID_FILE', `${where}: expected ${count} rows, got ${read.length}`);
          return read;
        } catch (error) {
          throw asInvalid(error, `${where}: expected columns ${columns.join(', ')}`);
        }
      },
      close: () => file.close(),
    };
  } catch (error) {
    file.close();
    throw asInvalid(error, `${path}: expected a Parquet file`);
  }
}

async function checkEnds(file: InputFile): Promise<void> {
  const { path, size } = file;
  check(size > 0, 'MOME_INVALID_FILE', `${path}: expected a Parquet file, got an empty one`);
  const head = await file.read(0, Math.min(size, 64));
  refuseLfsPointer(head, path, 'a Parquet file');
  const begins = Buffer.from(head).toString('latin1', 0, 4);
  check(begins === magic, 'MOME_INVALID_FILE', `${path}: expected a Parquet file, got other bytes`);
  const tail = size < 12 ? undefined : Buffer.from(await file.read(size - 8, 8));
  check(
    tail?.toString('latin1', 4) === magic,
    'MOME_INVALID_FILE',
    `${path}: expected a footer at the end, found none: the file is cut off`,
  );
  const length = tail.readUInt32LE(0);
  check(
    length > 0 && length <= size - 12,
    'MOME_INVALID_FILE',
    `${path}: expected a footer inside the ${size} bytes of the file, got one of ${length}`,
  );
}

function bufferOf(file: InputFile): AsyncBuffer {
  return {
    byteLength: file.size,
    slice(start, end = file.size) {
      const reading = readPart(file, start, end);
      // The library drops reads that it no longer needs: their failures are nobody's.
      reading.catch(() => {});
      return reading;
    },
  };
}

async function readPart(file: InputFile, start: number, end: number): Promise<ArrayBuffer> {
  check(
    Number.isSafeInteger(start) && start >= 0 && end >= start && end <= file.size && end - start <= mostReadBytes,
    'MOME_INVALID_FILE',
    `${file.path}: expected to read inside its ${file.size} bytes, got bytes ${start} to ${end}`,
  );
  return (await file.read(start, end - start)).buffer as ArrayBuffer;
}

/** Paths of the columns that hold values. */
function leavesOf(tree: SchemaTree): string[] {
  return tree.children.length === 0 ? [JSON.stringify(tree.path)] : tree.children.flatMap(leavesOf);
}

/** @returns first rows of the groups, rows of all, and bytes of the largest group */
function checkGroups(metadata: FileMetaData, { path, size }: InputFile, leaves: ReadonlySet<string>) {
  const starts: number[] = [];
  let rows = 0;
  let largest = 0;
  const { length } = metadata.row_groups;
  check(length <= mostGroups, 'MOME_TOO_LARGE', `${path}: expected at most ${mostGroups} row groups, got ${length}`);
  for (const [index, group] of metadata.row_groups.entries()) {
    const count = Number(group.num_rows);
    const where = `${path}: row group ${index}`;
    check(
      Number.isInteger(count) && count >= 0 && count <= mostGroupRows,
      'MOME_INVALID_FILE',
      `${where}: expected at most ${mostGroupRows} rows, got ${count}`,
    );
    let bytes = 0;
    for (const { meta_data: column, file_path: other } of group.columns) {
      check(
        column !== undefined && other === undefined,
        'MOME_UNSUPPORTED',
        `${where}: expected its columns in this file`,
      );
      check(
        leaves.has(JSON.stringify(column.path_in_schema)),
        'MOME_INVALID_FILE',
        `${where}: expected columns of the schema, got ${clip(column.path_in_schema.join('.'))}`,
      );
      const packed = Number(column.total_compressed_size);
      const unpacked = Number(column.total_uncompressed_size);
      check(
        packed >= 0 && packed <= size && unpacked >= 0 && unpacked <= mostReadBytes,
        'MOME_INVALID_FILE',
        `${where}: expected columns of at most ${mostReadBytes} bytes inside the file, got ${packed} packed and ${unpacked} unpacked`,
      );
      bytes += unpacked;
    }
    starts.push(rows);
    rows += count;
    largest = Math.max(largest, bytes);
  }
  check(
    rows === Number(metadata.num_rows) && rows < 2 ** 32,
    'MOME_INVALID_FILE',
    `${path}: expected ${rows} rows, as its row groups have together, got ${metadata.num_rows}`,
  );
  return { starts, rows, largest };
}

/** Unpackers that refuse pages whose length cannot be true. */
function limited(compressors: Compressors, path: string): Compressors {
  return Object.fromEntries(
    Object.entries(compressors).map(([name, unpack]) => [
      name,
      (input: Uint8Array, length: number) => {
        check(
          length >= 0 && length <= Math.min(mostPageBytes, mostExpansion * (input.length + 1)),
          'MOME_INVALID_FILE',
          `${path}: expected a page of at most ${mostPageBytes} bytes, got one of ${length} from ${input.length}`,
        );
        return unpack(input, length);
      },
    ]),
  );
}

function asInvalid(error: unknown, message: string): MomeError {
  if (error instanceof MomeError) return error;
  return new MomeError('MOME_INVALID_FILE', `${message}, got a damaged file (${(error as Error).message})`, {
    cause: error,
  });
}
