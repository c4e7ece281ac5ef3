/**
 * Parquet files. The footer is read when a file is opened; of a row group the columns that are asked for are read together and kept while
 * rows of the group are.
 */
import { createHash } from 'node:crypto';
import type { AsyncBuffer, Compressors, FileMetaData } from 'hyparquet';
import { check, MomeError } from '../../runtime/errors.ts';
import { InputFile, refuseLfsPointer } from '../../runtime/input-file.ts';
import { Pace } from '../../runtime/pace.ts';
import { lastAtMost } from './dataset.ts';
import type { Row, RowTable } from './row-table.ts';

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

type Hyparquet = typeof import('hyparquet');

/** A table of a Parquet file. */
export interface ParquetTable extends RowTable {
  /** Row groups that are kept, and may be shuffled together. */
  readonly chunkWindow: number;
}

/** @throws MomeError `MOME_NOT_FOUND`; `MOME_INVALID_FILE` for other files and damaged ones; `MOME_TOO_LARGE` */
export async function openParquet(path: string): Promise<ParquetTable> {
  const file = await InputFile.open(path, 'a Parquet file');
  try {
    await checkEnds(file);
    const [hyparquet, { compressors }] = await Promise.all([import('hyparquet'), import('hyparquet-compressors')]);
    const buffer = bufferOf(file);
    const metadata = await hyparquet.parquetMetadataAsync(buffer);
    const { starts, rows, largest } = checkGroups(metadata, file);
    const window = Math.max(1, Math.floor(windowBytes / Math.max(1, largest)));
    return tableOf(hyparquet, file, buffer, metadata, limited(compressors, path), starts, rows, window);
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
    async slice(start, end = file.size) {
      check(
        Number.isSafeInteger(start) && start >= 0 && end >= start && end <= file.size && end - start <= mostReadBytes,
        'MOME_INVALID_FILE',
        `${file.path}: expected to read inside its ${file.size} bytes, got bytes ${start} to ${end}`,
      );
      return (await file.read(start, end - start)).buffer as ArrayBuffer;
    },
  };
}

/** @returns first rows of the groups, rows of all, and bytes of the largest group */
function checkGroups(metadata: FileMetaData, { path, size }: InputFile) {
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

function tableOf(
  hyparquet: Hyparquet,
  file: InputFile,
  buffer: AsyncBuffer,
  metadata: FileMetaData,
  compressors: Compressors,
  starts: readonly number[],
  rows: number,
  chunkWindow: number,
): ParquetTable {
  const { path } = file;
  const kept = new Map<string, Promise<readonly Row[]>>();
  const groupRows = async (group: number, columns: readonly string[]): Promise<readonly Row[]> => {
    const begin = starts[group]!;
    const end = starts[group + 1] ?? rows;
    try {
      const read = await hyparquet.parquetReadObjects({
        file: buffer,
        metadata,
        columns: [...columns],
        rowStart: begin,
        rowEnd: end,
        compressors,
        utf8: false,
      });
      check(
        read.length === end - begin,
        'MOME_INVALID_FILE',
        `${path}: row group ${group}: expected ${end - begin} rows, got ${read.length}`,
      );
      return read;
    } catch (error) {
      throw asInvalid(error, `${path}: row group ${group}: expected columns ${columns.join(', ')}`);
    }
  };
  return {
    path,
    rows,
    columns: hyparquet.parquetSchema(metadata).children.map(({ element }) => element.name),
    chunkStarts: starts,
    chunkWindow,
    description: createHash('sha256')
      .update(JSON.stringify([file.size, metadata], (_, value) => (typeof value === 'bigint' ? String(value) : value)))
      .digest('hex'),
    async read(row, columns) {
      const group = lastAtMost(starts, row);
      const key = `${group} ${columns.join(' ')}`;
      const loading = kept.get(key) ?? groupRows(group, columns);
      // The last used stand at the end. Batches made ahead reach into the next window.
      kept.delete(key);
      kept.set(key, loading);
      for (const old of kept.keys()) if (kept.size > 2 * chunkWindow) kept.delete(old);
      return (await loading)[row - starts[group]!] ?? {};
    },
    async *scan(columns) {
      const pace = new Pace();
      for (const group of starts.keys()) {
        yield await groupRows(group, columns);
        await pace.rest();
      }
    },
    close() {
      kept.clear();
      file.close();
    },
  };
}

function asInvalid(error: unknown, message: string): MomeError {
  if (error instanceof MomeError) return error;
  return new MomeError('MOME_INVALID_FILE', `${message}, got a damaged file (${(error as Error).message})`, {
    cause: error,
  });
}
