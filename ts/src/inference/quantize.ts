/**
 * Embeddings in fewer bits, for databases and indexes that keep many: 8-bit integers take a quarter of the memory, single bits a
 * thirty-second.
 */
import { types } from 'node:util';
import { checkKind, describe, isObject, oneOf } from '../runtime/arguments.ts';
import { check } from '../runtime/errors.ts';
import type { EmbeddingMatrix } from './embeddings.ts';

/** What embeddings can be brought to. */
export type Precision = 'int8' | 'binary';

/** Rows of 8-bit integers: row i stands for `scales[i]` times its integers. Cosines need no scales. */
export interface Int8Embeddings {
  readonly precision: 'int8';
  /** [count, width] integers from -127 to 127. */
  readonly embeddings: Int8Array;
  /** [count] numbers, each that of its row. */
  readonly scales: Float32Array;
  readonly count: number;
  readonly width: number;
  /** [count] views of [width] integers, which share the memory of `embeddings`. */
  rows(): Int8Array[];
  /** [count] lists of [width] integers. */
  toArrays(): number[][];
}

/** Rows of bits: a bit is 1 where the number is above 0. */
export interface BinaryEmbeddings {
  readonly precision: 'binary';
  /** [count, width] bytes of 8 bits, the first dimension in the highest bit; the last byte of a row is filled up with zeros. */
  readonly embeddings: Uint8Array;
  readonly count: number;
  /** Bytes of a row. */
  readonly width: number;
  /** Bits of a row that stand for a dimension. */
  readonly dimensions: number;
  /** [count] views of [width] bytes, which share the memory of `embeddings`. */
  rows(): Uint8Array[];
  /** [count] lists of [width] bytes. */
  toArrays(): number[][];
}

const largestInteger = 127;

/**
 * Embeddings in fewer bits. What it costs in recall is measured in the documentation of the API.
 *
 * @param embeddings what `embedTexts` or `embedImages` gave, or other rows
 * @throws MomeError `MOME_INVALID_ARGUMENT`, `MOME_INVALID_SHAPE`, `MOME_NON_FINITE` with the row that it is in
 * @example
 * const small = quantizeEmbeddings(await vlmo.embedTexts(['a cat']), 'binary');
 * console.log(small.rows()[0]); // Uint8Array of an eighth of the dimensions
 */
export function quantizeEmbeddings(embeddings: EmbeddingMatrix, precision: 'int8'): Int8Embeddings;
export function quantizeEmbeddings(embeddings: EmbeddingMatrix, precision: 'binary'): BinaryEmbeddings;
export function quantizeEmbeddings(
  embeddings: EmbeddingMatrix,
  precision: Precision,
): Int8Embeddings | BinaryEmbeddings;
export function quantizeEmbeddings(given: EmbeddingMatrix, precision: Precision): Int8Embeddings | BinaryEmbeddings {
  const where = 'quantizeEmbeddings';
  checkKind(where, 'precision', precision, oneOf(['int8', 'binary']));
  const { embeddings, count, width } = takeMatrix(where, given);
  return precision === 'int8' ? toIntegers(embeddings, count, width) : toBits(embeddings, count, width);
}

function toIntegers(values: Float32Array, count: number, width: number): Int8Embeddings {
  const embeddings = new Int8Array(count * width);
  const scales = new Float32Array(count);
  for (let row = 0; row < count; row++)
    scales[row] = writeIntegers(values.subarray(row * width, (row + 1) * width), embeddings, row * width);
  return { precision: 'int8', embeddings, scales, count, width, ...rowsOf(embeddings, count, width) };
}

/**
 * Writes `row`, [width], into `integers` at `at`: the largest of its numbers becomes 127 or -127.
 *
 * @returns the scale; 0 for a row of zeros
 */
export function writeIntegers(row: Float32Array, integers: Int8Array, at: number): number {
  let largest = 0;
  for (let i = 0; i < row.length; i++) largest = Math.max(largest, Math.abs(row[i]!));
  if (largest === 0) {
    integers.fill(0, at, at + row.length);
    return 0;
  }
  const factor = largestInteger / largest;
  for (let i = 0; i < row.length; i++) integers[at + i] = Math.round(row[i]! * factor);
  return largest / largestInteger;
}

