/**
 * The file of a search index: safetensors with the pictures as lines of JSON and their embeddings in parts.
 *
 * What grows with the pictures is in tensors, for a header may hold 64 MiB only; and the embeddings are several tensors, for Node 20
 * takes no more than 4 GiB of bytes at once.
 */
import { z } from 'zod';
import { openSafetensors, readElements, readTensor, type TensorEntry, writeSafetensors } from '../checkpoint/index.ts';
import { check, MomeError } from '../runtime/errors.ts';
import { Pace } from '../runtime/pace.ts';

/** A picture of the index. */
export interface IndexedImage {
  /** Absolute path. */
  readonly path: string;
  /** Bytes and time of change, by which a later build knows whether to embed the file again. */
  readonly size: number;
  readonly modified: number;
}

/** Pictures and their embeddings, [items, width]. */
export interface IndexContents {
  readonly items: readonly IndexedImage[];
  readonly embeddings: Float32Array;
}

/** What an index belongs to: a file made with one model is refused with another. */
export interface IndexModel {
  readonly fingerprint: string;
  readonly config: { readonly width: number };
}

const version = '2';
/** Values of one array of Node 20, which holds all embeddings: 5.5 million pictures of width 768. */
const maxValues = 2 ** 32;
/** Values of one tensor of embeddings: 1 GiB. */
const valuesPerTensor = 2 ** 28;
/** Pictures written as text between two looks at other events. */
const itemsPerPart = 1024;
const newline = 10;

const itemSchema = z.object({ path: z.string(), size: z.number(), modified: z.number() });

/** @throws MomeError `MOME_TOO_LARGE` for more pictures than an index can hold */
export function checkIndexSize(count: number, width: number, where: string): void {
  const most = Math.floor(maxValues / width);
  check(count <= most, 'MOME_TOO_LARGE', `${where}: expected at most ${most} pictures of width ${width}, got ${count}`);
}

/**
 * Writes an index, in one move.
 *
 * @param rowsPerTensor rows of one tensor of embeddings
 * @throws MomeError `MOME_IO`, or `MOME_TOO_LARGE` before anything is written
 */
export async function writeIndex(
  path: string,
  { fingerprint, config: { width } }: IndexModel,
  { items, embeddings }: IndexContents,
  rowsPerTensor = Math.floor(valuesPerTensor / width),
): Promise<void> {
  const lines = await linesOf(items);
  const parts = Array.from({ length: Math.ceil(items.length / rowsPerTensor) }, (_, part) => {
    const data = embeddings.subarray(part * rowsPerTensor * width, (part + 1) * rowsPerTensor * width);
    return { name: partName(part), dtype: 'F32' as const, shape: [data.length / width, width], data };
  });
  const list = { name: 'items', dtype: 'U8' as const, shape: [lines.length], data: lines };
  await writeSafetensors(path, [list, ...parts], { version, fingerprint });
}

/**
 * Reads an index that {@link writeIndex} wrote.
 *
 * @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE`, `MOME_TOO_LARGE`, `MOME_NON_FINITE`, or `MOME_UNSUPPORTED` when it was made
 *   with another model
 */
export async function readIndex(path: string, { fingerprint, config: { width } }: IndexModel): Promise<IndexContents> {
  const { metadata, entries } = await openSafetensors(path);
  check(metadata.version === version, 'MOME_INVALID_FILE', `${path}: expected a mome index of version ${version}`);
  check(
    metadata.fingerprint === fingerprint,
    'MOME_UNSUPPORTED',
    `${path}: expected an index made with this model, got one of another; build it again`,
  );
  const list = entries.get('items');
  check(
    list?.dtype === 'U8' && list.shape.length === 1,
    'MOME_INVALID_FILE',
    `${path}: expected the list of its pictures`,
  );
  const items = await parseItems(await readElements(list), path);
  checkIndexSize(items.length, width, path);
  const embeddings = await readParts(partsOf(entries, items.length, width, path), items.length * width);
  await checkFinite(embeddings, width, path);
  return { items, embeddings };
}

const partName = (part: number) => `embeddings.${part}`;

/** The tensors of embeddings, in order: whole rows, as many as there are pictures. */
function partsOf(
  entries: ReadonlyMap<string, TensorEntry>,
  count: number,
  width: number,
  path: string,
): readonly TensorEntry[] {
  const parts: TensorEntry[] = [];
  for (let entry = entries.get(partName(0)); entry !== undefined; entry = entries.get(partName(parts.length))) {
    check(
      entry.dtype === 'F32' && entry.shape.length === 2 && entry.shape[1] === width,
      'MOME_INVALID_FILE',
      `${path}: expected embeddings of width ${width}, got ${entry.dtype} [${entry.shape.join(', ')}]`,
    );
    parts.push(entry);
  }
  const rows = parts.reduce((sum, { shape }) => sum + shape[0]!, 0);
  check(rows === count, 'MOME_INVALID_FILE', `${path}: expected ${count} embeddings, got ${rows}`);
  return parts;
}

async function readParts(parts: readonly TensorEntry[], values: number): Promise<Float32Array> {
  if (parts.length === 1) return readTensor(parts[0]!);
  const embeddings = new Float32Array(values);
  let done = 0;
  for (const part of parts) {
    const rows = await readTensor(part);
    embeddings.set(rows, done);
    done += rows.length;
  }
  return embeddings;
}

async function checkFinite(embeddings: Float32Array, width: number, path: string): Promise<void> {
  const pace = new Pace();
  for (let row = 0; row * width < embeddings.length; row++) {
    const finite = embeddings.subarray(row * width, (row + 1) * width).every(Number.isFinite);
    check(finite, 'MOME_NON_FINITE', `${path}: expected finite embeddings, got others in row ${row}`);
    await pace.rest();
  }
}

async function linesOf(items: readonly IndexedImage[]): Promise<Uint8Array> {
  const parts: Buffer[] = [];
  const pace = new Pace();
  for (let first = 0; first < items.length; first += itemsPerPart) {
    const lines = items.slice(first, first + itemsPerPart).map((item) => `${JSON.stringify(item)}\n`);
    parts.push(Buffer.from(lines.join('')));
    await pace.rest();
  }
  return Buffer.concat(parts);
}

async function parseItems(bytes: Uint8Array, path: string): Promise<IndexedImage[]> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  const items: IndexedImage[] = [];
  const pace = new Pace();
  try {
    for (let start = 0; start < bytes.length; ) {
      const end = bytes.indexOf(newline, start);
      check(end >= 0, 'MOME_INVALID_FILE', `${path}: expected whole lines`);
      items.push(itemSchema.parse(JSON.parse(decoder.decode(bytes.subarray(start, end)))));
      start = end + 1;
      await pace.rest();
    }
    return items;
  } catch (error) {
    throw new MomeError('MOME_INVALID_FILE', `${path}: expected the list of its pictures`, { cause: error });
  }
}
