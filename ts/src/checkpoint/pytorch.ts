/**
 * What `torch.save` writes since PyTorch 1.6: a zip archive with `data.pkl` and one stored entry per storage.
 *
 * The pickle never runs code: it is checked first, and an allow-list of globals builds inert descriptions of tensors and
 * dictionaries; everything else becomes an opaque value.
 */
import { setImmediate } from 'node:timers/promises';
import pickleparser from 'pickleparser';
import { check, clip, MomeError } from '../runtime/errors.ts';
import type { InputFile } from '../runtime/input-file.ts';
import { guardPickle } from './pickle-guard.ts';
import { elementBytes, elementCount, type TensorEntry, type TensorType } from './tensors.ts';
import { type ArchiveEntry, readArchive } from './zip-archive.ts';

/** Largest pickle taken in, in bytes: that of a large model with its optimizer has 500,000. */
const maxPickleBytes = 4 * 2 ** 20;
/** Longest name of a tensor, in characters. */
const maxNameLength = 512;
/**
 * Largest tensors whose checksums are compared when they are read. For all of a file that would take as long again as reading it does.
 */
const mostCheckedBytes = 2 ** 20;
/** Most bytes of the entry that names the byte order. */
const maxByteOrderBytes = 64;
/** Most arguments of a call: torch's have fewer than ten, and a list that many calls share would be copied by each. */
const maxArguments = 64;

const storageTypes: Readonly<Record<string, TensorType>> = {
  FloatStorage: 'F32',
  DoubleStorage: 'F64',
  HalfStorage: 'F16',
  BFloat16Storage: 'BF16',
  LongStorage: 'I64',
  IntStorage: 'I32',
  ShortStorage: 'I16',
  CharStorage: 'I8',
  ByteStorage: 'U8',
  BoolStorage: 'BOOL',
};

/** A pickled value: containers as they are, tensors described, anything else opaque. */
export type PickledValue = unknown;

/** Names of `torch.dtype` that are read, where a storage does not tell the type. */
const dtypeNames: Readonly<Record<string, TensorType>> = {
  float32: 'F32',
  float: 'F32',
  float64: 'F64',
  double: 'F64',
  float16: 'F16',
  half: 'F16',
  bfloat16: 'BF16',
  int64: 'I64',
  int32: 'I32',
  int16: 'I16',
  int8: 'I8',
  uint8: 'U8',
  bool: 'BOOL',
};

/** A storage named by a persistent id; without a type where it holds bytes of another. */
class Storage {
  readonly typeName: string;
  readonly dtype: TensorType | undefined;
  readonly key: string;

  constructor(typeName: string, key: string) {
    this.typeName = typeName;
    this.dtype = Object.hasOwn(storageTypes, typeName) ? storageTypes[typeName] : undefined;
    this.key = key;
    Object.freeze(this);
  }
}

class StorageClass {
  readonly name: string;

  constructor(name: string) {
    this.name = name;
    Object.freeze(this);
  }
}

/** A tensor of a type or kind that no parameter has: complex, quantised, 8-bit float, sparse. */
class ForeignTensor {
  readonly type: string;

  constructor(type: string) {
    this.type = type;
    Object.freeze(this);
  }
}

/** A tensor as the pickle describes it. */
class PickledTensor {
  readonly dtype: TensorType;
  readonly storage: Storage;
  readonly offset: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];

  constructor(
    dtype: TensorType,
    storage: Storage,
    offset: number,
    shape: readonly number[],
    strides: readonly number[],
  ) {
    this.dtype = dtype;
    this.storage = storage;
    this.offset = offset;
    this.shape = shape;
    this.strides = strides;
    Object.freeze(this);
  }
}

/** Stands for an object whose class is not on the list. It may be one of Python's own containers or derived from them. */
class Opaque extends Map<unknown, unknown> {
  /** Items of lists and queues are left out: they hold no tensor by a name. */
  push(): void {}
}

/** The root of an archive and how its tensors are found. */
export interface PytorchFile {
  readonly path: string;
  readonly root: PickledValue;
  readonly fileBytes: number;
  isTensor(value: PickledValue): boolean;
  /** Where a tensor lies. @throws MomeError `MOME_INVALID_FILE` when it does not fit its storage, or is no tensor */
  entryOf(name: string, value: PickledValue): TensorEntry;
  /** The type of a tensor that cannot be read, undefined for all else. */
  foreignTypeOf(value: PickledValue): string | undefined;
}

type StoredFile = Pick<ArchiveEntry, 'name' | 'start' | 'bytes' | 'crc32'>;

/**
 * Opens an archive, reads its pickle and finds its storages.
 *
 * @throws MomeError `MOME_INVALID_FILE`, `MOME_UNSUPPORTED` for compressed storages, `MOME_TOO_LARGE`
 */
