/**
 * The safetensors format: an 8-byte header length, a JSON header, then the tensors' bytes.
 *
 * @see https://github.com/huggingface/safetensors for the format
 */
import { randomUUID } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { z } from 'zod';
import { check, clip, MomeError } from '../runtime/errors.ts';
import { type JsonLimits, parseJson } from '../runtime/json.ts';
import { Pace } from '../runtime/pace.ts';
import {
  elementBytes,
  elementCount,
  openFile,
  readBytes,
  type TensorEntry,
  type TensorType,
  toBfloat16,
} from './tensors.ts';

/** Largest header read or written: 500 tensors of a model take 60,000 bytes. */
const headerLimits: JsonLimits = { bytes: 4 * 2 ** 20, depth: 4, values: 2 ** 18 };
/** Most tensors of a file; a large model with its optimizer has 2,000. */
const maxTensors = 2 ** 14;
/** Longest name of a tensor, in characters. */
const maxNameLength = 512;
/** Tensors checked between two looks at the clock. */
const tensorsPerPiece = 256;

const types = Object.keys(elementBytes) as [TensorType, ...TensorType[]];
const entrySchema = z.strictObject({
  dtype: z.enum(types),
  shape: z.array(z.number()).max(8),
  data_offsets: z.tuple([z.number().int().min(0), z.number().int().min(0)]),
});
const metadataSchema = z.record(z.string(), z.string());
/** Most names in the metadata. */
const maxMetadata = 1024;

/** An open safetensors file; nothing but the header has been read. */
export interface SafetensorsFile {
  readonly path: string;
  readonly entries: ReadonlyMap<string, TensorEntry>;
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * Reads and checks the header: every tensor inside the file, of the size its shape says, none overlapping another.
 *
 * @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE`, `MOME_TOO_LARGE`
 */
export async function openSafetensors(path: string): Promise<SafetensorsFile> {
  const file = await openFile(path);
  try {
    const { size } = await file.stat();
    check(size >= 8, 'MOME_INVALID_FILE', `${path}: expected a safetensors header, got ${size} bytes`);
    const prefix = await readBytes(file, 0, 8, path);
    const length = Number(new DataView(prefix.buffer).getBigUint64(0, true));
    check(
      length <= headerLimits.bytes,
      'MOME_TOO_LARGE',
      `${path}: expected a header of at most ${headerLimits.bytes} bytes, got ${length}`,
    );
    check(
      8 + length <= size,
      'MOME_INVALID_FILE',
      `${path}: expected a header of ${length} bytes, the file has ${size}`,
    );
    const header = await parseHeader(await readBytes(file, 8, length, path), path);
    const metadata = readMetadata(header.get('__metadata__') ?? {}, path);
    header.delete('__metadata__');
    check(
      header.size <= maxTensors,
      'MOME_TOO_LARGE',
      `${path}: expected at most ${maxTensors} tensors, got ${header.size}`,
    );
    const entries = new Map<string, TensorEntry>();
    const pace = new Pace();
    for (const [name, value] of header) {
      entries.set(name, parseEntry(name, value, path, 8 + length, size));
      if (entries.size % tensorsPerPiece === 0) await pace.rest();
    }
    checkOverlap(entries, path);
    return { path, entries, metadata };
  } finally {
    await file.close();
  }
}

async function parseHeader(bytes: Uint8Array, path: string): Promise<Map<string, unknown>> {
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
  return new Map(Object.entries(header));
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

function parseEntry(name: string, value: unknown, path: string, start: number, size: number): TensorEntry {
  check(
    name.length <= maxNameLength,
    'MOME_TOO_LARGE',
    `${path}: expected names of at most ${maxNameLength} characters, got ${clip(name)}`,
  );
  const parsed = entrySchema.safeParse(value);
  check(parsed.success, 'MOME_INVALID_FILE', `${path}: expected dtype, shape and data_offsets of ${clip(name)}`);
  const { dtype, shape, data_offsets: offsets } = parsed.data;
  const bytes = elementCount(shape, `${path}: ${clip(name)}`) * elementBytes[dtype];
  check(
    offsets[1] - offsets[0] === bytes && start + offsets[1] <= size,
    'MOME_INVALID_FILE',
    `${path}: expected ${bytes} bytes of ${clip(name)} inside the file, got offsets ${offsets.join(' to ')} of ${size - start}`,
  );
  return { name, dtype, shape, path, offset: start + offsets[0] };
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
 * Writes a file beside `path` and renames it into place, so that a crash never leaves half a file.
 *
 * @throws MomeError `MOME_INVALID_SHAPE` or `MOME_TOO_LARGE` before anything is written, `MOME_IO`
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<TensorToWrite> | AsyncIterable<TensorToWrite>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const list: TensorToWrite[] = [];
  for await (const tensor of tensors) list.push(tensor);
  check(
    list.length <= maxTensors,
    'MOME_TOO_LARGE',
    `${path}: expected at most ${maxTensors} tensors, got ${list.length}`,
  );
  let offset = 0;
  const header: Record<string, unknown> = { __metadata__: metadata };
  for (const { name, dtype, shape, data } of list) {
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
  const padded = Buffer.alloc(Math.ceil(json.length / 8) * 8, ' ');
  json.copy(padded);
  check(
    padded.length <= headerLimits.bytes,
    'MOME_TOO_LARGE',
    `${path}: expected a header of at most ${headerLimits.bytes} bytes, got ${padded.length}`,
  );
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(padded.length));
  const temporary = `${path}.${randomUUID()}.tmp`;
  const file = await open(temporary, 'w').catch((error: unknown) => {
    throw new MomeError('MOME_IO', `${path}: expected to write here`, { cause: error });
  });
  try {
    await file.write(prefix);
    await file.write(padded);
    for (const tensor of list) {
      const values = tensor.dtype === 'BF16' ? await toBfloat16(tensor.data) : tensor.data;
      await file.writeFile(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    }
    await file.sync();
    await file.close();
    await rename(temporary, path);
  } catch (error) {
    await file.close().catch(() => {});
    await rm(temporary, { force: true });
    throw new MomeError('MOME_IO', `${path}: expected to write here`, { cause: error });
  }
}
