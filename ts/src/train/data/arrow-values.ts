/** Values of the columns of Arrow files, checked before they are read. */
import type { Data, DataType } from 'apache-arrow';
import { MomeError } from '../../runtime/errors.ts';

/** The library, loaded when the first file is opened. */
export type Arrow = Awaited<ReturnType<typeof loadArrow>>;

export async function loadArrow() {
  const [arrow, file, message, loader] = await Promise.all([
    import('apache-arrow'),
    import('apache-arrow/ipc/metadata/file'),
    import('apache-arrow/ipc/metadata/message'),
    import('apache-arrow/visitor/vectorloader'),
  ]);
  return { ...arrow, Footer: file.Footer, Message: message.Message, VectorLoader: loader.VectorLoader };
}

/** Types whose values are read by their places in a buffer of fixed width. */
const fixedBits = (arrow: Arrow, type: DataType): number => {
  if (arrow.DataType.isBool(type)) return 1;
  if (arrow.DataType.isInt(type)) return type.bitWidth;
  if (arrow.DataType.isFloat(type)) return 16 << type.precision;
  return 0;
};

/**
 * Follows all lengths and offsets of a column, so that no value reaches beyond its buffers.
 *
 * @param valueBytes bytes of values that were not read
 * @throws MomeError `MOME_INVALID_FILE`, `MOME_UNSUPPORTED` for types that training data have no use for
 */
export function checkData(arrow: Arrow, data: Data, where: string, valueBytes?: number): void {
  const { DataType: is } = arrow;
  const { type, length } = data;
  const lying = (what: string) => new MomeError('MOME_INVALID_FILE', `${where}: expected ${what}`);
  if (!Number.isSafeInteger(length) || length < 0) throw lying(`a number of values, got ${length}`);
  if (data.nullCount > 0 && data.nullBitmap && data.nullBitmap.length * 8 < length && !is.isNull(type))
    throw lying(`a bit for each of ${length} values, got ${data.nullBitmap.length * 8}`);
  if (is.isNull(type)) return;
  const bits = fixedBits(arrow, type);
  if (bits > 0) {
    if (data.values.byteLength * 8 < length * bits)
      throw lying(`${length} values of ${bits} bits, got ${data.values.byteLength} bytes`);
    return;
  }
  const isBytes = is.isUtf8(type) || is.isLargeUtf8(type) || is.isBinary(type) || is.isLargeBinary(type);
  const isList = is.isList(type) || is.isLargeList(type);
  if (!isBytes && !isList && !is.isStruct(type))
    throw new MomeError('MOME_UNSUPPORTED', `${where}: expected bytes, text, numbers, lists or structs, got ${type}`);
  if (is.isStruct(type)) {
    for (const child of data.children) {
      checkData(arrow, child, where);
      if (child.length < length) throw lying(`${length} values of a part, got ${child.length}`);
    }
    return;
  }
  const [child] = data.children;
  if (child) checkData(arrow, child, where);
  const most = child ? child.length : (valueBytes ?? data.values.byteLength);
  if (length > 0 && data.valueOffsets.length < length + 1)
    throw lying(`${length + 1} offsets, got ${data.valueOffsets.length}`);
  let last = 0;
  for (let i = 0; i <= length && length > 0; i++) {
    const offset = Number(data.valueOffsets[i]);
    if (!(offset >= last && offset <= most))
      throw lying(`ascending offsets up to ${most}, got ${offset} behind ${last}`);
    last = offset;
  }
}

const utf8 = new TextDecoder();

/** A value without the library's classes: lists as arrays, 64-bit integers as numbers. */
export function plainValue(arrow: Arrow, data: Data, at: number): unknown {
  const { DataType: is } = arrow;
  const { type } = data;
  if (is.isNull(type) || !data.getValid(at)) return null;
  if (is.isList(type) || is.isLargeList(type)) {
    const [begin, end] = [Number(data.valueOffsets[at]), Number(data.valueOffsets[at + 1])];
    return Array.from({ length: end - begin }, (_, i) => plainValue(arrow, data.children[0]!, begin + i));
  }
  if (is.isStruct(type))
    return Object.fromEntries(type.children.map(({ name }, i) => [name, plainValue(arrow, data.children[i]!, at)]));
  if (is.isBool(type)) return (data.values[at >> 3] & (1 << (at & 7))) !== 0;
  if (is.isInt(type)) return Number(data.values[at]);
  if (!is.isFloat(type)) {
    const bytes = data.values.subarray(Number(data.valueOffsets[at]), Number(data.valueOffsets[at + 1]));
    return is.isUtf8(type) || is.isLargeUtf8(type) ? utf8.decode(bytes) : bytes;
  }
  return new arrow.Vector([data]).get(at);
}
