/**
 * The file of a search index: safetensors with the pictures as lines of JSON and their embeddings, both in parts.
 *
 * Paths are relative to the root of the index, and the root to the folder of the file: a folder that is moved, copied or mounted elsewhere
 * together with its index is known again. What grows with the pictures is in tensors, for a header may hold little; and the embeddings
 * are several tensors, for Node 20 takes no more than 4 GiB of bytes at once.
 */
import { stat } from 'node:fs/promises';
import { dirname, relative, resolve } from 'node:path';
import { openSafetensors, readElements, type TensorEntry, writeSafetensors } from '../checkpoint/index.ts';
import { check, requireNotAborted } from '../runtime/errors.ts';
import { InputFile } from '../runtime/input-file.ts';
import { Pace } from '../runtime/pace.ts';
import type { IndexedImage } from './content.ts';
import { DiskFile } from './disk-file.ts';
import { diskVersion } from './disk-layout.ts';
import { indexFormat, indexTarget } from './index-target.ts';
import { readRows } from './rows.ts';

/** Pictures and their embeddings, [items, width]; paths are relative to `root` in the file alone. */
export interface IndexContents {
  readonly root: string;
  readonly items: readonly IndexedImage[];
  readonly embeddings: Float32Array;
}

/** What an index belongs to: a file made with one model is refused with another. */
export interface IndexModel {
  readonly fingerprint: string;
  readonly config: { readonly width: number };
}

export interface ReadOptions {
  /** The folder that paths are relative to; default: where the file says, seen from its own place. */
  readonly root?: string;
  readonly signal?: AbortSignal;
}

const version = '3';
/** Version 2 has no roots and hashes, and absolute paths; version 4 stays on disk (`disk-layout.ts`), and can be read as a whole. */
const readVersions = ['2', version, diskVersion];
/** Values of one array of Node 20, which holds all embeddings: 5.5 million pictures of width 768. */
const maxValues = 2 ** 32;
/** Values of one tensor of embeddings: 1 GiB. */
const valuesPerTensor = 2 ** 28;
/** Pictures of one tensor of lines. */
const itemsPerTensor = 2 ** 16;
/** Pictures written as text between two looks at other events. */
const itemsPerPart = 256;
/** Longest line: a path of 4,096 bytes takes a sixth of it, whatever is in it. */
const maxLineBytes = 2 ** 16;
/** Bytes of lines read between two looks at other events, if a line ends within them. */
const bytesAtOnce = 2 ** 13;
const newline = 10;
const maxHashLength = 64;
const decoder = new TextDecoder('utf-8', { fatal: true });

/** @throws MomeError `MOME_TOO_LARGE` for more pictures than an index can hold */
export function checkIndexSize(count: number, width: number, where: string): void {
  const most = Math.floor(maxValues / width);
  check(count <= most, 'MOME_TOO_LARGE', `${where}: expected at most ${most} pictures of width ${width}, got ${count}`);
}

/**
 * Writes an index, in one move: of several writers the last one leaves its whole index.
 *
 * @param rowsPerTensor rows of one tensor of embeddings
 * @returns the file that was written; another one than `path` where that is a link
 * @throws MomeError as `indexTarget` where `path` must not be written, `MOME_IO`, or `MOME_TOO_LARGE` before anything is written
 */
export async function writeIndex(
  path: string,
  { fingerprint, config: { width } }: IndexModel,
  { root, items, embeddings }: IndexContents,
  rowsPerTensor = Math.floor(valuesPerTensor / width),
): Promise<string> {
  const target = await indexTarget(path);
  const lists = await listsOf(items, root);
  const parts = Array.from({ length: Math.ceil(items.length / rowsPerTensor) }, (_, part) => {
    const data = embeddings.subarray(part * rowsPerTensor * width, (part + 1) * rowsPerTensor * width);
    return { name: rowsName(part), dtype: 'F32' as const, shape: [data.length / width, width], data };
  });
  const place = relative(dirname(target), root) || '.';
  const metadata = { format: indexFormat, version, fingerprint, root: place, absoluteRoot: root };
  await writeSafetensors(
    target,
    [
      ...lists.map((data, part) => ({ name: listName(part), dtype: 'U8' as const, shape: [data.length], data })),
      ...parts,
    ],
    metadata,
  );
  return target;
}

