/**
 * Opens a checkpoint of any kind, whatever its file is called, and names its tensors as the official checkpoints do.
 */
import { check, clip, MomeError } from '../runtime/errors.ts';
import { openPytorch, type PickledValue } from './pytorch.ts';
import { scaleName } from './quantise.ts';
import { openSafetensors } from './safetensors.ts';
import { elementBytes, elementCount, openFile, readBytes, type TensorEntry } from './tensors.ts';

/** An open checkpoint: its tensors, and what else it said. */
export interface Checkpoint {
  readonly path: string;
  readonly format: 'safetensors' | 'pytorch';
  /** Dictionary key under which the tensors stood (`state_dict`, `model`, `module`), or none. */
  readonly wrapper: string | undefined;
  /** Prefix that all names shared and that was taken off, such as `module.`. */
  readonly prefix: string;
  readonly entries: ReadonlyMap<string, TensorEntry>;
  /** Other top-level keys, such as `epoch` or `optimizer`. */
  readonly otherKeys: readonly string[];
  readonly metadata: Readonly<Record<string, string>>;
}

const wrappers = ['state_dict', 'model', 'module'];
/** Most bytes of all tensors together, in sizes of the file. */
const maxSharing = 8;
const prefixes = ['module.', '_forward_module.'];

/**
 * @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE`, `MOME_UNSUPPORTED` for PyTorch's format before 1.6, `MOME_TOO_LARGE`
 */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  try {
    return await openAnyKind(path);
  } catch (error) {
    if (error instanceof MomeError) throw error;
    throw new MomeError('MOME_INVALID_FILE', `${path}: expected a checkpoint, could not read it`, { cause: error });
  }
}

async function openAnyKind(path: string): Promise<Checkpoint> {
  const kind = await sniff(path);
  if (kind === 'safetensors') {
    const { entries, metadata } = await openSafetensors(path);
    const named = withoutPrefix(withScales(entries));
    return { path, format: 'safetensors', wrapper: undefined, ...named, otherKeys: [], metadata };
  }
  const file = await openPytorch(path);
  check(file.root instanceof Map, 'MOME_INVALID_FILE', `${path}: expected a dictionary of tensors`);
  const root = file.root as ReadonlyMap<unknown, PickledValue>;
  const wrapper = wrappers.find((key) => root.get(key) instanceof Map);
  const tensors = wrapper === undefined ? root : (root.get(wrapper) as ReadonlyMap<unknown, PickledValue>);
  const entries = new Map<string, TensorEntry>();
  const otherKeys: string[] = [];
  for (const [key, value] of tensors) {
    const entry = typeof key === 'string' ? file.entryOf(key, value) : undefined;
    if (entry) entries.set(entry.name, entry);
    else otherKeys.push(textOfKey(key));
  }
  checkSharing(entries, file.fileBytes, path);
  check(entries.size > 0, 'MOME_INVALID_FILE', `${path}: expected tensors, found none`);
  if (wrapper !== undefined) otherKeys.push(...[...root.keys()].map(textOfKey).filter((key) => key !== wrapper));
  return { path, format: 'pytorch', wrapper, ...withoutPrefix(entries), otherKeys, metadata: {} };
}

/** A key to show: only texts and numbers have a short form, lists inside lists may have one without end. */
function textOfKey(key: unknown): string {
  return typeof key === 'string' || typeof key === 'number' ? clip(String(key)) : `(${typeof key})`;
}

/**
 * Tensors of an archive may share a storage, and strides of 0 repeat its values: a few bytes could stand for gigabytes. Tied
 * weights and small repeated buffers stay far below the limit.
 */
function checkSharing(entries: ReadonlyMap<string, TensorEntry>, fileBytes: number, path: string): void {
  let bytes = 0;
  for (const { shape, dtype } of entries.values()) bytes += elementCount(shape, path) * elementBytes[dtype];
  const limit = maxSharing * fileBytes;
  check(
    bytes <= limit,
    'MOME_TOO_LARGE',
    `${path}: expected tensors of at most ${maxSharing} times the ${fileBytes} bytes of the file, got ${bytes} bytes`,
  );
}

async function sniff(path: string): Promise<'safetensors' | 'pytorch'> {
  const file = await openFile(path);
  try {
    const stat = await file.stat();
    check(stat.isFile(), 'MOME_INVALID_FILE', `${path}: expected a file`);
    check(stat.size >= 16, 'MOME_INVALID_FILE', `${path}: expected a checkpoint, got ${stat.size} bytes`);
    const head = await readBytes(file, 0, 16, path);
    if (head[0] === 0x50 && head[1] === 0x4b) return 'pytorch';
    if (head[8] === 0x7b) return 'safetensors';
    if (head[0] === 0x80 && head[1]! <= 5) {
      throw new MomeError(
        'MOME_UNSUPPORTED',
        `${path}: expected a zip archive, got PyTorch's format before 1.6; load it there and save it again`,
      );
    }
    throw new MomeError('MOME_INVALID_FILE', `${path}: expected a PyTorch archive or safetensors, got neither`);
  } finally {
    await file.close();
  }
}

/** Puts the scales of 8-bit matrices with the matrices. */
function withScales(entries: ReadonlyMap<string, TensorEntry>): ReadonlyMap<string, TensorEntry> {
  const joined = new Map(entries);
  for (const [name, entry] of entries) {
    const scale = entries.get(scaleName(name));
    if (entry.dtype !== 'I8' || !scale) continue;
    check(
      scale.dtype === 'F32' && scale.shape.length === 1 && scale.shape[0] === entry.shape[0],
      'MOME_INVALID_FILE',
      `${entry.path}: expected ${scale.name} to hold a float32 scale for each row of ${name}`,
    );
    joined.set(name, { ...entry, scale });
    joined.delete(scale.name);
  }
  return joined;
}

function withoutPrefix(entries: ReadonlyMap<string, TensorEntry>): {
  prefix: string;
  entries: ReadonlyMap<string, TensorEntry>;
} {
  const names = [...entries.keys()];
  const prefix =
    prefixes.find((candidate) => names.length > 0 && names.every((name) => name.startsWith(candidate))) ?? '';
  if (prefix === '') return { prefix, entries };
  return { prefix, entries: new Map([...entries].map(([name, entry]) => [name.slice(prefix.length), entry])) };
}
