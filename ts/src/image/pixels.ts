/**
 * Pixels in memory: the forms that callers may give, and how they become RGB bytes.
 */
import { types } from 'node:util';
import { check, MomeError } from '../runtime/errors.ts';
import { inPieces } from '../runtime/pace.ts';
import { maxPixels, maxSide } from './limits.ts';

/** Pixels in memory: rows from top to bottom, channels interleaved. An `ImageData` of a canvas is one. */
export interface RawImage {
  /** Bytes, or floats in [0, 1]; width * height * channels of them. */
  readonly data: Uint8Array | Uint8ClampedArray | Float32Array;
  readonly width: number;
  readonly height: number;
  /** 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA (alpha is laid over white); default: as many as `data` has for each pixel. */
  readonly channels?: 1 | 2 | 3 | 4;
}

/** RGB bytes [height, width, 3]. */
export interface RgbImage {
  readonly data: Uint8Array;
  readonly width: number;
  readonly height: number;
}

/**
 * Channels of pixels that are whole.
 *
 * @throws MomeError `MOME_INVALID_ARGUMENT`, `MOME_INVALID_IMAGE`, `MOME_TOO_LARGE`
 */
function channelsOf(name: string, { data, width, height, channels }: RawImage): 1 | 2 | 3 | 4 {
  check(
    types.isUint8Array(data) || types.isUint8ClampedArray(data) || types.isFloat32Array(data),
    'MOME_INVALID_ARGUMENT',
    `${name}: expected pixels as Uint8Array, Uint8ClampedArray or Float32Array, got ${Object.prototype.toString.call(data).slice(8, -1)}`,
  );
  const whole = (value: number) => Number.isInteger(value) && value >= 1;
  check(
    whole(width) && whole(height),
    'MOME_INVALID_IMAGE',
    `${name}: expected sides of 1 to ${maxSide} pixels, got ${String(width)} x ${String(height)}`,
  );
  requireSize(name, width, height);
  const given = channels ?? data.length / (width * height);
  check(
    given === 1 || given === 2 || given === 3 || given === 4,
    'MOME_INVALID_IMAGE',
    `${name}: expected 1 to 4 channels, got ${String(given)}`,
  );
  check(
    data.length === width * height * given,
    'MOME_INVALID_IMAGE',
    `${name}: expected ${width * height * given} values for ${width} x ${height} x ${given}, got ${data.length}`,
  );
  return given;
}

/** @throws MomeError `MOME_TOO_LARGE` unless sides and pixels are within the limits. @param most pixels, where fewer are allowed */
export function requireSize(name: string, width: number, height: number, most = maxPixels): void {
  check(
    width <= maxSide && height <= maxSide,
    'MOME_TOO_LARGE',
    `${name}: expected sides of at most ${maxSide} pixels, got ${width} x ${height}`,
  );
  check(width * height <= most, 'MOME_TOO_LARGE', `${name}: expected at most ${most} pixels, got ${width} x ${height}`);
}

/**
 * RGB bytes of pixels, in memory of their own: the array may change or leave this thread once its turn was taken.
 *
 * @throws MomeError as `channelsOf`; `MOME_NON_FINITE`; `MOME_INVALID_ARGUMENT` where the array was transferred meanwhile
 */
export async function rgbOf(name: string, image: RawImage, signal?: AbortSignal): Promise<RgbImage> {
  const { data, width, height } = image;
  const channels = channelsOf(name, image);
  const count = width * height;
  const rgb = new Uint8Array(count * 3);
  await inPieces(count, (begin, end) => {
    signal?.throwIfAborted();
    requireAttached(name, data.length, count * channels);
    const part = data.subarray(begin * channels, end * channels);
    const bytes = types.isFloat32Array(part) ? bytesOfFloats(name, part, begin * channels) : part;
    writeRgb(bytes, channels, rgb.subarray(begin * 3, end * 3));
  });
  return { data: rgb, width, height };
}

function writeRgb(bytes: Uint8Array | Uint8ClampedArray, channels: 1 | 2 | 3 | 4, rgb: Uint8Array): void {
  if (channels === 3) {
    rgb.set(bytes);
    return;
  }
  for (let i = 0, at = 0; i < rgb.length; i += 3, at += channels) {
    if (channels === 1) {
      rgb[i] = rgb[i + 1] = rgb[i + 2] = bytes[at]!;
      continue;
    }
    const alpha = bytes[at + channels - 1]!;
    const white = 255 * (255 - alpha);
    for (let c = 0; c < 3; c++) {
      const value = bytes[channels === 2 ? at : at + c]!;
      rgb[i + c] = Math.round((value * alpha + white) / 255);
    }
  }
}

/** @param first index of the first value, for messages */
function bytesOfFloats(name: string, values: Float32Array, first: number): Uint8Array {
  const bytes = new Uint8Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (!Number.isFinite(value)) {
      throw new MomeError('MOME_NON_FINITE', `${name}: expected finite pixels, got ${value} at ${first + i}`);
    }
    bytes[i] = Math.round(255 * Math.min(1, Math.max(0, value)));
  }
  return bytes;
}

/** @throws MomeError `MOME_INVALID_ARGUMENT` where an array has lost its memory to another thread */
export function requireAttached(name: string, length: number, expected: number): void {
  check(
    length === expected,
    'MOME_INVALID_ARGUMENT',
    `${name}: expected memory that stays with the caller until the call has settled, got an array that was transferred or resized`,
  );
}