/**
 * Reads an index that {@link writeIndex} wrote.
 *
 * @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE`, `MOME_TOO_LARGE`, `MOME_NON_FINITE`, `MOME_OUT_OF_MEMORY`, `MOME_IO`,
 *   `MOME_ABORTED`, or `MOME_UNSUPPORTED` when it was made with another model
 */
export async function readIndex(
  path: string,
  { fingerprint, config: { width } }: IndexModel,
  options: ReadOptions = {},
): Promise<IndexContents> {
  const file = await InputFile.open(path, 'an index');
  try {
    return await readContents(file, { fingerprint, width }, options);
  } finally {
    file.close();
  }
}

async function readContents(
  file: InputFile,
  { fingerprint, width }: { readonly fingerprint: string; readonly width: number },
  options: ReadOptions,
): Promise<IndexContents> {
  const { path } = file;
  const { metadata, entries } = await openSafetensors(file);
  const isIndex = metadata.format === indexFormat || metadata.version === '2';
  check(isIndex, 'MOME_INVALID_FILE', `${path}: expected a mome index, got another file`);
  check(
    readVersions.includes(metadata.version ?? ''),
    'MOME_INVALID_FILE',
    `${path}: expected a mome index of version ${readVersions.join(' or ')}, got ${metadata.version}; build it again`,
  );
  check(
    metadata.fingerprint === fingerprint,
    'MOME_UNSUPPORTED',
    `${path}: expected an index made with this model, got one of another; build it again`,
  );
  if (metadata.version === diskVersion) return readDiskContents(file, { fingerprint, config: { width } }, options);
  const lists = metadata.version === '2' ? tensorsOf(entries, () => 'items', 1) : tensorsOf(entries, listName);
  let root = options.root === undefined ? undefined : resolve(options.root);
  const items = await parseLists(lists, path, options.signal, async (first) => {
    root ??= await rootOf(metadata, path, first);
    return root;
  });
  checkIndexSize(items.length, width, path);
  const embeddings = await readRows(rowsOf(entries, items.length, width, path), width, options.signal);
  return { root: root ?? (await rootOf(metadata, path)), items, embeddings };
}

/** All of an index that stays on disk. */
async function readDiskContents(file: InputFile, model: IndexModel, options: ReadOptions): Promise<IndexContents> {
  const { path } = file;
  const { width } = model.config;
  const disk = await DiskFile.of(file, model);
  const { count, embeddings } = disk.layout;
  check(
    embeddings !== undefined,
    'MOME_UNSUPPORTED',
    `${path}: expected an index with exact rows, got one of codes alone; open it with DiskIndex`,
  );
  checkIndexSize(count, width, path);
  const first = count === 0 ? undefined : await disk.nameOf(0);
  const root = options.root === undefined ? await rootOf(disk.metadata, path, first) : resolve(options.root);
  const items = await disk.items(0, count, root, options.signal);
  const rows = await readRows([{ file, path, shape: [count, width], offset: embeddings.at }], width, options.signal);
  return { root, items, embeddings: rows };
}

/** Whether the index at `path` is one that stays on disk. */
export async function isDiskIndex(path: string): Promise<boolean> {
  const file = await InputFile.open(path, 'an index');
  try {
    return (await openSafetensors(file)).metadata.version === diskVersion;
  } finally {
    file.close();
  }
}

const listName = (part: number) => `items.${part}`;
const rowsName = (part: number) => `embeddings.${part}`;

/** Tensors with numbered names, from 0 until one is missing. */
function tensorsOf(
  entries: ReadonlyMap<string, TensorEntry>,
  name: (part: number) => string,
  most = Number.POSITIVE_INFINITY,
): readonly TensorEntry[] {
  const found: TensorEntry[] = [];
  for (
    let entry = entries.get(name(0));
    entry !== undefined && found.length < most;
    entry = entries.get(name(found.length))
  )
    found.push(entry);
  return found;
}