export async function openPytorch(file: InputFile): Promise<PytorchFile> {
  const { path, size } = file;
  try {
    const storages = new Map<string, StoredFile>();
    let pickle: Uint8Array | undefined;
    let byteOrder: Uint8Array | undefined;
    for await (const entry of readArchive(file)) {
      const { name } = entry;
      if (/(^|\/)data\.pkl$/.test(name)) {
        checkFirst(pickle, entry, path);
        pickle = await entry.read(maxPickleBytes);
      } else if (/(^|\/)byteorder$/.test(name)) {
        checkFirst(byteOrder, entry, path);
        byteOrder = await entry.read(maxByteOrderBytes);
      }
      const key = /(?:^|\/)data\/([^/]+)$/.exec(name)?.[1];
      if (key === undefined) continue;
      check(
        !entry.compressed,
        'MOME_UNSUPPORTED',
        `${path}: expected stored tensors, ${clip(name)} is compressed; save it again with torch.save`,
      );
      checkFirst(storages.get(key), entry, path);
      storages.set(key, { name, start: entry.start, bytes: entry.bytes, crc32: entry.crc32 });
    }
    check(pickle !== undefined, 'MOME_INVALID_FILE', `${path}: expected data.pkl in the archive, found none`);
    check(
      byteOrder === undefined || Buffer.from(byteOrder).toString().trim() === 'little',
      'MOME_UNSUPPORTED',
      `${path}: expected little-endian tensors`,
    );
    return {
      path,
      root: await unpickle(pickle, path, size),
      fileBytes: size,
      isTensor: (value) => value instanceof PickledTensor,
      entryOf: (name, value) => locate(name, value, storages, file, size),
      foreignTypeOf: (value) => (value instanceof ForeignTensor ? value.type : undefined),
    };
  } catch (error) {
    if (error instanceof MomeError) throw error;
    throw new MomeError('MOME_INVALID_FILE', `${path}: expected a PyTorch archive`, { cause: error });
  }
}

/** Which of two entries counts, readers do not agree on; and inflating each would multiply bytes that they may share. */
function checkFirst(seen: object | undefined, { name }: ArchiveEntry, path: string): void {
  check(seen === undefined, 'MOME_INVALID_FILE', `${path}: expected one entry of its kind, got another ${clip(name)}`);
}

async function unpickle(bytes: Uint8Array, path: string, fileBytes: number): Promise<PickledValue> {
  const guarded = guardPickle(bytes, path, fileBytes);
  // Both take some hundredths of a second for the longest pickles: other events run in between.
  await setImmediate();
  const parser = new pickleparser.Parser({
    unpicklingTypeOfDictionary: 'Map',
    unpicklingTypeOfSet: 'Set',
    nameResolver: { resolve: resolveGlobal },
    // The library's types say string; torch's ids arrive as ('storage', class, key, location, count).
    persistentResolver: { resolve: (id: unknown) => storageOf(id) },
  });
  try {
    return parser.parse(guarded);
  } catch (error) {
    throw new MomeError('MOME_INVALID_FILE', `${path}: expected a readable pickle`, { cause: error });
  }
}

/** A fresh, frozen stand-in per global: nothing an archive does to it outlives the call. */
// biome-ignore lint/suspicious/noExplicitAny: the library calls these with whatever the pickle holds
function resolveGlobal(module: unknown, name: unknown): any {
  // Lists inside lists, as a name, would become a text without end.
  if (typeof module !== 'string' || typeof name !== 'string') throw new Error('a global whose name is no text');
  if (isStorageClass(module, name)) return new StorageClass(name);
  const global = `${module}.${name}`;
  const build = Object.hasOwn(globals, global) ? globals[global]! : () => new Opaque();
  const made = Object.freeze(function (this: unknown, ...args: unknown[]): unknown {
    if (args.length > maxArguments) throw new Error('a call with very many arguments');
    return build(...args);
  });
  globalNames.set(made, global);
  return made;
}

/** Typed storages are `torch.FloatStorage` and the like, untyped ones `torch.storage.UntypedStorage`. */
function isStorageClass(module: string, name: string): boolean {
  return (module === 'torch' || module === 'torch.storage' || module === 'torch.cuda') && name.endsWith('Storage');
}

const globals: Readonly<Record<string, (...args: unknown[]) => unknown>> = {
  'collections.OrderedDict': (items) => {
    // Python 3 sets them one by one; a list of them that many calls share would be copied by each.
    if (items !== undefined) throw new Error('an OrderedDict made from a list');
    return new Map();
  },
  'torch._utils._rebuild_tensor': rebuildTyped,
  'torch._utils._rebuild_tensor_v2': rebuildTyped,
  'torch._utils._rebuild_tensor_v3': rebuildUntyped,
  'torch._utils._rebuild_parameter': sameTensor,
  'torch._utils._rebuild_parameter_with_state': sameTensor,
  'torch._tensor._rebuild_from_type_v2': rebuildFromType,
  'torch._tensor._rebuild_from_type': rebuildFromType,
  'torch._utils._rebuild_qtensor': () => new ForeignTensor('quantised'),
  'torch._utils._rebuild_sparse_tensor': () => new ForeignTensor('sparse'),
  'torch._utils._rebuild_nested_tensor': () => new ForeignTensor('nested'),
  'torch._utils._rebuild_meta_tensor_no_storage': () => new ForeignTensor('meta'),
  // Names a class inside another, which may be called.
  '__builtin__.getattr': () => resolveGlobal('', ''),
  'builtins.getattr': () => resolveGlobal('', ''),
};

