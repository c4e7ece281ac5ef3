/**
 * The safetensors format: an 8-byte header length, a JSON header, then the tensors' bytes.
 *
 * @see https://github.com/huggingface/safetensors for the format
 */
import { open } from 'node:fs/promises';
import { z } from 'zod';
import { check, clip, MomeError } from '../runtime/errors.ts';
import { replaceFile } from '../runtime/files.ts';
import { InputFile } from '../runtime/input-file.ts';
import { type JsonLimits, parseJson } from '../runtime/json.ts';
import { Pace } from '../runtime/pace.ts';
import { elementBytes, elementCount, type TensorEntry, type TensorType, toBfloat16 } from './tensors.ts';

/** Largest header read or written: 500 tensors of a model take 60,000 bytes. */
const headerLimits: JsonLimits = { bytes: 4 * 2 ** 20, depth: 4, values: 2 ** 17 };
/** Most tensors of a file; a large model with its optimizer has 2,000. */
const maxTensors = 2 ** 13;
/** Longest name of a tensor, in characters. */
const maxNameLength = 512;
/** Tensors checked between two looks at the clock. */
const tensorsPerPiece = 256;

/** Longest name of a type; the format has `F8_E4M3FNUZ`. */
const maxTypeLength = 32;
const entrySchema = z.strictObject({
  /** Types that no parameter has may lie beside; newer versions of the format add more of them. */
  dtype: z.string().min(1).max(maxTypeLength),
  shape: z.array(z.number()).max(8),
  data_offsets: z.tuple([z.number().int().min(0), z.number().int().min(0)]),
});
const metadataSchema = z.record(z.string(), z.string());
/** Most names in the metadata. */
const maxMetadata = 1024;

