import { createReadStream } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { Readable } from 'node:stream';
import { pathToFileURL } from 'node:url';
import { runInNewContext } from 'node:vm';
import sharp from 'sharp';
import { beforeAll, describe, expect, it } from 'vitest';
import { type ImageInput, shortName, takePictures } from '../../src/image/input.ts';
import type { RawImage } from '../../src/image/pixels.ts';
import { prepareImage } from '../../src/image/prepare.ts';
import type { ErrorCode } from '../../src/runtime/errors.ts';
import { expectCode, golden, soonAborted, temporaryFolder, testImage, turnsDuring } from '../helpers.ts';

const side = 24;
const picture = testImage(3, side);
let folder = '';
let bytes = Buffer.alloc(0);
let path = '';
beforeAll(async () => {
  folder = await temporaryFolder();
  bytes = await sharp(picture.data, { raw: picture }).png().toBuffer();
  path = join(folder, 'a #1 100% é.png');
  await writeFile(path, bytes);
});

/** Another realm's class of this name, called with `value`. */
const foreign = (name: string, value: unknown): unknown => runInNewContext(`new ${name}(value)`, { value });
const unreadable = () =>
  Object.defineProperty({ protocol: 'x:' }, 'href', {
    get() {
      throw new Error('no');
    },
  });
const revoked = () => {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
};
const raw = (info: object) => ({ format: 'raw', width: side, height: side, channels: 3, depth: 'uchar', ...info });
const percent = () => [...bytes].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('');
const base64 = () => `data:image/png;base64,${bytes.toString('base64')}`;

const inputs: Record<string, () => unknown> = {
  path: () => path,
  'relative path': () => relative(process.cwd(), path),
  'file: URL': () => pathToFileURL(path),
  'text of a file: URL': () => pathToFileURL(path).href.replace('file:', 'FILE:'),
  'data: URL, base64': () => new URL(base64()),
  'data: URL, base64 as text, in lines': () => base64().replace(/(.{76})/g, '$1\n'),
  'data: URL, base64 with escapes': () => base64().replaceAll('+', '%2B').replaceAll('/', '%2f').replaceAll('=', '%3D'),
  'data: URL, escaped': () => `data:image/png,${percent()}`,
  Buffer: () => bytes,
  'view into a larger buffer': () => new Uint8Array(Buffer.concat([Buffer.alloc(9), bytes]).subarray(9)),
  DataView: () => new DataView(bytes.buffer, bytes.byteOffset, bytes.length),
  ArrayBuffer: () => new Uint8Array(bytes).buffer,
  SharedArrayBuffer: () => {
    const shared = new SharedArrayBuffer(bytes.length);
    new Uint8Array(shared).set(bytes);
    return shared;
  },
  'Uint8Array of another realm': () => foreign('Uint8Array', [...bytes]),
  'ArrayBuffer of another realm': () => (foreign('Uint8Array', [...bytes]) as Uint8Array).buffer,
  Blob: () => new Blob([bytes]),
  File: () => new File([bytes], 'a.png'),
  Response: () => new Response(bytes),
  'stream of the web': () => new Blob([bytes]).stream(),
  'stream of Node': () => createReadStream(path, { highWaterMark: 100 }),
  'stream of pieces': () => Readable.from([bytes.subarray(0, 50), bytes.subarray(50)]),
  pixels: () => picture,
  'pixels of another realm': () => ({ ...picture, data: foreign('Uint8Array', [...picture.data]) }),
  'output of sharp, a file': () =>
    sharp(picture.data, { raw: picture }).webp({ lossless: true }).toBuffer({ resolveWithObject: true }),
  'output of sharp, pixels': () => sharp(bytes).raw().toBuffer({ resolveWithObject: true }),
  'output of sharp in an Uint8Array': () => sharp(bytes).raw().toUint8Array(),
  'instance of sharp': () => sharp(bytes),
  'instance of sharp that was resized': () =>
    sharp(bytes)
      .resize(9 * side, 9 * side, { kernel: 'nearest' })
      .resize(side, side, { kernel: 'nearest' }),
  'instance of sharp that a stream fills': () => createReadStream(path).pipe(sharp()),
  'pixels without channels': () => ({ data: picture.data, width: side, height: side }),
};

