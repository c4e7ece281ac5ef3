/**
 * Opens a checkpoint of any kind, whatever its file is called, and names its tensors as the official checkpoints do.
 */
import { check, clip, MomeError } from '../runtime/errors.ts';
import { InputFile, refuseLfsPointer } from '../runtime/input-file.ts';
import { type FoundNames, findNames } from './names.ts';
import type { PickledValue, PytorchFile } from './pytorch.ts';
import { scaleName } from './quantise.ts';
import { openSafetensors } from './safetensors.ts';
import { elementBytes, elementCount, type TensorEntry } from './tensors.ts';

/** An open checkpoint: its tensors, and what else it said. */
export interface Checkpoint {
  readonly path: string;
  /** The open file: everything is read from it, whatever happens to the name. */
  readonly file: InputFile;
  readonly format: 'safetensors' | 'pytorch';
  /** Dictionary key under which the tensors stood (`state_dict`, `model`; `checkpoint.model` for one inside another), or none. */
  readonly wrapper: string | undefined;
  /** What stood before all names and was taken off, such as `module.`. */
  readonly prefix: string;
  readonly entries: ReadonlyMap<string, TensorEntry>;
  /** Tensors of types that no parameter has, name -> type. */
  readonly foreign: ReadonlyMap<string, string>;
  /** Other keys beside the tensors, such as `epoch` or `optimizer`. */
  readonly otherKeys: readonly string[];
  readonly metadata: Readonly<Record<string, string>>;
}

/** Keys of dictionaries that hold a model, the likeliest first: the original's own, then those of other training code. */
const wrappers = ['state_dict', 'module', 'model', 'model_state_dict', 'net', 'network', 'weights', 'params'];
/** Averaged weights: taken where there are no others. */
const averaged = ['state_dict_ema', 'model_ema', 'ema_state_dict', 'ema'];
/** Dictionaries inside each other that are looked through. */
const maxDepth = 3;
/** Dictionaries that are looked through. */
const maxDictionaries = 10_000;
/** Most bytes of all tensors together, in sizes of the file. */
const maxSharing = 8;

/**
 * @param source path, or a file that is open already and stays the caller's to close
 * @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE`, `MOME_UNSUPPORTED` for PyTorch's format before 1.6, `MOME_TOO_LARGE`, `MOME_IO`
 */
export async function openCheckpoint(source: string | InputFile): Promise<Checkpoint> {
  const file = typeof source === 'string' ? await InputFile.open(source, 'a checkpoint') : source;
  try {
    return await openAnyKind(file);
  } catch (error) {
    if (typeof source === 'string') file.close();
    if (error instanceof MomeError) throw error;
    throw new MomeError('MOME_INVALID_FILE', `${file.path}: expected a checkpoint, could not read it`, {
      cause: error,
    });
  }
}

async function openAnyKind(file: InputFile): Promise<Checkpoint> {
  const { path } = file;
  if ((await sniff(file)) === 'safetensors') {
    const { entries, foreign, metadata } = await openSafetensors(file);
    const found = findNames([...entries.keys(), ...foreign.keys()], path);
    return {
      path,
      file,
      format: 'safetensors',
      wrapper: undefined,
      prefix: found.prefix,
      entries: withScales(renamed(entries, found)),
      foreign: renamed(foreign, found),
      otherKeys: [],
      metadata,
    };
  }
  const { openPytorch } = await import('./pytorch.ts'); // its libraries are loaded for such files alone
  const archive = await openPytorch(file);
  check(archive.root instanceof Map, 'MOME_INVALID_FILE', `${path}: expected a dictionary of tensors`);
  const { keys, names, tensors, foreign, otherKeys } = modelIn(archive, archive.root);
  const entries = new Map([...tensors].map(([name, value]) => [name, archive.entryOf(name, value)]));
  checkSharing(entries, archive.fileBytes, path);
  return {
    path,
    file,
    format: 'pytorch',
    wrapper: keys.length === 0 ? undefined : keys.join('.'),
    prefix: names.prefix,
    entries: renamed(entries, names),
    foreign: renamed(foreign, names),
    otherKeys,
    metadata: {},
  };
}

/** A dictionary of an archive that holds tensors. */
interface TensorDictionary {
  /** Keys on the way to it. */
  readonly keys: readonly string[];
  readonly names: FoundNames;
  /** Name -> tensor as the pickle describes it. */
  readonly tensors: ReadonlyMap<string, PickledValue>;
  readonly foreign: ReadonlyMap<string, string>;
  /** Keys beside the tensors, there and at the top. */
  readonly otherKeys: readonly string[];
}

/**
 * The dictionary that holds the model: the likeliest by its key where several do.
 *
 * @throws MomeError `MOME_INVALID_FILE` naming the keys where none or several may be meant
 */