/** The tensors of embeddings, in order: whole rows, as many as there are pictures. */
function rowsOf(
  entries: ReadonlyMap<string, TensorEntry>,
  count: number,
  width: number,
  path: string,
): readonly TensorEntry[] {
  const parts = tensorsOf(entries, rowsName);
  for (const { dtype, shape } of parts) {
    check(
      dtype === 'F32' && shape.length === 2 && shape[1] === width,
      'MOME_INVALID_FILE',
      `${path}: expected embeddings of width ${width}, got ${dtype} [${shape.join(', ')}]`,
    );
  }
  const rows = parts.reduce((sum, { shape }) => sum + shape[0]!, 0);
  check(rows === count, 'MOME_INVALID_FILE', `${path}: expected ${count} embeddings, got ${rows}`);
  return parts;
}

/** The folder that paths are relative to: of those that it may be the first at which the picture `first` lies. */
export async function rootOf(
  metadata: Readonly<Record<string, string>>,
  path: string,
  first?: string,
): Promise<string> {
  const besideFile = resolve(dirname(path), metadata.root ?? '.');
  const asWritten = resolve(metadata.absoluteRoot ?? besideFile);
  for (const root of [besideFile, asWritten]) {
    if (first !== undefined && (await stat(resolve(root, first)).catch(() => undefined))) return root;
  }
  return besideFile;
}

async function listsOf(items: readonly IndexedImage[], root: string): Promise<Uint8Array[]> {
  const lists: Uint8Array[] = [];
  const pace = new Pace();
  for (let begin = 0; begin < items.length || begin === 0; begin += itemsPerTensor) {
    const end = Math.min(items.length, begin + itemsPerTensor);
    const parts: Buffer[] = [];
    for (let first = begin; first < end; first += itemsPerPart) {
      const lines = items
        .slice(first, Math.min(end, first + itemsPerPart))
        .map((item) => `${JSON.stringify({ ...item, path: relative(root, item.path) })}\n`);
      parts.push(Buffer.from(lines.join('')));
      await pace.rest();
    }
    lists.push(Buffer.concat(parts));
  }
  return lists;
}

/** @param rootFor gives the folder that paths are relative to, for the first of them */
async function parseLists(
  lists: readonly TensorEntry[],
  path: string,
  signal: AbortSignal | undefined,
  rootFor: (first: string) => Promise<string>,
): Promise<IndexedImage[]> {
  check(lists.length > 0, 'MOME_INVALID_FILE', `${path}: expected the list of its pictures`);
  const items: IndexedImage[] = [];
  const pace = new Pace();
  let root: string | undefined;
  for (const list of lists) {
    const isBytes = list.dtype === 'U8' && list.shape.length === 1;
    check(isBytes, 'MOME_INVALID_FILE', `${path}: expected the list of its pictures as bytes`);
    const bytes = await readElements(list);
    for (let start = 0; start < bytes.length; ) {
      requireNotAborted(signal, 'index');
      let length = -1;
      for (let window = bytesAtOnce; length < 0 && window <= maxLineBytes; window *= 2)
        length = bytes.subarray(start, start + window).lastIndexOf(newline);
      check(length >= 0, 'MOME_INVALID_FILE', `${path}: expected lines of at most ${maxLineBytes} bytes`);
      for (const item of parseItems(bytes.subarray(start, start + length))) {
        check(item !== undefined, 'MOME_INVALID_FILE', `${path}: expected a picture in line ${items.length + 1}`);
        root ??= await rootFor(item.path);
        items.push({ ...item, path: resolve(root, item.path) });
      }
      start += length + 1;
      await pace.rest();
    }
  }
  return items;
}

/** Lines as pictures; nothing in the place of one that is none. Written by hand, for there may be millions. */
function parseItems(lines: Uint8Array): (IndexedImage | undefined)[] {
  try {
    return decoder.decode(lines).split('\n').map(parseItem);
  } catch {
    return [undefined]; // no UTF-8
  }
}

function parseItem(line: string): IndexedImage | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { path, size, modified, changed = 0, hash = '' } = value as Readonly<Record<string, unknown>>;
  const isPath = typeof path === 'string' && path !== '' && !path.includes('\0');
  const areNumbers = typeof size === 'number' && typeof modified === 'number' && typeof changed === 'number';
  const isHash = typeof hash === 'string' && hash.length <= maxHashLength;
  return isPath && areNumbers && isHash ? { path, size, modified, changed, hash } : undefined;
}