describe('ImageInput', () => {
  it.each(Object.keys(inputs))('may be a %s', async (kind) => {
    const input = (await inputs[kind]!()) as ImageInput;
    expect(Buffer.from(await prepareImage(input, side))).toEqual(Buffer.from(picture.data));
  });

  it.each<[string, () => unknown, ErrorCode, RegExp]>([
    ['null', () => null, 'MOME_INVALID_ARGUMENT', /^null: .*got null$/],
    ['undefined', () => undefined, 'MOME_INVALID_ARGUMENT', /got undefined$/],
    ['a number', () => 7, 'MOME_INVALID_ARGUMENT', /got a number$/],
    ['a list of bytes', () => [...bytes], 'MOME_INVALID_ARGUMENT', /got a list/],
    ['a promise', () => Promise.resolve(bytes), 'MOME_INVALID_ARGUMENT', /a promise; await it/],
    ['a Buffer as JSON', () => bytes.toJSON(), 'MOME_INVALID_ARGUMENT', /Buffer\.from/],
    ['data with an empty info', () => ({ data: bytes, info: {} }), 'MOME_INVALID_ARGUMENT', /without the info\.format/],
    [
      'sharp output with a text',
      () => ({ data: 'x', info: { format: 'png' } }),
      'MOME_INVALID_ARGUMENT',
      /data are no bytes$/,
    ],
    ['sharp pixels in a list', () => ({ data: [1], info: raw({}) }), 'MOME_INVALID_ARGUMENT', /a Buffer, got Array/],
    [
      'sharp pixels of 16 bits',
      () => ({ data: bytes, info: raw({ depth: 'ushort' }) }),
      'MOME_INVALID_ARGUMENT',
      /uchar/,
    ],
    [
      'sharp inks',
      () => ({ data: bytes, info: raw({ channels: 4, hasAlpha: false }) }),
      'MOME_INVALID_ARGUMENT',
      /'srgb'/,
    ],
    [
      'premultiplied',
      () => ({ data: bytes, info: raw({ premultiplied: true }) }),
      'MOME_INVALID_ARGUMENT',
      /premultiplied$/,
    ],
    [
      'sharp pixels of another size',
      () => ({ data: bytes, info: raw({ height: 7 }) }),
      'MOME_INVALID_IMAGE',
      /values for/,
    ],
    ['a pipeline that fails', () => sharp(Buffer.from('no picture')), 'MOME_INVALID_IMAGE', /pipeline of sharp/],
    [
      'a pipeline of a missing file',
      () => sharp(join(folder, 'missing.png')),
      'MOME_INVALID_IMAGE',
      /pipeline of sharp/,
    ],
    ['an object', () => ({ url: 'x' }), 'MOME_INVALID_ARGUMENT', /an object \{ url \}$/],
    ['an object that throws', unreadable, 'MOME_INVALID_ARGUMENT', /could not read it/],
    ['a proxy that was revoked', revoked, 'MOME_INVALID_ARGUMENT', /could not read it/],
    ['a web address', () => 'https://example.org/a.png', 'MOME_INVALID_ARGUMENT', /fetch it first/],
    ['a URL of the web', () => new URL('http://example.org/a.png'), 'MOME_INVALID_ARGUMENT', /fetch it first/],
    ['another URL', () => 's3://bucket/a.png', 'MOME_INVALID_ARGUMENT', /s3: URL/],
    ['a file of another machine', () => 'file://host/x.png', 'MOME_INVALID_ARGUMENT', /of this machine/],
    ['a URL with an encoded slash', () => new URL('file:///a%2Fb.png'), 'MOME_INVALID_ARGUMENT', /file: URL/],
    ['an empty text', () => '', 'MOME_INVALID_ARGUMENT', /empty text/],
    ['a NUL', () => 'a\0b', 'MOME_INVALID_ARGUMENT', /NUL/],
    ['a data: URL without a comma', () => 'data:image/png;base64', 'MOME_INVALID_ARGUMENT', /comma/],
    ['base64 that is none', () => 'data:image/png;base64,?!', 'MOME_INVALID_ARGUMENT', /base64/],
    ['a missing file', () => join(folder, 'missing.png'), 'MOME_NOT_FOUND', /found none/],
    ['a name that is too long', () => 'x'.repeat(5000), 'MOME_NOT_FOUND', /no path has 5000 characters$/],
    ['base64', () => bytes.toString('base64'), 'MOME_NOT_FOUND', /looks like base64: give a data: URL/],
    ['short base64', () => bytes.toString('base64').slice(0, 60), 'MOME_NOT_FOUND', /found none; it looks like base64/],
    [
      'short base64 of a JPEG',
      () => '/9j/4AAQSkZJRgABAQAAAQABAAD',
      'MOME_NOT_FOUND',
      /found none; it looks like base64/,
    ],
    ['a folder', () => folder, 'MOME_INVALID_IMAGE', /got a folder/],
    ['a device', () => '/dev/zero', 'MOME_INVALID_IMAGE', /pipe or device/],
    ['a page that is not there', () => new Response('no', { status: 404 }), 'MOME_INVALID_ARGUMENT', /HTTP status 404/],
    ['an empty Response', () => new Response(null), 'MOME_INVALID_IMAGE', /empty file/],
    ['a stream of text', () => Readable.from(['a'], { encoding: 'utf8' }), 'MOME_INVALID_ARGUMENT', /one of text/],
    ['a stream that fails', () => createReadStream(join(folder, 'missing.png')), 'MOME_IO', /to its end/],
    [
      'a Blob that is too large',
      () => ({ size: 2 ** 40, type: '', arrayBuffer: async () => null }),
      'MOME_TOO_LARGE',
      /bytes/,
    ],
  ])('is not %s', async (_, input, code, message) => {
    const error = await expectCode(() => prepareImage(input() as ImageInput, side), code);
    expect(error.message).toMatch(message);
    expect(error.message.length).toBeLessThan(330);
  });

  it.each<[string, unknown, ErrorCode]>([
    ['NaN', { data: Float32Array.of(0, Number.NaN, 0), width: 1, height: 1, channels: 3 }, 'MOME_NON_FINITE'],
    ['too few values', { data: new Uint8Array(5), width: 2, height: 1, channels: 3 }, 'MOME_INVALID_IMAGE'],
    ['no sides', { data: new Uint8Array(0), width: 0, height: 0, channels: 3 }, 'MOME_INVALID_IMAGE'],
    ['five channels', { data: new Uint8Array(5), width: 1, height: 1, channels: 5 }, 'MOME_INVALID_IMAGE'],
    ['a fractional side', { data: new Uint8Array(3), width: 0.5, height: 2, channels: 3 }, 'MOME_INVALID_IMAGE'],
    ['a long side', { data: new Uint8Array(65_536), width: 65_536, height: 1, channels: 1 }, 'MOME_TOO_LARGE'],
    ['an absurd size', { data: new Uint8Array(3), width: 65_535, height: 65_535, channels: 3 }, 'MOME_TOO_LARGE'],
    ['16 bits', { data: new Uint16Array(3), width: 1, height: 1, channels: 3 }, 'MOME_INVALID_ARGUMENT'],
    ['a plain list', { data: [0, 0, 0], width: 1, height: 1, channels: 3 }, 'MOME_INVALID_ARGUMENT'],
  ])('has no pixels with %s', async (_, input, code) => {
    await expectCode(() => prepareImage(input as ImageInput, side), code);
  });

  it('may be pixels of 1 to 4 channels, bytes and floats', async () => {
    const raw = async (data: RawImage['data'], channels: 1 | 2 | 3 | 4) => [
      ...(await prepareImage({ data, width: 1, height: 1, channels }, 1)),
    ];
    expect(await raw(Uint8Array.of(9), 1)).toEqual([9, 9, 9]);
    expect(await raw(Uint8Array.of(0, 51), 2)).toEqual([204, 204, 204]);
    expect(await raw(Uint8ClampedArray.of(0, 100, 0, 0), 4)).toEqual([255, 255, 255]);
    expect(await raw(Uint8ClampedArray.of(0, 100, 255, 51), 4)).toEqual([204, 224, 255]);
    expect(await raw(Float32Array.of(-1, 0.5, 2), 3)).toEqual([0, 128, 255]);
  });

  it('is converted in pieces, between which other events run', async () => {
    const large = 1500;
    const data = Float32Array.from({ length: large * large * 4 }, (_, i) => (i % 256) / 255);
    const image = { data, width: large, height: large, channels: 4 } as const;
    expect(await turnsDuring(() => prepareImage(image, large))).toBeGreaterThan(2);
    const rgb = await prepareImage(image, large);
    // Alpha is the fourth of every four values; what it leaves open is white.
    for (const i of [0, 77, large * large - 1]) {
      const alpha = (4 * i + 3) % 256;
      const over = (c: number) => Math.round((((4 * i + c) % 256) * alpha + 255 * (255 - alpha)) / 255);
      expect([...rgb.subarray(3 * i, 3 * i + 3)]).toEqual([over(0), over(1), over(2)]);
    }
  });
});

