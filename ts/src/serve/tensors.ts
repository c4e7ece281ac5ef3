/** Tensors of the Open Inference Protocol: as lists of elements, and as packed bytes. */
import { HttpError } from './errors.ts';

/** A tensor of bytes, one element each; in JSON a text. */
export interface BytesTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly elements: readonly (string | Buffer)[];
}

/** A tensor as a request describes it. */
export interface TensorHead {
  readonly name: string;
  readonly shape: readonly number[];
  readonly datatype: string;
  readonly parameters?: Readonly<Record<string, unknown>> | undefined;
  readonly data?: readonly unknown[] | undefined;
}

/** Most lists inside each other. */
const mostNested = 8;

/**
 * Reads the tensors of a body. Those with `binary_data_size` follow the JSON in their order.
 *
 * @param binary the bytes behind the JSON
 * @param most elements of one tensor
 * @throws HttpError 400 for another type than BYTES, sizes that do not fit, or bytes that are missing or too many
 */
export function tensorsOf(heads: readonly TensorHead[], binary: Buffer, most: number): BytesTensor[] {
  let at = 0;
  const tensors = heads.map((head) => {
    const size = head.parameters?.binary_data_size;
    if (size === undefined) return tensorOf(head, undefined, most);
    if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0 || at + size > binary.length)
      throw wrong(`${head.name}: expected binary_data_size within the body, got ${JSON.stringify(size).slice(0, 40)}`);
    at += size;
    return tensorOf(head, binary.subarray(at - size, at), most);
  });
  if (at !== binary.length) throw wrong(`body: expected ${at} bytes behind the JSON, got ${binary.length}`);
  return tensors;
}

/**
 * Reads one tensor, from its packed bytes or, where there are none, from its list of elements.
 *
 * @param packed each element with its length in front, as 4 bytes, little endian
 * @param most elements of it
 * @throws HttpError 400 for another type than BYTES, or elements that the shape does not fit
 */
export function tensorOf(head: TensorHead, packed: Buffer | undefined, most: number): BytesTensor {
  const { name, shape, datatype, data } = head;
  if (datatype !== 'BYTES')
    throw wrong(`${name}: expected datatype BYTES, got ${JSON.stringify(datatype.slice(0, 40))}`);
  const count = shape.reduce((product, size) => product * size, 1);
  if (!Number.isSafeInteger(count) || count > most)
    throw wrong(`${name}: expected at most ${most} elements, got ${count}`);
  return { name, shape, elements: packed ? unpacked(name, packed, count) : flat(name, data ?? [], count) };
}

/** Elements of a list, flat or in lists as the shape says: texts of JSON, or bytes. */
function flat(name: string, data: readonly unknown[], count: number): (string | Buffer)[] {
  const elements: (string | Buffer)[] = [];
  const take = (values: readonly unknown[], depth: number) => {
    for (const value of values) {
      if (Array.isArray(value) && depth < mostNested) take(value, depth + 1);
      else if ((typeof value === 'string' || Buffer.isBuffer(value)) && elements.length < count) elements.push(value);
      else throw wrong(`${name}: expected ${count} texts as data, got something else or more`);
    }
  };
  take(data, 1);
  if (elements.length !== count) throw wrong(`${name}: expected ${count} texts as data, got ${elements.length}`);
  return elements;
}

/** Elements of packed bytes. */
function unpacked(name: string, bytes: Buffer, count: number): Buffer[] {
  const elements: Buffer[] = [];
  let at = 0;
  while (at + 4 <= bytes.length && elements.length < count) {
    const end = at + 4 + bytes.readUInt32LE(at);
    if (end > bytes.length) break;
    elements.push(bytes.subarray(at + 4, end));
    at = end;
  }
  if (elements.length !== count || at !== bytes.length)
    throw wrong(`${name}: expected ${count} elements with their lengths in ${bytes.length} bytes, got others`);
  return elements;
}

const wrong = (message: string) => new HttpError(400, 'MOME_INVALID_ARGUMENT', message);
