/**
 * The file of an index that stays on disk (version 4): safetensors whose tensors have rows of equal size, so that any picture is found by
 * its number and opening reads nothing but the header.
 *
 * | tensor | holds |
 * | --- | --- |
 * | `codes.N` | I8 [rows, stride], rows as 8-bit codes filled up to groups of 64 |
 * | `scales` | F32 [rows], what codes are multiplied with |
 * | `embeddings.N` | F32 [rows, width], the exact rows; may be left out |
 * | `stamps` | F64 [rows, 3]: size, and times of the last change of contents and of anything |
 * | `hashes` | U8 [rows, 16], zeros where there is none |
 * | `offsets` | I64 [rows + 1], where each path begins and ends in `names` |
 * | `names` | U8, paths in UTF-8, relative to the root |
 *
 * Tensors with numbers hold 2^28 values or fewer and lie one behind the other.
 */
import type { TensorEntry } from '../checkpoint/index.ts';
import { check } from '../runtime/errors.ts';
import { codeStride } from './codes.ts';

export const diskVersion = '4';
/** Values of one tensor of codes or embeddings. */
const valuesPerTensor = 2 ** 28;
export const hashBytes = 16;
export const stampBytes = 24;
/** Bytes of all paths together. */
const maxNameBytes = 2 ** 31;
/** A place in `offsets`. */
export const offsetBytes = 8;

/** A part of the file that grows with the pictures: where it begins, and bytes of each picture. */
export interface Section {
  readonly at: number;
  readonly rowBytes: number;
}

/** Where everything lies. */
export interface DiskLayout {
  readonly count: number;
  readonly codes: Section;
  readonly scales: Section;
  /** Missing where there are no exact rows. */
  readonly embeddings?: Section;
  readonly stamps: Section;
  readonly hashes: Section;
  readonly offsets: Section;
  readonly names: { readonly at: number; readonly bytes: number };
}

/** A header whose length does not depend on the length of the names. */
export interface DiskHeader {
  readonly bytes: Uint8Array;
  readonly layout: DiskLayout;
}

interface HeaderParts {
  readonly count: number;
  readonly width: number;
  readonly isExact: boolean;
  readonly nameBytes: number;
  readonly metadata: Readonly<Record<string, string>>;
}

/** @throws MomeError `MOME_TOO_LARGE` */
export function diskHeader({ count, width, isExact, nameBytes, metadata }: HeaderParts): DiskHeader {
  check(nameBytes < maxNameBytes, 'MOME_TOO_LARGE', `index: expected paths of less than 2^31 bytes, got ${nameBytes}`);
  const stride = codeStride(width);
  const header: Record<string, unknown> = { __metadata__: metadata };
  let end = 0;
  const add = (name: string, dtype: string, shape: readonly number[], bytes: number): number => {
    header[name] = { dtype, shape, data_offsets: [end, end + bytes] };
    end += bytes;
    return end - bytes;
  };
  const addRows = (name: string, dtype: string, columns: number, bytes: number): Section => {
    const rowsPerTensor = Math.floor(valuesPerTensor / columns);
    const at = end;
    for (let part = 0; part * rowsPerTensor < count || part === 0; part++) {
      const rows = Math.min(count - part * rowsPerTensor, rowsPerTensor);
      add(`${name}.${part}`, dtype, [rows, columns], rows * columns * bytes);
    }
    return { at, rowBytes: columns * bytes };
  };
  // Those of larger elements first, so that every tensor begins at a multiple of its own.
  const stamps = { at: add('stamps', 'F64', [count, 3], stampBytes * count), rowBytes: stampBytes };
  const offsets = { at: add('offsets', 'I64', [count + 1], offsetBytes * (count + 1)), rowBytes: offsetBytes };
  const embeddings = isExact ? addRows('embeddings', 'F32', width, 4) : undefined;
  const scales = { at: add('scales', 'F32', [count], 4 * count), rowBytes: 4 };
  const codes = addRows('codes', 'I8', stride, 1);
  const hashes = { at: add('hashes', 'U8', [count, hashBytes], hashBytes * count), rowBytes: hashBytes };
  const names = { at: end, bytes: nameBytes };
  const jsonWith = (bytes: number) => {
    const entry = { dtype: 'U8', shape: [bytes], data_offsets: [end, end + bytes] };
    return Buffer.from(JSON.stringify({ ...header, names: entry }));
  };
  const json = jsonWith(nameBytes);
  // Room for any length of the names, which is known last.
  const length = Math.ceil(jsonWith(maxNameBytes).length / 8) * 8;
  const bytes = Buffer.alloc(8 + length, ' ');
  bytes.writeBigUInt64LE(BigInt(length));
  json.copy(bytes, 8);
  const moved = <T extends { readonly at: number }>(section: T): T => ({ ...section, at: section.at + bytes.length });
  return {
    bytes,
    layout: {
      count,
      codes: moved(codes),
      scales: moved(scales),
      ...(embeddings && { embeddings: moved(embeddings) }),
      stamps: moved(stamps),
      hashes: moved(hashes),
      offsets: moved(offsets),
      names: moved(names),
    },
  };
}

