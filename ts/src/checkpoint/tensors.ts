/**
 * Tensors that lie in files: where, of which type, and how they are read.
 */
import { check, clip, MomeError } from '../runtime/errors.ts';
import type { InputFile } from '../runtime/input-file.ts';
import { inPieces } from '../runtime/pace.ts';
import { requireChecksum } from './checksum.ts';
import { requireScales, requireSymmetric } from './quantise.ts';

/** Bytes of one element, by safetensors' names. */
export const elementBytes = { F64: 8, F32: 4, F16: 2, BF16: 2, I64: 8, I32: 4, I16: 2, I8: 1, U8: 1, BOOL: 1 } as const;
export type TensorType = keyof typeof elementBytes;

/** A tensor inside a file, its bytes already checked to lie within it. */
export interface TensorEntry {
  readonly name: string;
  readonly dtype: TensorType;
  readonly shape: readonly number[];
  readonly path: string;
  /** The open file: values come from the same file as the header, also where another has its name by now. */
  readonly file: InputFile;
  /** Bytes from the start of the file. */
  readonly offset: number;
  /** Elements between neighbours of each dimension, when the tensor is not dense and row-major. */
  readonly strides?: readonly number[];
  /** Of just these bytes, by the name of the archive's entry; left out for large ones. */
  readonly checksum?: { readonly name: string; readonly crc32: number };
  /** The float32 scales of the rows of an 8-bit matrix. */
  readonly scale?: TensorEntry;
}

/** Largest number of elements of one tensor: 2^31. */
const maxElements = 2 ** 31;

/**
 * Product of `shape`.
 *
 * @throws MomeError `MOME_INVALID_FILE` for sizes that are no whole numbers >= 0, `MOME_TOO_LARGE`
 */
export function elementCount(shape: readonly unknown[], where: string): number {
  let count = 1;
  for (const size of shape) {
    check(
      typeof size === 'number' && Number.isSafeInteger(size) && size >= 0,
      'MOME_INVALID_FILE',
      `${where}: expected sizes >= 0, got ${String(size)}`,
    );
    count *= size;
    check(
      count <= maxElements,
      'MOME_TOO_LARGE',
      `${where}: expected at most 2^31 elements, got shape [${shape.join(', ')}]`,
    );
  }
  return count;
}

/**
 * Values of a tensor as float32, dense and row-major; 8-bit rows times their scales.
 *
 * @throws MomeError `MOME_INVALID_FILE`, `MOME_NOT_FOUND`, `MOME_IO`, `MOME_OUT_OF_MEMORY`
 */
export async function readTensor(entry: TensorEntry): Promise<Float32Array> {
  try {
    return await readFloats(entry);
  } catch (error) {
    if (error instanceof MomeError) throw error;
    // What an array that cannot be had throws.
    const code = error instanceof RangeError ? 'MOME_OUT_OF_MEMORY' : 'MOME_IO';
    throw new MomeError(code, `${entry.path}: expected to read ${entry.name}`, { cause: error });
  }
}

async function readFloats(entry: TensorEntry): Promise<Float32Array> {
  const bytes = await readElements(entry);
  const values = await decodeFloats(bytes, entry.dtype, bytes.byteLength / elementBytes[entry.dtype]);
  if (!entry.scale) return values;
  const scales = await readTensor(entry.scale);
  requireSymmetric(bytes, 0, `${entry.path}: ${clip(entry.name)}`);
  requireScales(scales, 0, `${entry.path}: ${clip(entry.scale.name)}`);
  const columns = values.length / Math.max(1, scales.length);
  await inPieces(values.length, (begin, end) => {
    for (let i = begin; i < end; i++) values[i]! *= scales[Math.floor(i / columns)]!;
  });
  return values;
}

const integerTypes: ReadonlySet<TensorType> = new Set(['I64', 'I32', 'I16', 'I8', 'U8', 'BOOL'] as const);