function toBits(values: Float32Array, count: number, dimensions: number): BinaryEmbeddings {
  const width = Math.ceil(dimensions / 8);
  const embeddings = new Uint8Array(count * width);
  for (let row = 0; row < count; row++) {
    for (let i = 0; i < dimensions; i++)
      if (values[row * dimensions + i]! > 0) embeddings[row * width + (i >> 3)]! |= 0x80 >> (i & 7);
  }
  return { precision: 'binary', embeddings, count, width, dimensions, ...rowsOf(embeddings, count, width) };
}

function rowsOf<T extends Int8Array | Uint8Array>(values: T, count: number, width: number) {
  const rows = (): T[] => Array.from({ length: count }, (_, i) => values.subarray(i * width, (i + 1) * width) as T);
  return { rows, toArrays: () => rows().map((row) => Array.from(row)) };
}

function takeMatrix(where: string, given: unknown): EmbeddingMatrix {
  const { embeddings, count, width } = isObject(given) ? (given as Partial<EmbeddingMatrix>) : {};
  check(
    types.isFloat32Array(embeddings) && Number.isSafeInteger(count) && Number.isSafeInteger(width),
    'MOME_INVALID_ARGUMENT',
    `${where}: expected { embeddings, count, width } with a Float32Array, got ${describe(given)}`,
  );
  check(
    width! > 0 && count! >= 0 && embeddings.length === count! * width!,
    'MOME_INVALID_SHAPE',
    `${where}: expected ${count} x ${width} numbers, got ${embeddings.length}`,
  );
  const wrong = embeddings.findIndex((value) => !Number.isFinite(value));
  check(
    wrong < 0,
    'MOME_NON_FINITE',
    `${where}: expected finite numbers, got ${embeddings[wrong]} in row ${Math.floor(wrong / width!)}`,
  );
  return { embeddings, count: count!, width: width! };
}

/** Numbers that a cosine is computed of: an embedding, its integers, or a list of numbers. */
export type VectorLike = Float32Array | Float64Array | Int8Array | readonly number[];

/**
 * Cosine of the angle between two vectors of the same kind or of different ones; 0 where one of them is all zeros.
 *
 * @throws MomeError `MOME_INVALID_ARGUMENT`, `MOME_INVALID_SHAPE` for vectors of different lengths, `MOME_NON_FINITE`
 */
export function cosineSimilarity(a: VectorLike, b: VectorLike): number {
  requireVectors('cosineSimilarity', a, b, isVector, 'vectors of numbers');
  let product = 0;
  let squaresA = 0;
  let squaresB = 0;
  for (let i = 0; i < a.length; i++) {
    product += a[i]! * b[i]!;
    squaresA += a[i]! ** 2;
    squaresB += b[i]! ** 2;
  }
  check(
    Number.isFinite(product) && Number.isFinite(squaresA) && Number.isFinite(squaresB),
    'MOME_NON_FINITE',
    'cosineSimilarity: expected finite numbers, got others',
  );
  return squaresA === 0 || squaresB === 0 ? 0 : product / Math.sqrt(squaresA * squaresB);
}

/**
 * Bits in which two binary rows differ, from 0 to the number of bits: the fewer, the more alike. Of `d` dimensions the cosine is roughly
 * `cos(π * distance / d)`.
 *
 * @throws MomeError `MOME_INVALID_ARGUMENT`, `MOME_INVALID_SHAPE` for rows of different lengths
 */
export function hammingDistance(a: Uint8Array, b: Uint8Array): number {
  requireVectors('hammingDistance', a, b, types.isUint8Array, 'rows of bytes (Uint8Array)');
  let distance = 0;
  for (let i = 0; i < a.length; i++) distance += onesOf[a[i]! ^ b[i]!]!;
  return distance;
}

/** Ones among the bits of each byte. */
const onesOf = Uint8Array.from({ length: 256 }, (_, byte) => {
  let ones = 0;
  for (let rest = byte; rest > 0; rest >>= 1) ones += rest & 1;
  return ones;
});

const isVector = (value: unknown): boolean =>
  Array.isArray(value) || types.isFloat32Array(value) || types.isFloat64Array(value) || types.isInt8Array(value);

function requireVectors<T extends { readonly length: number }>(
  where: string,
  a: T,
  b: T,
  accepts: (value: unknown) => boolean,
  expected: string,
): void {
  const wrong = accepts(a) ? b : a;
  check(accepts(wrong), 'MOME_INVALID_ARGUMENT', `${where}: expected two ${expected}, got ${describe(wrong)}`);
  check(
    a.length === b.length,
    'MOME_INVALID_SHAPE',
    `${where}: expected two ${expected} of one length, got ${a.length} and ${b.length}`,
  );
}
