/** Writes what `torch.save` writes, piece by piece: files of any size, nested dictionaries, tensors of any type and class. */
import { type FileHandle, open } from 'node:fs/promises';

/** How a tensor is rebuilt. */
export type Rebuild = 'v2' | 'v3' | 'parameter' | 'with_state' | 'from_type';

/** A tensor of an archive. `data` gives its bytes in order. */
export class Saved {
  readonly storage: string;
  readonly shape: readonly number[];
  readonly bytes: number;
  readonly data: () => Iterable<Uint8Array>;
  readonly rebuild: Rebuild;
  /** Name of the `torch.dtype`, for `v3`. */
  readonly dtype: string;
  /** What is to be done with the values, as `{ neg: true }`. */
  readonly bits: object | undefined;

  constructor(
    storage: string,
    shape: readonly number[],
    data: Uint8Array | { readonly bytes: number; readonly pieces: () => Iterable<Uint8Array> },
    {
      rebuild = 'v2',
      dtype = 'float32',
      bits,
    }: { readonly rebuild?: Rebuild; readonly dtype?: string; readonly bits?: object } = {},
  ) {
    this.storage = storage;
    this.shape = shape;
    this.bytes = data instanceof Uint8Array ? data.length : data.bytes;
    this.data = data instanceof Uint8Array ? () => [data] : data.pieces;
    this.rebuild = rebuild;
    this.dtype = dtype;
    this.bits = bits;
  }
}

/** A call of a global, as classes are pickled, and what is put into the container that it gives. */
export class Called {
  readonly module: string;
  readonly name: string;
  readonly args: readonly unknown[];
  readonly contents: readonly unknown[] | Readonly<Record<string, unknown>> | undefined;

  constructor(module: string, name: string, args: readonly unknown[] = [], contents?: Called['contents']) {
    this.module = module;
    this.name = name;
    this.args = args;
    this.contents = contents;
  }
}

/** Writes `root`: maps and plain objects, lists, texts, numbers, integers of any size, null, booleans, {@link Saved}, {@link Called}. */
export async function torchSave(path: string, root: unknown): Promise<void> {
  const pickler = new Pickler();
  pickler.put(root);
  const file = await open(path, 'w');
  try {
    const zip = new ZipWriter(file);
    await zip.add('archive/data.pkl', [pickler.finish()]);
    await zip.add('archive/byteorder', [Buffer.from('little')]);
    for (const [key, tensor] of pickler.storages.entries()) await zip.add(`archive/data/${key}`, tensor.data());
    await zip.add('archive/version', [Buffer.from('3\n')]);
    await zip.finish();
  } finally {
    await file.close();
  }
}

class Pickler {
  readonly storages: Saved[] = [];
  readonly #parts: Buffer[] = [Buffer.from([0x80, 2])];

  finish(): Buffer {
    return Buffer.concat([...this.#parts, Buffer.from('.')]);
  }

  put(value: unknown): void {
    if (value === null) this.#raw('N');
    else if (typeof value === 'boolean') this.#parts.push(Buffer.from([value ? 0x88 : 0x89]));
    else if (typeof value === 'string') this.#text(value);
    else if (typeof value === 'bigint') this.#long(value);
    else if (typeof value === 'number') this.#number(value);
    else if (value instanceof Saved) this.#tensor(value);
    else if (value instanceof Called) this.#called(value);
    else if (Array.isArray(value)) this.#list(value);
    else this.#dictionary(value instanceof Map ? [...value] : Object.entries(value as object));
  }

  #raw(text: string): void {
    this.#parts.push(Buffer.from(text, 'latin1'));
  }

  #text(value: string): void {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(Buffer.byteLength(value));
    this.#parts.push(Buffer.from('X'), length, Buffer.from(value));
  }

