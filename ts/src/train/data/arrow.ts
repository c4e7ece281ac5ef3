/**
 * Arrow IPC files. The footer and the metadata of record batches are read when a file is opened; of a batch the columns that are asked for are
 * read when a row of it is, and of columns of bytes, such as pictures, the one value. A file may be larger than memory.
 */
import { createHash } from 'node:crypto';
import type { Data, DataType, Schema } from 'apache-arrow';
import type { FileBlock } from 'apache-arrow/ipc/metadata/file';
import type { RecordBatch } from 'apache-arrow/ipc/metadata/message';
import { check, MomeError } from '../../runtime/errors.ts';
import { InputFile, refuseLfsPointer } from '../../runtime/input-file.ts';
import { Pace } from '../../runtime/pace.ts';
import { type Arrow, checkData, loadArrow, plainValue } from './arrow-values.ts';
import { lastAtMost } from './dataset.ts';
import { checkBatchMessage, checkFooter } from './flatbuffer-limits.ts';
import type { Row, RowTable } from './row-table.ts';

const magic = 'ARROW1';
/** The magic again, behind four bytes of the footer's length. */
const tailBytes = magic.length + 4;
const mostFooterBytes = 2 ** 28;
const mostMessageBytes = 2 ** 24;
/** Most bytes of one column of a batch that is read as a whole, and of one value of bytes. */
const mostColumnBytes = 2 ** 31;
const mostValueBytes = 2 ** 28;
/** Columns of batches that are kept, in bytes. */
const mostKeptBytes = 2 ** 27;
/** Rows handed over by a scan at a time. */
const scannedRows = 1024;

interface Batch {
  readonly rows: number;
  /** Byte of the file at which its buffers begin. */
  readonly body: number;
  readonly header: RecordBatch;
}

/** A column of a batch; of bytes without the values themselves, which begin at byte `values` of the file. */
interface Column {
  readonly data: Data;
  readonly values?: { readonly at: number; readonly length: number };
  readonly bytes: number;
}

/**
 * @throws MomeError `MOME_NOT_FOUND`; `MOME_INVALID_FILE` for other files and damaged ones; `MOME_UNSUPPORTED` for compressed batches and
 *   dictionaries; `MOME_TOO_LARGE`
 */
export async function openArrow(path: string): Promise<RowTable> {
  const file = await InputFile.open(path, 'an Arrow file');
  try {
    const arrow = await loadArrow();
    const { footer, bytes, end } = await readFooter(arrow, file);
    check(
      footer.numDictionaries === 0,
      'MOME_UNSUPPORTED',
      `${path}: expected columns without dictionaries, got ${footer.numDictionaries}`,
    );
    const batches: Batch[] = [];
    const starts: number[] = [];
    let rows = 0;
    for (const block of footer.recordBatches()) {
      const batch = await readBatch(arrow, file, block, `${path}: record batch ${batches.length}`, end);
      batches.push(batch);
      starts.push(rows);
      rows += batch.rows;
      check(rows < 2 ** 32, 'MOME_TOO_LARGE', `${path}: expected fewer than 2^32 rows, got more`);
    }
    return new ArrowTable(arrow, file, footer.schema, batches, starts, rows, describe(file, bytes));
  } catch (error) {
    file.close();
    throw asInvalid(error, `${path}: expected an Arrow file`);
  }
}

const describe = (file: InputFile, footer: Uint8Array): string =>
  `${file.size} ${createHash('sha256').update(footer).digest('hex')}`;

async function readFooter(arrow: Arrow, file: InputFile) {
  const { path, size } = file;
  const head = await file.read(0, Math.min(size, 64));
  refuseLfsPointer(head, path, 'an Arrow file');
  const text = Buffer.from(head).toString('latin1');
  check(size > 0, 'MOME_INVALID_FILE', `${path}: expected an Arrow file, got an empty one`);
  check(
    !text.startsWith('\xff\xff\xff\xff'),
    'MOME_UNSUPPORTED',
    `${path}: expected the Arrow file format, got the stream format; write it with RecordBatchFileWriter`,
  );
  check(text.startsWith(magic), 'MOME_INVALID_FILE', `${path}: expected an Arrow file, got other bytes`);
  const tail = size < 2 * tailBytes ? undefined : Buffer.from(await file.read(size - tailBytes, tailBytes));
  check(
    tail?.toString('latin1', 4) === magic,
    'MOME_INVALID_FILE',
    `${path}: expected a footer at the end, found none: the file is cut off, or its writer was not closed`,
  );
  const length = tail.readInt32LE(0);
  const end = size - tailBytes - length;
  check(
    length > 0 && length <= mostFooterBytes && end >= magic.length,
    'MOME_INVALID_FILE',
    `${path}: expected a footer inside the ${size} bytes of the file, got one of ${length}`,
  );
  const bytes = await file.read(end, length);
  checkFooter(bytes, path);
  return { footer: arrow.Footer.decode(bytes), bytes, end };
}

