/**
 * Looks through the metadata of an Arrow file before the library decodes it: a lying length or a loop of references would keep the decoder
 * busy for ever. Arrow's metadata are FlatBuffers: tables whose fields are found through a list of offsets.
 */
import { check } from '../../runtime/errors.ts';

/** Fields of a schema, those inside other ones included, and how deep they may lie. */
const mostFields = 4096;
const deepest = 16;
/** Fields of tables, by their place in Arrow's definition. */
const footerFields = { schema: 1, dictionaries: 2, recordBatches: 3 };
const schemaFields = { fields: 1, metadata: 2 };
const fieldFields = { children: 5, metadata: 6 };
const messageFields = { header: 2, metadata: 4 };
const batchFields = { nodes: 1, buffers: 2, variadicCounts: 4 };
/** Bytes of an element of a list. */
const elementBytes = { offset: 4, block: 24, node: 16, buffer: 16, count: 8 };

/** @throws MomeError `MOME_INVALID_FILE` for a footer that no decoder should see */
export function checkFooter(bytes: Uint8Array, where: string): void {
  const reader = new TableReader(bytes, where);
  const footer = reader.root();
  const schema = reader.reference(footer, footerFields.schema);
  check(schema !== undefined, 'MOME_INVALID_FILE', `${where}: expected a schema in the footer, found none`);
  reader.list(footer, footerFields.dictionaries, elementBytes.block);
  reader.list(footer, footerFields.recordBatches, elementBytes.block);
  reader.list(schema, schemaFields.metadata, elementBytes.offset);
  checkFields(reader, schema, schemaFields.fields, { fields: 0 }, 0);
}

function checkFields(reader: TableReader, table: number, field: number, seen: { fields: number }, depth: number): void {
  const { start, length } = reader.list(table, field, elementBytes.offset);
  check(
    depth <= deepest,
    'MOME_INVALID_FILE',
    `${reader.where}: expected fields at most ${deepest} deep, got deeper ones`,
  );
  for (let i = 0; i < length; i++) {
    check(++seen.fields <= mostFields, 'MOME_INVALID_FILE', `${reader.where}: expected at most ${mostFields} fields`);
    const child = reader.follow(start + i * elementBytes.offset);
    reader.list(child, fieldFields.metadata, elementBytes.offset);
    checkFields(reader, child, fieldFields.children, seen, depth + 1);
  }
}

/** @throws MomeError `MOME_INVALID_FILE` for a message of a record batch that no decoder should see */
export function checkBatchMessage(bytes: Uint8Array, where: string): void {
  const reader = new TableReader(bytes, where);
  const message = reader.root();
  const batch = reader.reference(message, messageFields.header);
  check(batch !== undefined, 'MOME_INVALID_FILE', `${where}: expected a record batch, got an empty message`);
  reader.list(message, messageFields.metadata, elementBytes.offset);
  reader.list(batch, batchFields.nodes, elementBytes.node);
  reader.list(batch, batchFields.buffers, elementBytes.buffer);
  reader.list(batch, batchFields.variadicCounts, elementBytes.count);
}

class TableReader {
  readonly where: string;
  readonly #view: DataView;

  constructor(bytes: Uint8Array, where: string) {
    this.where = where;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  root(): number {
    return this.follow(0);
  }

  /** The place that the reference at `at` leads to; references lead forward. */
  follow(at: number): number {
    this.#require(at, 4);
    const target = at + this.#view.getUint32(at, true);
    this.#require(target, 4);
    return target;
  }

  /** The place of the table in a field of `table`; undefined where it is left out. */
  reference(table: number, field: number): number | undefined {
    const at = this.#field(table, field);
    return at === undefined ? undefined : this.follow(at);
  }

  /** The elements of the list in a field of `table`, all of them inside the bytes. */
  list(table: number, field: number, bytesEach: number): { readonly start: number; readonly length: number } {
    const at = this.#field(table, field);
    if (at === undefined) return { start: 0, length: 0 };
    const list = this.follow(at);
    const length = this.#view.getUint32(list, true);
    this.#require(list + 4, length * bytesEach);
    return { start: list + 4, length };
  }

  #field(table: number, field: number): number | undefined {
    this.#require(table, 4);
    const offsets = table - this.#view.getInt32(table, true);
    this.#require(offsets, 4);
    const entry = 4 + 2 * field;
    if (entry + 2 > this.#view.getUint16(offsets, true)) return undefined;
    this.#require(offsets + entry, 2);
    const place = this.#view.getUint16(offsets + entry, true);
    if (place === 0) return undefined;
    this.#require(table + place, 4);
    return table + place;
  }

  #require(at: number, bytes: number): void {
    check(
      at >= 0 && at + bytes <= this.#view.byteLength,
      'MOME_INVALID_FILE',
      `${this.where}: expected metadata of ${this.#view.byteLength} bytes, got a reference to byte ${at + bytes}`,
    );
  }
}