function modelIn(archive: PytorchFile, root: ReadonlyMap<unknown, PickledValue>): TensorDictionary {
  const { path } = archive;
  const all = dictionariesIn(root).map(({ keys, dictionary }) => tensorsOf(archive, root, keys, dictionary));
  const withTensors = all.filter(({ tensors, foreign }) => tensors.size + foreign.size > 0);
  const withModel = withTensors.filter(({ names }) => names.known > 0);
  const candidates = withModel.length > 0 ? withModel : withTensors;
  check(
    candidates.length > 0,
    'MOME_INVALID_FILE',
    `${path}: expected tensors, found none under ${[...root.keys()].slice(0, 8).map(textOfKey).join(', ') || 'no key'}; save the model's state_dict()`,
  );
  // A dictionary with a few tensors of a model's names, such as statistics of some layers, is not the model.
  const most = Math.max(...candidates.map(({ names }) => names.known));
  const whole = candidates.filter(({ names }) => 2 * names.known >= most);
  const best = Math.min(...whole.map(({ keys }) => rankOf(keys)));
  const choice = whole.filter(({ keys }) => rankOf(keys) === best);
  check(
    choice.length === 1,
    'MOME_INVALID_FILE',
    `${path}: expected one dictionary of tensors, got ${choice.map(({ keys }) => `"${keys.join('.')}"`).join(', ')}; save one of them alone`,
  );
  return choice[0]!;
}

/** All dictionaries down to {@link maxDepth}; one that stands under several keys once. */
function dictionariesIn(
  root: ReadonlyMap<unknown, PickledValue>,
): { readonly keys: readonly string[]; readonly dictionary: ReadonlyMap<unknown, PickledValue> }[] {
  const found = [{ keys: [] as readonly string[], dictionary: root }];
  const seen = new Set<unknown>([root]);
  for (const { keys, dictionary } of found) {
    if (keys.length + 1 >= maxDepth) continue;
    for (const [key, value] of dictionary) {
      if (!(value instanceof Map) || seen.has(value) || found.length >= maxDictionaries) continue;
      seen.add(value);
      found.push({ keys: [...keys, textOfKey(key)], dictionary: value });
    }
  }
  return found;
}

function tensorsOf(
  archive: PytorchFile,
  root: ReadonlyMap<unknown, PickledValue>,
  keys: readonly string[],
  dictionary: ReadonlyMap<unknown, PickledValue>,
): TensorDictionary {
  const tensors = new Map<string, PickledValue>();
  const foreign = new Map<string, string>();
  const otherKeys: string[] = [];
  for (const [key, value] of dictionary) {
    const type = typeof key === 'string' ? archive.foreignTypeOf(value) : undefined;
    if (typeof key === 'string' && archive.isTensor(value)) tensors.set(key, value);
    else if (type !== undefined) foreign.set(String(key), type);
    else otherKeys.push(textOfKey(key));
  }
  if (keys.length > 0) otherKeys.push(...[...root.keys()].map(textOfKey).filter((key) => key !== keys[0]));
  const names = findNames([...tensors.keys(), ...foreign.keys()], archive.path);
  return { keys, names, tensors, foreign, otherKeys };
}

/** Place in the order in which dictionaries are preferred: by the key, then the less deep. */
function rankOf(keys: readonly string[]): number {
  const key = keys.at(-1);
  if (key === undefined) return 0.5;
  const known = wrappers.indexOf(key);
  const base = known >= 0 ? known : averaged.includes(key) || /ema|averag/i.test(keys.join('.')) ? 90 : 50;
  return base + keys.length / 10;
}

function renamed<T>(values: ReadonlyMap<string, T>, { names }: FoundNames): Map<string, T> {
  return new Map(
    [...values].flatMap(([name, value]): [string, T][] => {
      const own = names.get(name);
      return own === undefined ? [] : [[own, value]];
    }),
  );
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

async function sniff(file: InputFile): Promise<'safetensors' | 'pytorch'> {
  const { path, size } = file;
  const head = await file.read(0, Math.min(size, 64));
  refuseLfsPointer(head, path, 'a checkpoint');
  check(size >= 16, 'MOME_INVALID_FILE', `${path}: expected a checkpoint, got ${size} bytes`);
  if (head[0] === 0x50 && head[1] === 0x4b) return 'pytorch';
  if (head[8] === 0x7b) return 'safetensors';
  if (head[0] === 0x80 && head[1]! <= 5) {
    throw new MomeError(
      'MOME_UNSUPPORTED',
      `${path}: expected a zip archive, got PyTorch's format before 1.6; load it there and save it again`,
    );
  }
  const isPage = /^\s*<(?:!doctype|html)/i.test(Buffer.from(head).toString('latin1'));
  throw new MomeError(
    'MOME_INVALID_FILE',
    `${path}: expected a PyTorch archive or safetensors, got ${isPage ? 'a web page; the download failed' : 'neither'}`,
  );
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
    joined.delete(scaleName(name));
  }
  return joined;
}
