/**
 * Pictures of any kind to RGB bytes: decoding by sharp, resizing by the native kernel that matches the original preprocessing.
 */
import { readFile, stat } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { types } from 'node:util';
import sharp from 'sharp';
import { native } from '../runtime/addon.ts';
import { check, MomeError } from '../runtime/errors.ts';
import { inPieces } from '../runtime/pace.ts';

/** Pixels in memory: rows from top to bottom, channels interleaved. */
export interface RawImage {
  /** Bytes, or floats in [0, 1]; width * height * channels of them. */
  readonly data: Uint8Array | Uint8ClampedArray | Float32Array;
  readonly width: number;
  readonly height: number;
  /** 1 grey, 3 RGB, 4 RGBA (laid over white). */
  readonly channels: 1 | 3 | 4;
}

/** A picture: path, `file:` URL, the bytes of a JPEG, PNG, WebP, GIF, SVG or AVIF file, or pixels. */
export type ImageInput = string | URL | Uint8Array | ArrayBuffer | RawImage;

/** RGB bytes [height, width, 3]. */
export interface RgbImage {
  readonly data: Uint8Array;
  readonly width: number;
  readonly height: number;
}

/** Largest file, and most pixels of a picture. */
const maxFileBytes = 256 * 2 ** 20;
const maxPixels = 2 ** 27;
const maxSide = 65_535;
/** Resolution at which an SVG has its own size, and the highest asked for. */
const svgDensity = 72;
const maxSvgDensity = 2400;
/** Longest side at which drawings are rendered (a limit of the loader). */
const maxSvgSide = 32_767;

/**
 * Decodes a picture: first frame of an animation, upright by its EXIF orientation, transparency laid over white, colour profiles
 * not applied (as in the original preprocessing).
 *
 * @param svgSide drawings without pixels are rendered at least this large
 * @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_IMAGE`, `MOME_TOO_LARGE`, `MOME_NON_FINITE`, `MOME_INVALID_ARGUMENT`
 */
export async function decodeImage(input: ImageInput, svgSide = 224): Promise<RgbImage> {
  if (isRaw(input)) return fromRaw(input);
  const where = typeof input === 'string' || input instanceof URL ? String(input) : 'image';
  const bytes = await fileBytes(input);
  check(bytes.byteLength > 0, 'MOME_INVALID_IMAGE', `${where}: expected a picture, got no bytes`);
  try {
    const options = { limitInputPixels: maxPixels, failOn: 'error', pages: 1, ignoreIcc: true } as const;
    // The header alone is read here, so the limit can be checked by numbers instead of by what a failure says.
    const header = await sharp(bytes, { ...options, limitInputPixels: false }).metadata();
    const { format, width = 1, height = 1, density = svgDensity } = header;
    const larger =
      format === 'svg' ? Math.min(maxSvgDensity, density * Math.max(1, svgSide / Math.min(width, height))) : undefined;
    const scale = larger === undefined ? 1 : Math.max(1, larger / density);
    check(
      width * scale * height * scale <= maxPixels &&
        (format !== 'svg' || Math.max(width, height) * scale <= maxSvgSide),
      'MOME_TOO_LARGE',
      `${where}: expected at most ${maxPixels} pixels${format === 'svg' ? ` and sides of ${maxSvgSide}` : ''}, got ${Math.round(width * scale)} x ${Math.round(height * scale)}`,
    );
    const { data, info } = await sharp(bytes, { ...options, ...(larger !== undefined && { density: larger }) })
      .autoOrient()
      .flatten({ background: '#ffffff' })
      .toColourspace('srgb')
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true });
    return fromRaw({
      data: new Uint8Array(data.buffer, data.byteOffset, data.length),
      width: info.width,
      height: info.height,
      channels: info.channels as 1 | 3 | 4,
    });
  } catch (error) {
    if (error instanceof MomeError) throw error;
    throw new MomeError(
      'MOME_INVALID_IMAGE',
      `${where}: expected a JPEG, PNG, WebP, GIF, SVG or AVIF picture, could not decode it`,
      { cause: error },
    );
  }
}