async function readBatch(arrow: Arrow, file: InputFile, block: FileBlock, where: string, end: number): Promise<Batch> {
  const { offset, metaDataLength, bodyLength } = block;
  const isCount = (value: number) => Number.isSafeInteger(value) && value >= 0;
  check(
    [offset, metaDataLength, bodyLength].every(isCount) && offset + metaDataLength + bodyLength <= end,
    'MOME_INVALID_FILE',
    `${where}: expected it before byte ${end}, got ${metaDataLength} + ${bodyLength} bytes at ${offset}`,
  );
  check(
    metaDataLength >= 8 && metaDataLength <= mostMessageBytes,
    'MOME_INVALID_FILE',
    `${where}: expected metadata of 8 to ${mostMessageBytes} bytes, got ${metaDataLength}`,
  );
  const bytes = Buffer.from(await file.read(offset, metaDataLength));
  // Files of before version 0.15 lack the four bytes that mark a message.
  const message = bytes.subarray(bytes.readUInt32LE(0) === 0xffffffff ? 8 : 4);
  checkBatchMessage(message, where);
  const decoded = arrow.Message.decode(message);
  check(decoded.isRecordBatch(), 'MOME_INVALID_FILE', `${where}: expected a record batch, got another message`);
  const header = decoded.header() as RecordBatch;
  check(header.compression === null, 'MOME_UNSUPPORTED', `${where}: expected no compression, got a compressed batch`);
  check(isCount(header.length), 'MOME_INVALID_FILE', `${where}: expected a number of rows, got ${header.length}`);
  for (const { offset: at, length } of header.buffers)
    check(
      isCount(at) && isCount(length) && at + length <= bodyLength,
      'MOME_INVALID_FILE',
      `${where}: expected buffers inside ${bodyLength} bytes, got ${length} bytes at ${at}`,
    );
  return { rows: header.length, body: offset + metaDataLength, header };
}

class ArrowTable implements RowTable {
  readonly path: string;
  readonly rows: number;
  readonly columns: readonly string[];
  readonly chunkStarts: readonly number[];
  readonly description: string;
  readonly #arrow: Arrow;
  readonly #file: InputFile;
  readonly #schema: Schema;
  readonly #batches: readonly Batch[];
  /** The columns last used, the latest at the end. */
  readonly #kept = new Map<string, Promise<Column>>();
  readonly #keptBytes = new Map<string, number>();

  constructor(
    arrow: Arrow,
    file: InputFile,
    schema: Schema,
    batches: readonly Batch[],
    starts: readonly number[],
    rows: number,
    description: string,
  ) {
    this.#arrow = arrow;
    this.#file = file;
    this.#schema = schema;
    this.#batches = batches;
    this.path = file.path;
    this.rows = rows;
    this.columns = schema.fields.map(({ name }) => name);
    this.chunkStarts = starts;
    this.description = description;
  }

  async read(row: number, columns: readonly string[]): Promise<Row> {
    const batch = lastAtMost(this.chunkStarts, row);
    const where = `${this.path}: row ${row}`;
    const at = row - this.chunkStarts[batch]!;
    const values: Record<string, unknown> = {};
    for (const name of columns)
      values[name] = await this.#value(await this.#column(batch, name), at, `${where}, ${name}`);
    return values;
  }