describe('takePictures', () => {
  it('takes memory over: what happens to it later changes nothing', async () => {
    const raw = { ...picture, data: new Uint8Array(picture.data) };
    const file = new Uint8Array(bytes);
    const [pixels, encodedPicture] = takePictures([raw, file]);
    raw.data.fill(0);
    structuredClone(file, { transfer: [file.buffer] });
    for (const source of [pixels!, encodedPicture!]) {
      expect(Buffer.from(await prepareImage(source, side))).toEqual(Buffer.from(picture.data));
    }
  });

  it('takes over pixels in a Buffer, whose slices share its memory', async () => {
    const raw = { ...picture, data: Buffer.from(picture.data) };
    const [pixels] = takePictures([raw]);
    raw.data.fill(0);
    expect(Buffer.from(await prepareImage(pixels!, side))).toEqual(Buffer.from(picture.data));
  });

  it('says that large memory was transferred before its turn came', async () => {
    const data = new Uint8Array(6000 * 6000);
    const prepared = prepareImage({ data, width: 6000, height: 6000, channels: 1 }, side);
    const [file] = takePictures([data]);
    structuredClone(data, { transfer: [data.buffer] });
    for (const call of [() => prepared, () => prepareImage(file!, side)]) {
      const error = await expectCode(call, 'MOME_INVALID_ARGUMENT');
      expect(error.message).toMatch(/transferred/);
    }
  });

  it('reads streams that use the same memory for every piece', async () => {
    async function* pieces() {
      const memory = new Uint8Array(16);
      for (let at = 0; at < bytes.length; at += memory.length) {
        const length = bytes.copy(memory, 0, at);
        yield memory.subarray(0, length);
      }
    }
    expect(Buffer.from(await prepareImage(pieces(), side))).toEqual(Buffer.from(picture.data));
  });

  it('lets other events run while a stream always has its next piece', async () => {
    async function* pieces() {
      for (;;) yield new Uint8Array(0);
    }
    await expectCode(() => prepareImage(pieces(), side, { signal: AbortSignal.timeout(100) }), 'MOME_ABORTED');
  });

  it('refuses streams that cannot be read', async () => {
    const stream = {
      [Symbol.asyncIterator]() {
        throw new Error('no');
      },
    };
    await expectCode(() => prepareImage(stream, side), 'MOME_IO');
  });

  it('reads a stream once for all places that show it', async () => {
    const stream = new Blob([bytes]).stream();
    const [first, second] = takePictures([stream, stream]);
    expect(first).toBe(second);
    expect(takePictures([first])[0]).toBe(first);
    await prepareImage(first!, side);
    expect(Buffer.from(await prepareImage(second!, side))).toEqual(Buffer.from(picture.data));
    const error = await expectCode(() => prepareImage(stream, side), 'MOME_INVALID_ARGUMENT');
    expect(error.message).toMatch(/nobody has read/);
  });

  it('stops reading a stream that never ends, by the signal and by its length', async () => {
    let cancelled = false;
    const silent = new ReadableStream({
      cancel: () => {
        cancelled = true;
      },
    });
    const error = await expectCode(() => prepareImage(silent, side, { signal: soonAborted() }), 'MOME_ABORTED');
    expect(error.cause).toEqual(new Error('enough'));
    expect(cancelled).toBe(true);
    const piece = new Uint8Array(2 ** 24);
    const endless = new Readable({ read: () => void endless.push(piece) });
    await expectCode(() => prepareImage(endless, side), 'MOME_TOO_LARGE');
    expect(endless.destroyed).toBe(true);
  });
});