/**
 * Where everything lies in a file whose header was read. Nothing else of the file is.
 *
 * @throws MomeError `MOME_INVALID_FILE` for tensors that are missing, of another type or shape, or apart
 */
export function diskLayout(entries: ReadonlyMap<string, TensorEntry>, width: number, path: string): DiskLayout {
  const one = (name: string, dtype: string, ...columns: readonly number[]): TensorEntry => {
    const entry = entries.get(name);
    const fits =
      entry?.dtype === dtype &&
      entry.shape.length === 1 + columns.length &&
      columns.every((size, i) => entry.shape[i + 1] === size);
    check(
      fits,
      'MOME_INVALID_FILE',
      `${path}: expected ${name} to be ${dtype} [${['rows', ...columns].join(', ')}], got ${entry ? `${entry.dtype} [${entry.shape.join(', ')}]` : 'nothing'}`,
    );
    return entry;
  };
  const several = (
    name: string,
    dtype: string,
    columns: number,
    rowBytes: number,
  ): Section & { readonly count: number } => {
    const first = one(`${name}.0`, dtype, columns);
    let count = first.shape[0]!;
    for (let part = 1; entries.has(`${name}.${part}`); part++) {
      const next = one(`${name}.${part}`, dtype, columns);
      check(
        next.offset === first.offset + count * rowBytes,
        'MOME_INVALID_FILE',
        `${path}: expected ${name}.${part} behind ${name}.${part - 1}`,
      );
      count += next.shape[0]!;
    }
    return { at: first.offset, rowBytes, count };
  };
  const codes = several('codes', 'I8', codeStride(width), codeStride(width));
  const embeddings = entries.has('embeddings.0') ? several('embeddings', 'F32', width, 4 * width) : undefined;
  const { count } = codes;
  const section = (
    name: string,
    dtype: string,
    bytes: number,
    rows: number,
    ...columns: readonly number[]
  ): Section => {
    const { shape, offset } = one(name, dtype, ...columns);
    check(shape[0] === rows, 'MOME_INVALID_FILE', `${path}: expected ${rows} rows of ${name}, got ${shape[0]}`);
    return { at: offset, rowBytes: bytes };
  };
  check(
    embeddings === undefined || embeddings.count === count,
    'MOME_INVALID_FILE',
    `${path}: expected ${count} embeddings, got ${embeddings?.count}`,
  );
  const names = one('names', 'U8');
  return {
    count,
    codes,
    scales: section('scales', 'F32', 4, count),
    ...(embeddings && { embeddings }),
    stamps: section('stamps', 'F64', stampBytes, count, 3),
    hashes: section('hashes', 'U8', hashBytes, count, hashBytes),
    offsets: section('offsets', 'I64', offsetBytes, count + 1),
    names: { at: names.offset, bytes: names.shape[0]! },
  };
}