/** Decodes a picture and resizes the whole of it to `size` x `size`, bicubic and antialiased, as the original does. */
export async function prepareImage(input: ImageInput, size: number): Promise<Uint8Array> {
  const { data, width, height } = await decodeImage(input, size);
  if (width === size && height === size) return data;
  return native((addon) => addon.resizeBicubic(data, width, height, size, size));
}

function isRaw(input: ImageInput): input is RawImage {
  return typeof input === 'object' && input !== null && 'data' in input && 'width' in input;
}

async function fileBytes(input: Exclude<ImageInput, RawImage>): Promise<Uint8Array> {
  if (input instanceof ArrayBuffer) return new Uint8Array(input);
  if (input instanceof Uint8Array) return input;
  let path: string;
  if (input instanceof URL || (typeof input === 'string' && input.startsWith('file:'))) {
    path = pathOfUrl(input);
  } else {
    check(
      typeof input === 'string',
      'MOME_INVALID_ARGUMENT',
      `image: expected a path, URL, bytes or pixels, got ${typeof input}`,
    );
    path = input;
  }
  try {
    const info = await stat(path);
    check(info.isFile(), 'MOME_INVALID_IMAGE', `${path}: expected a picture file`);
    check(
      info.size <= maxFileBytes,
      'MOME_TOO_LARGE',
      `${path}: expected at most ${maxFileBytes} bytes, got ${info.size}`,
    );
    return await readFile(path);
  } catch (error) {
    if (error instanceof MomeError) throw error;
    throw new MomeError('MOME_NOT_FOUND', `${path}: expected a picture, could not read it`, { cause: error });
  }
}

function pathOfUrl(input: string | URL): string {
  try {
    return fileURLToPath(input);
  } catch (error) {
    throw new MomeError('MOME_INVALID_ARGUMENT', `image: expected a file: URL of this machine, got ${String(input)}`, {
      cause: error,
    });
  }
}

async function fromRaw({ data, width, height, channels }: RawImage): Promise<RgbImage> {
  const side = (value: number) => Number.isInteger(value) && value >= 1 && value <= maxSide;
  check(
    side(width) && side(height),
    'MOME_INVALID_IMAGE',
    `image: expected sides of 1 to ${maxSide} pixels, got ${width} x ${height}`,
  );
  check(
    width * height <= maxPixels,
    'MOME_TOO_LARGE',
    `image: expected at most ${maxPixels} pixels, got ${width} x ${height}`,
  );
  check(
    channels === 1 || channels === 3 || channels === 4,
    'MOME_INVALID_IMAGE',
    `image: expected 1, 3 or 4 channels, got ${String(channels)}`,
  );
  check(
    types.isUint8Array(data) || types.isUint8ClampedArray(data) || types.isFloat32Array(data),
    'MOME_INVALID_ARGUMENT',
    `image: expected pixels as Uint8Array, Uint8ClampedArray or Float32Array, got ${Object.prototype.toString.call(data).slice(8, -1)}`,
  );
  check(
    data.length === width * height * channels,
    'MOME_INVALID_IMAGE',
    `image: expected ${width * height * channels} values for ${width} x ${height} x ${channels}, got ${data.length}`,
  );
  const bytes = types.isFloat32Array(data) ? await floatsToBytes(data) : data;
  if (channels === 3) return { data: new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length), width, height };
  const rgb = new Uint8Array(width * height * 3);
  await inPieces(width * height, (begin, end) => {
    for (let i = begin; i < end; i++) {
      const alpha = channels === 4 ? bytes[4 * i + 3]! : 255;
      for (let c = 0; c < 3; c++) {
        const value = bytes[channels === 1 ? i : 4 * i + c]!;
        rgb[3 * i + c] = Math.round((value * alpha + 255 * (255 - alpha)) / 255);
      }
    }
  });
  return { data: rgb, width, height };
}

async function floatsToBytes(values: Float32Array): Promise<Uint8Array> {
  const bytes = new Uint8Array(values.length);
  await inPieces(values.length, (begin, end) => {
    for (let i = begin; i < end; i++) {
      const value = values[i]!;
      check(Number.isFinite(value), 'MOME_NON_FINITE', `image: expected finite pixels, got ${value} at ${i}`);
      bytes[i] = Math.round(255 * Math.min(1, Math.max(0, value)));
    }
  });
  return bytes;
}