describe('shortName', () => {
  it.each<[unknown, string]>([
    ['a/b.png', 'a/b.png'],
    ['a\u001b[31m.png', 'a\\u001b[31m.png'],
    [`/${'x'.repeat(500)}/name.jpg`, `...${'x'.repeat(88)}/name.jpg`],
    [`data:image/png;base64,${'A'.repeat(3_000_000)}`, 'data:image/png;base64 of 3000022 characters'],
    [new Uint8Array(3), 'Uint8Array of 3 bytes'],
    [new File([], 'cat.png'), 'cat.png'],
    [new Blob([]), 'Blob'],
    [picture, 'pixels of 24 x 24'],
    [null, 'null'],
    [Symbol('x'), 'Symbol(x)'],
  ])('of input %#', (input, name) => {
    expect(shortName(input)).toBe(name);
  });
});

describe('prepareImage', () => {
  it('resizes the whole picture', async () => {
    expect(await prepareImage(join(golden('preprocess'), 'image3.png'), 32)).toHaveLength(32 * 32 * 3);
  });
});

describe('an instance of sharp', () => {
  it('is taken as it was, and stays the same', async () => {
    const instance = sharp(bytes);
    const [source] = takePictures([instance]);
    instance.resize(3, 3).negate();
    expect(Buffer.from(await prepareImage(source!, side))).toEqual(Buffer.from(picture.data));
    expect((await sharp(await instance.png().toBuffer()).metadata()).width).toBe(3);
  });

  it('and its output fit the types', () => {
    const takes = (input: ImageInput) => input;
    takes(sharp(bytes));
    const output: Promise<ImageInput> = sharp(bytes).toBuffer({ resolveWithObject: true });
    expect(output).toBeInstanceOf(Promise);
  });

  it('ends with its call', async () => {
    // Nobody ever writes into it.
    await expectCode(() => prepareImage(sharp(), side, { signal: soonAborted() }), 'MOME_ABORTED');
  });

  it('has names in messages', () => {
    expect(shortName(sharp())).toBe('an instance of sharp');
    expect(shortName({ data: bytes, info: { format: 'png\n' } })).toBe('png\\u000a of sharp');
  });
});

it('pixels of sharp are copied when they are taken over', async () => {
  const output = await sharp(bytes).raw().toBuffer({ resolveWithObject: true });
  const [source] = takePictures([output]);
  output.data.fill(0);
  output.info.width = 1;
  expect(Buffer.from(await prepareImage(source!, side))).toEqual(Buffer.from(picture.data));
});