  #number(value: number): void {
    if (!Number.isInteger(value)) {
      const bytes = Buffer.alloc(9, 'G');
      bytes.writeDoubleBE(value, 1);
      this.#parts.push(bytes);
    } else if (Math.abs(value) < 2 ** 31) {
      const bytes = Buffer.alloc(5, 'J');
      bytes.writeInt32LE(value, 1);
      this.#parts.push(bytes);
    } else this.#long(BigInt(value));
  }

  /** LONG1, or LONG4 for more than 255 bytes: two's complement, the lowest byte first. */
  #long(value: bigint): void {
    const bytes: number[] = [];
    let rest = value;
    do {
      bytes.push(Number(rest & 255n));
      rest >>= 8n;
    } while (!(rest === 0n && bytes.at(-1)! < 128) && !(rest === -1n && bytes.at(-1)! >= 128));
    const length = Buffer.alloc(4);
    length.writeUInt32LE(bytes.length);
    const head = bytes.length < 256 ? Buffer.from([0x8a, bytes.length]) : Buffer.concat([Buffer.from([0x8b]), length]);
    this.#parts.push(head, Buffer.from(bytes));
  }

  #all(values: readonly unknown[]): void {
    for (const value of values) this.put(value);
  }

  #tuple(values: readonly unknown[]): void {
    this.#raw('(');
    this.#all(values);
    this.#raw('t');
  }

  #list(values: readonly unknown[]): void {
    this.#raw('](');
    this.#all(values);
    this.#raw('e');
  }

  #called({ module, name, args, contents }: Called): void {
    this.#call(module, name, () => this.#all(args));
    if (contents === undefined) return;
    this.#raw('(');
    this.#all(Array.isArray(contents) ? contents : Object.entries(contents).flat());
    this.#raw(Array.isArray(contents) ? 'e' : 'u');
  }

  #dictionary(entries: readonly (readonly [unknown, unknown])[]): void {
    this.#call('collections', 'OrderedDict', () => {});
    this.#raw('(');
    for (const entry of entries) this.#all(entry);
    this.#raw('u');
  }

  #global(module: string, name: string): void {
    this.#raw(`c${module}\n${name}\n`);
  }

  #call(module: string, name: string, args: () => void): void {
    this.#global(module, name);
    this.#raw('(');
    args();
    this.#raw('tR');
  }

  #tensor(tensor: Saved): void {
    const { rebuild } = tensor;
    const hooks = () => this.#call('collections', 'OrderedDict', () => {});
    if (rebuild === 'parameter' || rebuild === 'with_state') {
      this.#call(
        'torch._utils',
        rebuild === 'parameter' ? '_rebuild_parameter' : '_rebuild_parameter_with_state',
        () => {
          this.#call('torch._utils', '_rebuild_tensor_v2', () => this.#partsOf(tensor));
          this.put(true);
          hooks();
          if (rebuild === 'with_state') this.put({ no_weight_decay: true });
        },
      );
    } else if (rebuild === 'from_type') {
      this.#call('torch._tensor', '_rebuild_from_type_v2', () => {
        this.#global('torch._utils', '_rebuild_tensor_v2');
        this.#global('torch.nn.parameter', 'Parameter');
        this.#raw('(');
        this.#partsOf(tensor);
        this.#raw('t');
        this.put({});
      });
    } else if (rebuild === 'v3') {
      this.#call('torch._utils', '_rebuild_tensor_v3', () => {
        this.#partsOf(tensor);
        this.#global('torch', tensor.dtype);
        if (tensor.bits !== undefined) this.put(tensor.bits);
      });
    } else {
      this.#call('torch._utils', '_rebuild_tensor_v2', () => {
        this.#partsOf(tensor);
        if (tensor.bits !== undefined) this.put(tensor.bits);
      });
    }
  }

  /** Storage, offset, shape, strides, whether a gradient is wanted, hooks. */
  #partsOf(tensor: Saved): void {
    const key = this.storages.push(tensor) - 1;
    const strides = tensor.shape.map((_, i) => tensor.shape.slice(i + 1).reduce((product, size) => product * size, 1));
    const [name = '', module = 'torch'] = tensor.storage.split('.').reverse();
    this.#raw('(');
    this.put('storage');
    this.#global(module === 'storage' ? 'torch.storage' : 'torch', name);
    this.#all([String(key), 'cpu', tensor.bytes]);
    this.#raw('tQ');
    this.put(0);
    this.#tuple(tensor.shape);
    this.#tuple(strides);
    this.put(false);
    this.#call('collections', 'OrderedDict', () => {});
  }
}

/**
 * A zip archive of stored entries below 4 GiB, each starting at a multiple of 64 bytes. Checksums are left out: no reader of tensors
 * looks.
 */
class ZipWriter {
  readonly #file: FileHandle;
  readonly #directory: Buffer[] = [];
  #position = 0;

  constructor(file: FileHandle) {
    this.#file = file;
  }

  async add(name: string, pieces: Iterable<Uint8Array>): Promise<void> {
    const path = Buffer.from(name);
    const start = this.#position;
    const pad = (64 - ((start + 30 + path.length + 4) % 64)) % 64;
    const extra = Buffer.alloc(4 + pad);
    extra.write('FB');
    extra.writeUInt16LE(pad, 2);
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt16LE(path.length, 26);
    local.writeUInt16LE(extra.length, 28);
    await this.#write(Buffer.concat([local, path, extra]));
    const begin = this.#position;
    for (const piece of pieces) await this.#write(piece);
    const length = this.#position - begin;
    local.writeUInt32LE(length, 18);
    local.writeUInt32LE(length, 22);
    await this.#file.write(local, 0, 30, start);
    const central = Buffer.alloc(46);
    central.writeUInt32LE(0x02014b50, 0);
    local.copy(central, 6, 4, 28);
    central.writeUInt32LE(start, 42);
    this.#directory.push(central, path);
  }

  async finish(): Promise<void> {
    const central = Buffer.concat(this.#directory);
    const end = Buffer.alloc(22);
    end.writeUInt32LE(0x06054b50, 0);
    end.writeUInt16LE(this.#directory.length / 2, 8);
    end.writeUInt16LE(this.#directory.length / 2, 10);
    end.writeUInt32LE(central.length, 12);
    end.writeUInt32LE(this.#position, 16);
    await this.#write(Buffer.concat([central, end]));
  }

  async #write(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await this.#file.write(bytes, done, bytes.length - done, this.#position + done);
      done += bytesWritten;
    }
    this.#position += bytes.length;
  }
}
