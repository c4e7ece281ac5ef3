/** Messages of gRPC and their bytes: a request is looked over before it is decoded, for small fields can stand for a lot of memory. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Field, MapField, parse, Reader, Root, Type } from 'protobufjs';
import { packageRoot } from '../../runtime/package-files.ts';
import { HttpError } from '../errors.ts';
import type { ServerLimits } from '../options.ts';

/** Folder of the protocol files that the package ships. */
export const protoFolder = (): string => join(packageRoot(), 'ts', 'src', 'serve', 'protos');
export const protoFile = 'open_inference.proto';
/** The calls of our own: search and changes of the index. */
export const indexProtoFile = 'mome_index.proto';

/** A decoded message: every field is there, 64-bit numbers are numbers, bytes are views of the message. */
// biome-ignore lint/suspicious/noExplicitAny: the schema of the protocol is checked by `inferSchema`
export type Message = Readonly<Record<string, any>>;

/** What is known of the field of a number: its own fields, a text, numbers in one piece, or nothing that costs memory. */
type Shape = { readonly [id: number]: Shape | 'text' | 'numbers' | undefined };

/** Most bytes of one text that is no input of a model: names, types, parameters. */
const longestText = 2 ** 16;
/** Fields of an element: a tensor's, and with metadata those of a row. */
const fieldsOfElement = 4;
const fieldsOfRow = 40;
/** Fields of a request beside its elements. */
const fieldsBeside = 2000;
const numbers: ReadonlySet<string> = new Set(['bool', 'int32', 'int64', 'uint32', 'uint64', 'double']);

export class Messages {
  readonly #root: Root;
  readonly #shapes = new Map<string, Shape>();
  readonly #items: number;

  constructor({ items }: ServerLimits) {
    this.#root = new Root();
    for (const file of [protoFile, indexProtoFile, 'error_details.proto'])
      parse(readFileSync(join(protoFolder(), file), 'utf8'), this.#root, { keepCase: true });
    // On the wire a packed list of float32 is the bytes of a Float32Array: written as such it costs nothing per number.
    const contents = this.#root.lookupType('inference.InferTensorContents');
    contents.remove(contents.fields.fp32_contents!);
    contents.add(new Field('fp32_contents', 6, 'bytes'));
    this.#root.resolveAll();
    this.#items = items;
  }

  /** @param name with its package */
  encode(name: string, message: object): Buffer {
    return Buffer.from(this.#root.lookupType(name).encode(message).finish());
  }

  /** @throws HttpError 400 for what is no such message, 413 for one with too many fields or too long texts */
  decode(name: string, bytes: Buffer): Message {
    const type = this.#root.lookupType(name);
    const shape = this.#shapes.get(name) ?? shapeOf(type);
    this.#shapes.set(name, shape);
    const fields = (name.startsWith('mome.') ? fieldsOfRow : fieldsOfElement) * this.#items + fieldsBeside;
    try {
      lookOver(Reader.create(bytes), shape, bytes.length, { fields });
      return type.toObject(type.decode(bytes), {
        defaults: true,
        arrays: true,
        objects: true,
        longs: Number,
        oneofs: true,
      });
    } catch (error) {
      if (error instanceof HttpError) throw error;
      throw new HttpError(400, 'MOME_INVALID_ARGUMENT', `expected a message ${name}, got other bytes`);
    }
  }
}

function shapeOf(type: Type): Shape {
  const shape: Record<number, Shape | 'text' | 'numbers' | undefined> = {};
  for (const field of type.fieldsArray) {
    const nested = field.resolvedType instanceof Type ? shapeOf(field.resolvedType) : undefined;
    if (field instanceof MapField)
      shape[field.id] = { 1: 'text', 2: nested ?? (field.type === 'string' ? 'text' : undefined) };
    else if (nested) shape[field.id] = nested;
    else if (field.type === 'string') shape[field.id] = 'text';
    else if (field.repeated && numbers.has(field.type)) shape[field.id] = 'numbers';
  }
  return shape;
}

/** Walks over the fields of a message, which is quick, and stops where decoding it would cost too much. */
function lookOver(reader: Reader, shape: Shape, end: number, left: { fields: number }): void {
  while (reader.pos < end) {
    const tag = reader.uint32();
    left.fields--;
    const id = tag >>> 3;
    const known = shape[id];
    if ((tag & 7) === 3) throw new Error('groups are of an older protocol');
    if ((tag & 7) !== 2) reader.skipType(tag & 7, 0, id);
    else {
      const length = reader.uint32();
      const stop = reader.pos + length;
      if (stop > end) throw new Error('the field is longer than its message');
      if (known === 'text' && length > longestText)
        throw new HttpError(
          413,
          'MOME_TOO_LARGE',
          `expected names and parameters of at most ${longestText} bytes, got ${length}`,
        );
      if (known === 'numbers') left.fields -= length;
      if (typeof known === 'object') lookOver(reader, known, stop, left);
      else reader.skip(length);
    }
    if (left.fields < 0)
      throw new HttpError(
        413,
        'MOME_TOO_LARGE',
        'expected at most as many elements as the server takes, got more fields or numbers',
      );
  }
  if (reader.pos !== end) throw new Error('a field is longer than its message');
}