/** An open safetensors file; nothing but the header has been read. */
export interface SafetensorsFile {
  readonly path: string;
  readonly file: InputFile;
  readonly entries: ReadonlyMap<string, TensorEntry>;
  /** Tensors of other types, name -> type. */
  readonly foreign: ReadonlyMap<string, string>;
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * Reads and checks the header: every tensor inside the file, of the size its shape says, none overlapping another.
 *
 * @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE`, `MOME_TOO_LARGE`
 */
export async function openSafetensors(source: string | InputFile): Promise<SafetensorsFile> {
  const file = typeof source === 'string' ? await InputFile.open(source, 'a safetensors file') : source;
  try {
    return await readHeader(file);
  } catch (error) {
    if (typeof source === 'string') file.close();
    throw error;
  }
}

async function readHeader(file: InputFile): Promise<SafetensorsFile> {
  const { path, size } = file;
  check(size >= 8, 'MOME_INVALID_FILE', `${path}: expected a safetensors header, got ${size} bytes`);
  const prefix = await file.read(0, 8);
  const length = Number(new DataView(prefix.buffer).getBigUint64(0, true));
  check(
    length <= headerLimits.bytes,
    'MOME_TOO_LARGE',
    `${path}: expected a header of at most ${headerLimits.bytes} bytes, got ${length}`,
  );
  check(8 + length <= size, 'MOME_INVALID_FILE', `${path}: expected a header of ${length} bytes, the file has ${size}`);
  const { __metadata__: written, ...header } = await parseHeader(await file.read(8, length), path);
  const metadata = readMetadata(written ?? {}, path);
  const entries = new Map<string, TensorEntry>();
  const foreign = new Map<string, string>();
  const pace = new Pace();
  for (const [name, value] of Object.entries(header)) {
    if ((entries.size + foreign.size) % tensorsPerPiece === 0) await pace.rest();
    const entry = parseEntry(name, value, file, 8 + length);
    if (typeof entry === 'string') foreign.set(name, entry);
    else entries.set(name, entry);
  }
  checkOverlap(entries, path);
  return { path, file, entries, foreign, metadata };
}

async function parseHeader(bytes: Uint8Array, path: string): Promise<Readonly<Record<string, unknown>>> {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new MomeError('MOME_INVALID_FILE', `${path}: expected a JSON header`, { cause: error });
  }
  const header = await parseJson(text, `${path}: header`, headerLimits);
  check(
    typeof header === 'object' && header !== null && !Array.isArray(header),
    'MOME_INVALID_FILE',
    `${path}: expected a JSON object as header`,
  );
  const tensors = Object.keys(header).length - ('__metadata__' in header ? 1 : 0);
  check(tensors <= maxTensors, 'MOME_TOO_LARGE', `${path}: expected at most ${maxTensors} tensors, got ${tensors}`);
  return header as Record<string, unknown>;
}

function readMetadata(value: unknown, path: string): Readonly<Record<string, string>> {
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
  const names = isObject ? Object.keys(value).length : 0;
  check(
    names <= maxMetadata,
    'MOME_TOO_LARGE',
    `${path}: expected at most ${maxMetadata} names in __metadata__, got ${names}`,
  );
  const metadata = metadataSchema.safeParse(value);
  check(metadata.success, 'MOME_INVALID_FILE', `${path}: expected __metadata__ to hold strings`);
  return metadata.data;
}

/** A tensor of `file`, or its type where it is a foreign one. */
function parseEntry(name: string, value: unknown, file: InputFile, start: number): TensorEntry | string {
  const { path, size } = file;
  check(
    name.length <= maxNameLength,
    'MOME_TOO_LARGE',
    `${path}: expected names of at most ${maxNameLength} characters, got ${clip(name)}`,
  );
  const parsed = entrySchema.safeParse(value);
  check(parsed.success, 'MOME_INVALID_FILE', `${path}: expected dtype, shape and data_offsets of ${clip(name)}`);
  const { dtype, shape, data_offsets: offsets } = parsed.data;
  const isOurs = isTensorType(dtype);
  const bytes = isOurs
    ? elementCount(shape, `${path}: ${clip(name)}`) * elementBytes[dtype]
    : Math.max(0, offsets[1] - offsets[0]);
  check(
    offsets[1] - offsets[0] === bytes && start + offsets[1] <= size,
    'MOME_INVALID_FILE',
    `${path}: expected ${bytes} bytes of ${clip(name)} inside the file, got offsets ${offsets.join(' to ')} of ${size - start}`,
  );
  return isOurs ? { name, dtype, shape, path, file, offset: start + offsets[0] } : dtype;
}

function isTensorType(dtype: string): dtype is TensorType {
  return Object.hasOwn(elementBytes, dtype);
}

function checkOverlap(entries: ReadonlyMap<string, TensorEntry>, path: string): void {
  const ranges = [...entries.values()]
    .map((entry) => ({ entry, end: entry.offset + elementCount(entry.shape, path) * elementBytes[entry.dtype] }))
    .filter(({ entry, end }) => end > entry.offset)
    .sort((a, b) => a.entry.offset - b.entry.offset);
  for (let i = 1; i < ranges.length; i++) {
    check(
      ranges[i]!.entry.offset >= ranges[i - 1]!.end,
      'MOME_INVALID_FILE',
      `${path}: expected tensors apart, ${clip(ranges[i - 1]!.entry.name)} and ${clip(ranges[i]!.entry.name)} overlap`,
    );
  }
}

/** A tensor to write; float32 values are stored as `dtype`. */
export type TensorToWrite = {
  readonly name: string;
  readonly shape: readonly number[];
} & (
  | { readonly dtype: 'F32' | 'BF16'; readonly data: Float32Array }
  | { readonly dtype: 'I8'; readonly data: Int8Array }
  | { readonly dtype: 'U8'; readonly data: Uint8Array }
);

/**
 * Writes a file that replaces the one at `path` as a whole or not at all; see `replaceFile`.
 *
 * @throws MomeError `MOME_INVALID_SHAPE` or `MOME_TOO_LARGE` before anything is written, `MOME_IO` saying why
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<TensorToWrite> | AsyncIterable<TensorToWrite>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const list: TensorToWrite[] = [];
  for await (const tensor of tensors) list.push(tensor);
  const header = headerOf(list, metadata, path);
  await replaceFile(path, (temporary) => writeParts(temporary, header, list));
}

/**
 * Writes a new file, in a place that nobody reads yet.
 *
 * @throws MomeError `MOME_INVALID_SHAPE` or `MOME_TOO_LARGE` before anything is written; what the file system throws
 */
export async function writeNewSafetensors(
  path: string,
  tensors: readonly TensorToWrite[],
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  await writeParts(path, headerOf(tensors, metadata, path), tensors);
}

/** The length of the header and the header, padded to 8 bytes. */
function headerOf(
  tensors: readonly TensorToWrite[],
  metadata: Readonly<Record<string, string>>,
  path: string,
): Uint8Array {
  check(
    tensors.length <= maxTensors,
    'MOME_TOO_LARGE',
    `${path}: expected at most ${maxTensors} tensors, got ${tensors.length}`,
  );
  let offset = 0;
  const header: Record<string, unknown> = { __metadata__: metadata };
  for (const { name, dtype, shape, data } of tensors) {
    check(
      elementCount(shape, name) === data.length,
      'MOME_INVALID_SHAPE',
      `${name}: expected ${shape.join(' x ')} values, got ${data.length}`,
    );
    check(
      name.length <= maxNameLength,
      'MOME_TOO_LARGE',
      `${path}: expected names of at most ${maxNameLength} characters, got ${clip(name)}`,
    );
    const end = offset + data.length * elementBytes[dtype];
    header[name] = { dtype, shape, data_offsets: [offset, end] };
    offset = end;
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Math.ceil(json.length / 8) * 8;
  check(
    length <= headerLimits.bytes,
    'MOME_TOO_LARGE',
    `${path}: expected a header of at most ${headerLimits.bytes} bytes, got ${length}`,
  );
  const bytes = Buffer.alloc(8 + length, ' ');
  bytes.writeBigUInt64LE(BigInt(length));
  json.copy(bytes, 8);
  return bytes;
}

async function writeParts(path: string, header: Uint8Array, tensors: readonly TensorToWrite[]): Promise<void> {
  const file = await open(path, 'wx');
  try {
    await file.writeFile(header);
    for (const tensor of tensors) {
      const values = tensor.dtype === 'BF16' ? await toBfloat16(tensor.data) : tensor.data;
      await file.writeFile(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    }
  } finally {
    await file.close();
  }
}