  async *scan(columns: readonly string[]): AsyncGenerator<readonly Row[], void> {
    const pace = new Pace();
    for (const [batch, { rows }] of this.#batches.entries()) {
      const loaded = await Promise.all(columns.map((name) => this.#column(batch, name)));
      for (let first = 0; first < rows; first += scannedRows) {
        const part: Row[] = [];
        for (let at = first; at < Math.min(rows, first + scannedRows); at++) {
          const values: Record<string, unknown> = {};
          for (const [i, name] of columns.entries()) values[name] = plainValue(this.#arrow, loaded[i]!.data, at);
          part.push(values);
          await pace.rest();
        }
        yield part;
      }
    }
  }

  close(): void {
    this.#kept.clear();
    this.#file.close();
  }

  #column(batch: number, name: string): Promise<Column> {
    const key = `${batch} ${name}`;
    const known = this.#kept.get(key);
    if (known) {
      this.#kept.delete(key);
      this.#kept.set(key, known);
      return known;
    }
    const loading = this.#load(batch, name);
    this.#kept.set(key, loading);
    loading.then(
      ({ bytes }) => this.#keep(key, bytes),
      () => this.#kept.delete(key),
    );
    return loading;
  }

  /** Lets the columns go that were not used for longest. */
  #keep(key: string, bytes: number): void {
    this.#keptBytes.set(key, bytes);
    let sum = 0;
    for (const each of this.#keptBytes.values()) sum += each;
    for (const old of this.#kept.keys()) {
      if (sum <= mostKeptBytes || old === key) return;
      this.#kept.delete(old);
      sum -= this.#keptBytes.get(old) ?? 0;
      this.#keptBytes.delete(old);
    }
  }

  async #load(index: number, name: string): Promise<Column> {
    const { header, body, rows } = this.#batches[index]!;
    const where = `${this.path}: record batch ${index}, ${name}`;
    try {
      const field = this.#schema.fields.findIndex((each) => each.name === name);
      const loader = bufferLoader(this.#arrow, header, this.#schema.fields.slice(0, field + 1), where);
      const type = this.#schema.fields[field]!.type as DataType;
      const wanted = loader.buffersOf(field);
      const isBytes = this.#arrow.DataType.isBinary(type) || this.#arrow.DataType.isLargeBinary(type);
      const values = isBytes ? header.buffers[wanted.pop()!]! : undefined;
      const bytes = wanted.reduce((sum, buffer) => sum + header.buffers[buffer]!.length, 0);
      check(
        bytes <= mostColumnBytes,
        'MOME_TOO_LARGE',
        `${where}: expected at most ${mostColumnBytes} bytes, got ${bytes}`,
      );
      const chunks = new Map<number, Uint8Array>();
      for (const buffer of wanted) {
        const { offset, length } = header.buffers[buffer]!;
        chunks.set(buffer, await this.#file.read(body + offset, length));
      }
      const data = loader.load(field, chunks);
      checkData(this.#arrow, data, where, values?.length);
      check(data.length === rows, 'MOME_INVALID_FILE', `${where}: expected ${rows} values, got ${data.length}`);
      return {
        data,
        bytes: bytes + 1024,
        ...(values && { values: { at: body + values.offset, length: values.length } }),
      };
    } catch (error) {
      throw asInvalid(error, `${where}: expected a column of Arrow data`);
    }
  }

  async #value({ data, values }: Column, at: number, where: string): Promise<unknown> {
    if (!values) return plainValue(this.#arrow, data, at);
    if (!data.getValid(at)) return null;
    const begin = Number(data.valueOffsets[at]);
    const length = Number(data.valueOffsets[at + 1]) - begin;
    check(
      length <= mostValueBytes,
      'MOME_TOO_LARGE',
      `${where}: expected at most ${mostValueBytes} bytes, got ${length}`,
    );
    return this.#file.read(values.at + begin, length);
  }
}

/** A column loader that knows which buffers of a batch belong to a column, and takes those alone. */
function bufferLoader({ VectorLoader }: Arrow, header: RecordBatch, fields: Schema['fields'], where: string) {
  class Loader extends VectorLoader {
    chunks: ReadonlyMap<number, Uint8Array> = new Map();
    taken: number[] = [];

    protected override readData(_type: DataType, region = this.nextBufferRange()): Uint8Array<ArrayBuffer> {
      check(region, 'MOME_INVALID_FILE', `${where}: expected a buffer for each part of a column, got fewer`);
      this.taken.push(this.buffersIndex);
      return (this.chunks.get(this.buffersIndex) as Uint8Array<ArrayBuffer>) ?? new Uint8Array(0);
    }

    protected override readNullBitmap(type: DataType, nullCount: number): Uint8Array<ArrayBuffer> {
      const bytes = this.readData(type);
      return nullCount > 0 ? bytes : new Uint8Array(0);
    }
  }
  const run = (field: number, chunks: ReadonlyMap<number, Uint8Array>) => {
    const loader = new Loader(
      new Uint8Array(0),
      header.nodes,
      header.buffers,
      new Map(),
      undefined,
      header.variadicBufferCounts,
    );
    loader.chunks = chunks;
    for (const each of fields.slice(0, field)) loader.visit(each);
    loader.taken = [];
    return { data: loader.visit(fields[field]!), taken: loader.taken };
  };
  return {
    /** Places of the buffers of a column in `header.buffers`. */
    buffersOf: (field: number) => run(field, new Map()).taken,
    load: (field: number, chunks: ReadonlyMap<number, Uint8Array>): Data => run(field, chunks).data,
  };
}

function asInvalid(error: unknown, message: string): MomeError {
  if (error instanceof MomeError) return error;
  return new MomeError('MOME_INVALID_FILE', `${message}, got a damaged one`, { cause: error });
}