/** What the stand-ins of globals stand for, such as `torch.float32`. */
const globalNames = new WeakMap<object, string>();
/** What makes a tensor of plain arguments: all that `_rebuild_from_type_v2` may call. */
const tensorBuilders: ReadonlySet<unknown> = new Set([rebuildTyped, rebuildUntyped, sameTensor]);

function sameTensor(tensor: unknown): unknown {
  return tensor;
}

/** A tensor over a storage that knows its type. */
function rebuildTyped(...args: unknown[]): unknown {
  return rebuild(undefined, args, args[6]);
}

/** A tensor over bytes, its type the seventh argument. */
function rebuildUntyped(...args: unknown[]): unknown {
  const type = args[6];
  const name = typeof type === 'function' ? globalNames.get(type) : type;
  return rebuild(String(name).replace(/^torch\./, ''), args, args[7]);
}

/** A tensor of a class derived from torch's, such as a parameter with attributes: how it is built, its class, and the arguments. */
function rebuildFromType(build: unknown, _type: unknown, args: unknown): unknown {
  const known = typeof build === 'function' ? globals[globalNames.get(build) ?? ''] : undefined;
  if (known === undefined || !tensorBuilders.has(known)) return new Opaque();
  if (!Array.isArray(args) || args.length > maxArguments) throw new Error('a tensor without its arguments');
  return known(...args);
}

/**
 * @param typeName name of the type, for storages that have none
 * @param bits what is yet to be done with the stored values, such as to negate them
 */
function rebuild(
  typeName: string | undefined,
  [storage, offset, shape, strides]: readonly unknown[],
  bits: unknown,
): PickledTensor | ForeignTensor {
  const whole = (value: unknown): value is number =>
    typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
  const sizes = (value: unknown): value is number[] => Array.isArray(value) && value.length <= 8 && value.every(whole);
  if (
    !(storage instanceof Storage) ||
    !whole(offset) ||
    !sizes(shape) ||
    !sizes(strides) ||
    shape.length !== strides.length
  ) {
    throw new Error('a tensor with senseless sizes');
  }
  if (bits instanceof Map && bits.size > 0) return new ForeignTensor('lazily negated or conjugated');
  const isForeign = typeName !== undefined && !Object.hasOwn(dtypeNames, typeName);
  const dtype = isForeign ? undefined : (storage.dtype ?? dtypeNames[typeName ?? '']);
  if (dtype === undefined) return new ForeignTensor(typeName ?? storage.typeName);
  return new PickledTensor(dtype, storage, offset, [...shape], [...strides]);
}

function storageOf(id: unknown): Storage | Opaque {
  if (!Array.isArray(id)) return new Opaque();
  const [kind, type, key] = id as readonly unknown[];
  if (kind !== 'storage' || !(type instanceof StorageClass) || typeof key !== 'string') return new Opaque();
  return new Storage(type.name, key);
}

function locate(
  name: string,
  value: PickledValue,
  storages: ReadonlyMap<string, StoredFile>,
  file: InputFile,
  fileBytes: number,
): TensorEntry {
  const { path } = file;
  check(value instanceof PickledTensor, 'MOME_INVALID_FILE', `${path}: expected ${clip(name)} to be a tensor`);
  check(
    name.length <= maxNameLength,
    'MOME_TOO_LARGE',
    `${path}: expected names of at most ${maxNameLength} characters, got ${clip(name)}`,
  );
  const { dtype, storage, shape, strides } = value;
  const stored = storages.get(storage.key);
  const size = elementBytes[dtype];
  const count = elementCount(shape, `${path}: ${name}`);
  const last = count === 0 ? -1 : shape.reduce((sum, dim, i) => sum + (dim - 1) * strides[i]!, value.offset);
  check(
    stored !== undefined && (last + 1) * size <= stored.bytes && stored.start + stored.bytes <= fileBytes,
    'MOME_INVALID_FILE',
    `${path}: expected tensor ${name} to lie inside its storage`,
  );
  const dense = shape.every(
    (dim, i) => dim === 1 || strides[i] === shape.slice(i + 1).reduce((product, next) => product * next, 1),
  );
  return {
    name,
    dtype,
    shape,
    path,
    file,
    offset: stored.start + value.offset * size,
    ...(!dense && count > 0 && { strides }),
    ...(dense &&
      stored.bytes === count * size &&
      stored.bytes <= mostCheckedBytes && { checksum: { name: stored.name, crc32: stored.crc32 } }),
  };
}
