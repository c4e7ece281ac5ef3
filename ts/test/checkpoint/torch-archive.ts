/** Writes archives as `torch.save` does, and ones that `torch.save` never would. */
import { crc32 } from 'node:zlib';

/** A tensor of the archive: every tensor has a storage of its own. */
export interface Pickled {
  readonly storage: 'FloatStorage' | 'HalfStorage' | 'BFloat16Storage' | 'DoubleStorage' | 'LongStorage';
  readonly values: readonly number[];
  readonly shape: readonly number[];
  readonly strides: readonly number[];
  readonly offset?: number;
}

const sizes = { FloatStorage: 4, HalfStorage: 2, BFloat16Storage: 2, DoubleStorage: 8, LongStorage: 8 } as const;

/**
 * @param calls objects made by calling `module.name(argument)`
 */
export function torchArchive(
  tensors: Readonly<Record<string, Pickled>>,
  calls: Readonly<Record<string, readonly [module: string, name: string, argument: string]>> = {},
): Uint8Array {
  const pickle: Buffer[] = [Buffer.from([0x80, 2]), Buffer.from('}(')];
  const files: [string, Buffer][] = [];
  for (const [i, [name, tensor]] of Object.entries(tensors).entries()) {
    pickle.push(text(name), global('torch._utils', '_rebuild_tensor_v2'), Buffer.from('('));
    pickle.push(
      Buffer.from('('),
      text('storage'),
      global('torch', tensor.storage),
      text(String(i)),
      text('cpu'),
      int(tensor.values.length),
      Buffer.from('tQ'),
    );
    pickle.push(
      int(tensor.offset ?? 0),
      tuple(tensor.shape),
      tuple(tensor.strides),
      Buffer.from([0x89]),
      global('collections', 'OrderedDict'),
      Buffer.from(')RtR'),
    );
    files.push([`archive/data/${i}`, encode(tensor)]);
  }
  for (const [name, [module, callee, argument]] of Object.entries(calls)) {
    pickle.push(text(name), global(module, callee), Buffer.from('('), text(argument), Buffer.from('tR'));
  }
  pickle.push(Buffer.from('u.'));
  return zip([['archive/data.pkl', Buffer.concat(pickle)], ...files]);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(bytes.length);
  return Buffer.concat([Buffer.from('X'), length, bytes]);
}

function int(value: number): Buffer {
  const bytes = Buffer.alloc(5);
  bytes.write('J');
  bytes.writeInt32LE(value, 1);
  return bytes;
}

const global = (module: string, name: string): Buffer => Buffer.from(`c${module}\n${name}\n`);
const tuple = (values: readonly number[]): Buffer =>
  Buffer.concat([Buffer.from('('), ...values.map(int), Buffer.from('t')]);

function encode({ storage, values }: Pickled): Buffer {
  const bytes = Buffer.alloc(values.length * sizes[storage]);
  for (const [i, value] of values.entries()) {
    if (storage === 'FloatStorage') bytes.writeFloatLE(value, 4 * i);
    else if (storage === 'DoubleStorage') bytes.writeDoubleLE(value, 8 * i);
    else if (storage === 'LongStorage') bytes.writeBigInt64LE(BigInt(value), 8 * i);
    else if (storage === 'BFloat16Storage')
      bytes.writeUInt16LE(new Uint32Array(Float32Array.of(value).buffer)[0]! >>> 16, 2 * i);
    else bytes.writeUInt16LE(toHalf(value), 2 * i);
  }
  return bytes;
}

/** Numbers that half precision holds exactly. */
function toHalf(value: number): number {
  const exponent = Math.floor(Math.log2(Math.abs(value)));
  const fraction = Math.round((Math.abs(value) / 2 ** exponent - 1) * 1024);
  return (value < 0 ? 0x8000 : 0) | ((exponent + 15) << 10) | fraction;
}

/** A zip archive of stored entries. */
export function zip(files: readonly [string, Buffer][]): Uint8Array {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let position = 0;
  for (const [name, data] of files) {
    const path = Buffer.from(name);
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt32LE(crc32(data), 10);
    common.writeUInt32LE(data.length, 14);
    common.writeUInt32LE(data.length, 18);
    common.writeUInt16LE(path.length, 22);
    const central = Buffer.alloc(46);
    central.writeUInt32LE(0x02014b50, 0);
    common.copy(central, 6);
    central.writeUInt32LE(position, 42);
    directory.push(central, path);
    const local = Buffer.concat([Buffer.from([0x50, 0x4b, 3, 4]), common, path, data]);
    parts.push(local);
    position += local.length;
  }
  const central = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(files.length, 8);
  end.writeUInt16LE(files.length, 10);
  end.writeUInt32LE(central.length, 12);
  end.writeUInt32LE(position, 16);
  return Buffer.concat([...parts, central, end]);
}
