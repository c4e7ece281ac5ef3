import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import fc from 'fast-check';
import sharp from 'sharp';
import { beforeAll, describe, expect, it } from 'vitest';
import { decodeImage, type ImageInput, prepareImage, type RawImage } from '../../src/image/decode.ts';
import { MomeError } from '../../src/runtime/errors.ts';
import { expectCode, golden, temporaryFolder, testImage, turnsDuring } from '../helpers.ts';

let folder = '';
const picture = testImage(3, 24);
beforeAll(async () => {
  folder = await temporaryFolder();
});

const encoded = (format: 'png' | 'jpeg' | 'webp' | 'gif' | 'avif') =>
  sharp(picture.data, { raw: picture })
    .toFormat(format, format === 'webp' || format === 'avif' ? { lossless: true } : {})
    .toBuffer();

describe('decodeImage', () => {
  it.each(['png', 'jpeg', 'webp', 'gif', 'avif'] as const)('reads %s', async (format) => {
    const { data, width, height } = await decodeImage(await encoded(format));
    expect([width, height, data.length]).toEqual([24, 24, 24 * 24 * 3]);
    if (format === 'png' || format === 'webp') expect(data).toEqual(picture.data);
  });

  it('reads paths, URLs, buffers and array buffers alike', async () => {
    const bytes = await encoded('png');
    const path = join(folder, 'a picture.png');
    await writeFile(path, bytes);
    const copy = new Uint8Array(bytes).buffer;
    for (const input of [path, pathToFileURL(path), pathToFileURL(path).href, bytes, copy] as ImageInput[]) {
      expect((await decodeImage(input)).data).toEqual(picture.data);
    }
  });

  it('renders SVG large enough', async () => {
    const svg = Buffer.from(
      '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8" width="8" height="8"><rect width="4" height="8" fill="red"/></svg>',
    );
    const { data, width } = await decodeImage(svg, 64);
    expect(width).toBeGreaterThanOrEqual(64);
    expect([...data.subarray(0, 3)]).toEqual([255, 0, 0]);
    expect([...data.subarray((width - 1) * 3, width * 3)]).toEqual([255, 255, 255]);
  });

  it('lays transparency over white, and grey and 16-bit pictures become RGB', async () => {
    const clear = await sharp({ create: { width: 2, height: 2, channels: 4, background: '#00000000' } })
      .png()
      .toBuffer();
    expect([...(await decodeImage(clear)).data]).toEqual(Array(12).fill(255));
    const grey = await sharp(Buffer.from([10, 200]), { raw: { width: 2, height: 1, channels: 1 } })
      .toColourspace('b-w')
      .png()
      .toBuffer();
    expect([...(await decodeImage(grey)).data]).toEqual([10, 10, 10, 200, 200, 200]);
    const deep = await sharp(picture.data, { raw: picture }).toColourspace('rgb16').png().toBuffer();
    const { data } = await decodeImage(deep);
    expect(data.every((value, i) => Math.abs(value - picture.data[i]!) <= 1)).toBe(true);
  });

  it('turns pictures upright', async () => {
    const turned = await sharp(Buffer.from([255, 0, 0, 0, 0, 255]), { raw: { width: 2, height: 1, channels: 3 } })
      .withMetadata({ orientation: 6 })
      .png()
      .toBuffer();
    expect(await decodeImage(turned)).toMatchObject({ width: 1, height: 2 });
  });

  it('takes raw pixels of 1, 3 and 4 channels, bytes and floats', async () => {
    expect((await decodeImage(picture)).data).toEqual(picture.data);
    const raw = (data: RawImage['data'], channels: 1 | 3 | 4) => decodeImage({ data, width: 1, height: 1, channels });
    expect([...(await raw(Uint8Array.of(9), 1)).data]).toEqual([9, 9, 9]);
    expect([...(await raw(Uint8ClampedArray.of(0, 100, 0, 0), 4)).data]).toEqual([255, 255, 255]);
    expect([...(await raw(Float32Array.of(0, 0.5, 2), 3)).data]).toEqual([0, 128, 255]);
  });

  it.each<[string, ImageInput, 'MOME_INVALID_IMAGE' | 'MOME_NON_FINITE' | 'MOME_TOO_LARGE' | 'MOME_INVALID_ARGUMENT']>([
    ['NaN', { data: Float32Array.of(0, Number.NaN, 0), width: 1, height: 1, channels: 3 }, 'MOME_NON_FINITE'],
    ['too few pixels', { data: new Uint8Array(5), width: 2, height: 1, channels: 3 }, 'MOME_INVALID_IMAGE'],
    ['no pixels', { data: new Uint8Array(0), width: 0, height: 0, channels: 3 }, 'MOME_INVALID_IMAGE'],
    ['two channels', { data: new Uint8Array(2), width: 1, height: 1, channels: 2 as 1 }, 'MOME_INVALID_IMAGE'],
    ['a fractional side', { data: new Uint8Array(3), width: 0.5, height: 2, channels: 3 }, 'MOME_INVALID_IMAGE'],
    ['an absurd side', { data: new Uint8Array(3), width: 65_535, height: 65_535, channels: 3 }, 'MOME_TOO_LARGE'],
    ['no bytes', new Uint8Array(0), 'MOME_INVALID_IMAGE'],
    ['text', Buffer.from('not a picture at all'), 'MOME_INVALID_IMAGE'],
    ['a web address', new URL('http://example.org/a.png'), 'MOME_INVALID_ARGUMENT'],
    ['a file of another machine', 'file://host/x.png', 'MOME_INVALID_ARGUMENT'],
    ['a URL that is none', 'file://%', 'MOME_INVALID_ARGUMENT'],
    ['a URL with an encoded slash', new URL('file:///a%2Fb.png'), 'MOME_INVALID_ARGUMENT'],
    [
      'pixels of 16 bits',
      { data: new Uint16Array(3) as unknown as Uint8Array, width: 1, height: 1, channels: 3 },
      'MOME_INVALID_ARGUMENT',
    ],
    ['a number', 7 as unknown as string, 'MOME_INVALID_ARGUMENT'],
  ])('refuses %s', async (_, input, code) => {
    await expectCode(() => decodeImage(input), code);
  });

  it('converts large pixels in pieces, between which other events run', async () => {
    const side = 1500;
    const data = Float32Array.from({ length: side * side * 4 }, (_, i) => (i % 256) / 255);
    const image = { data, width: side, height: side, channels: 4 } as const;
    expect(await turnsDuring(() => decodeImage(image))).toBeGreaterThan(2);
    const { data: rgb } = await decodeImage(image);
    // Alpha is the fourth of every four values; what it leaves open is white.
    for (const i of [0, 77, side * side - 1]) {
      const over = (c: number) => Math.round((((4 * i + c) % 256) * alpha + 255 * (255 - alpha)) / 255);
      const alpha = (4 * i + 3) % 256;
      expect([...rgb.subarray(3 * i, 3 * i + 3)]).toEqual([over(0), over(1), over(2)]);
    }
  });

  it('refuses a folder and a missing file', async () => {
    await expectCode(() => decodeImage(folder), 'MOME_INVALID_IMAGE');
    await expectCode(() => decodeImage(join(folder, 'missing.png')), 'MOME_NOT_FOUND');
  });

  it('refuses a picture that claims more pixels than it may', async () => {
    const svg = Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="30000" height="30000"/>');
    await expectCode(() => decodeImage(svg), 'MOME_TOO_LARGE');
    // Within the limits by their own sizes, not when the short side is made as large as asked for.
    const drawing = (width: number, height: number) =>
      Buffer.from(`<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}"/>`);
    await expectCode(() => decodeImage(drawing(30_000, 2)), 'MOME_TOO_LARGE');
    await expectCode(() => decodeImage(drawing(900, 150), 5000), 'MOME_TOO_LARGE');
  });

  it('gives a coded error or a picture for damaged files', async () => {
    const files = await Promise.all((['png', 'jpeg', 'webp', 'gif'] as const).map(encoded));
    await fc.assert(
      fc.asyncProperty(
        fc.nat(3),
        fc.nat(5000),
        fc.integer({ min: 1, max: 255 }),
        fc.boolean(),
        async (which, at, change, cut) => {
          const file = files[which]!;
          const bytes = new Uint8Array(cut ? file.subarray(0, at % file.length) : file);
          if (!cut) bytes[at % bytes.length] = bytes[at % bytes.length]! ^ change;
          try {
            const { data, width, height } = await decodeImage(bytes);
            expect(data.length).toBe(width * height * 3);
          } catch (error) {
            expect(error).toBeInstanceOf(MomeError);
          }
        },
      ),
      { numRuns: 120 },
    );
  });
});

describe('prepareImage', () => {
  it('resizes the whole picture', async () => {
    const bytes = await readFile(join(golden('preprocess'), 'image3.png'));
    expect(await prepareImage(bytes, 32)).toHaveLength(32 * 32 * 3);
  });
  it('leaves a picture of the right size alone', async () => {
    expect(await prepareImage(picture, 24)).toEqual(picture.data);
  });
});