/** Values of an integer tensor. @throws MomeError `MOME_INVALID_FILE` for values outside 32 bits or a float tensor */
export async function readIntegers(entry: TensorEntry): Promise<Int32Array> {
  const bytes = await readElements(entry);
  const { dtype } = entry;
  check(
    integerTypes.has(dtype),
    'MOME_INVALID_FILE',
    `${entry.path}: expected integers in ${clip(entry.name)}, got ${dtype}`,
  );
  const count = bytes.byteLength / elementBytes[dtype];
  const valueAt = readerOf(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), dtype as 'I64');
  const values = new Int32Array(count);
  await inPieces(count, (begin, end) => {
    for (let i = begin; i < end; i++) {
      const value = valueAt(i);
      check(
        Math.abs(value) < 2 ** 31,
        'MOME_INVALID_FILE',
        `${entry.path}: expected 32-bit integers in ${clip(entry.name)}, got ${value}`,
      );
      values[i] = value;
    }
  });
  return values;
}

/** Bytes of a tensor, dense and row-major. */
export async function readElements(entry: TensorEntry): Promise<Uint8Array> {
  const size = elementBytes[entry.dtype];
  const count = elementCount(entry.shape, entry.path);
  if (!entry.strides) {
    const bytes = await entry.file.read(entry.offset, count * size);
    const { checksum } = entry;
    if (checksum) requireChecksum(bytes, checksum.crc32, `${entry.path}: ${clip(checksum.name)}`);
    return bytes;
  }
  const last = entry.shape.reduce((sum, dim, i) => sum + (dim - 1) * entry.strides![i]!, 0);
  const source = await entry.file.read(entry.offset, count === 0 ? 0 : (last + 1) * size);
  return gather(source, entry.shape, entry.strides, size);
}

/** Dense row-major bytes of a strided tensor. */
async function gather(
  source: Uint8Array,
  shape: readonly number[],
  strides: readonly number[],
  size: number,
): Promise<Uint8Array> {
  const count = shape.reduce((product, dim) => product * dim, 1);
  const out = new Uint8Array(count * size);
  const index = shape.map(() => 0);
  await inPieces(count, (begin, end) => {
    for (let i = begin; i < end; i++) {
      const from = index.reduce((sum, at, dim) => sum + at * strides[dim]!, 0);
      out.set(source.subarray(from * size, (from + 1) * size), i * size);
      for (let dim = shape.length - 1; dim >= 0 && ++index[dim]! === shape[dim]; dim--) index[dim] = 0;
    }
  });
  return out;
}

async function decodeFloats(bytes: Uint8Array, dtype: TensorType, count: number): Promise<Float32Array> {
  if (dtype === 'F32') return new Float32Array(bytes.buffer, bytes.byteOffset, count);
  const out = new Float32Array(count);
  const bits = new Uint32Array(out.buffer);
  const valueAt = readerOf(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), dtype);
  await inPieces(count, (begin, end) => {
    if (dtype === 'BF16') for (let i = begin; i < end; i++) bits[i] = valueAt(i) << 16;
    else for (let i = begin; i < end; i++) out[i] = valueAt(i);
  });
  return out;
}

/** Element i of a tensor as a number; of bfloat16 its bits. */
function readerOf(view: DataView, dtype: Exclude<TensorType, 'F32'>): (i: number) => number {
  switch (dtype) {
    case 'F64':
      return (i) => view.getFloat64(8 * i, true);
    case 'F16':
      return (i) => halfToFloat(view.getUint16(2 * i, true));
    case 'BF16':
      return (i) => view.getUint16(2 * i, true);
    case 'I64':
      return (i) => Number(view.getBigInt64(8 * i, true));
    case 'I32':
      return (i) => view.getInt32(4 * i, true);
    case 'I16':
      return (i) => view.getInt16(2 * i, true);
    case 'I8':
      return (i) => view.getInt8(i);
    case 'U8':
    case 'BOOL':
      return (i) => view.getUint8(i);
  }
}

function halfToFloat(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** Float32 numbers as bfloat16, rounded to nearest even; NaN stays NaN. */
export async function toBfloat16(values: Float32Array): Promise<Uint16Array> {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(values.length);
  await inPieces(bits.length, (begin, end) => {
    for (let i = begin; i < end; i++) {
      const value = bits[i]!;
      const isNan = (value & 0x7fffffff) > 0x7f800000;
      out[i] = isNan ? (value >>> 16) | 0x40 : (value + 0x7fff + ((value >>> 16) & 1)) >>> 16;
    }
  });
  return out;
}
