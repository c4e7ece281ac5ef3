/**
 * Picture files to RGB bytes, by sharp. This runs in a decoder process (`decoder.ts`): hostile files may take it down.
 */
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import sharp, { type Sharp, type SharpOptions } from 'sharp';
import { check, MomeError } from '../runtime/errors.ts';
import { embeddedPixels } from './embedded.ts';
import { formatOf, refusal } from './file-kind.ts';
import type { PictureRules } from './frames.ts';
import { maxFileBytes, maxPixels } from './limits.ts';
import { type RgbImage, requireSize, rgbOf } from './pixels.ts';

/** Resolution at which an SVG has its own size, and the highest asked for. */
const svgDensity = 72;
const maxSvgDensity = 2400;
/** Longest side at which drawings are rendered (a limit of the loader). */
const maxSvgSide = 32_767;
/** The loaders that may be used: sharp may have been built with more. */
const formats = new Set(['jpeg', 'png', 'webp', 'gif', 'svg', 'heif', 'avif', 'tiff']);

/** The limit of pixels is checked by the numbers in the header, not by the text of a failure. */
const options = { limitInputPixels: false, failOn: 'error', pages: 1, ignoreIcc: true } as const satisfies SharpOptions;

/**
 * Decodes a picture file: first frame of an animation, upright by its EXIF orientation, transparency laid over white, colour profiles not
 * applied (as in the original preprocessing).
 *
 * @param name its name in errors
 * @param svgSide drawings without pixels are rendered so that their shorter side is at least this long, as far as the limits allow
 * @param onSize called with the number of pixels before they are decoded
 * @param rules `original`: not turned upright, and transparency is dropped instead
 * @param most pixels of the picture, or of all pictures in a drawing
 * @throws MomeError `MOME_INVALID_IMAGE`, `MOME_TOO_LARGE`
 */
export async function decodeFile(
  name: string,
  file: Uint8Array,
  svgSide: number,
  onSize: (pixels: number) => void = () => {},
  rules: PictureRules = 'upright',
  most = maxPixels,
): Promise<RgbImage> {
  check(file.byteLength > 0, 'MOME_INVALID_IMAGE', `${name}: expected a picture, got an empty file`);
  const bytes = formatOf(file) === 'gzip' ? await unpacked(name, file) : file;
  try {
    const header = await sharp(bytes, options).metadata();
    const { format, width, height } = header;
    check(formats.has(format), 'MOME_INVALID_IMAGE', `${name}: ${refusal(bytes)}`);
    requireSize(name, width, height, most);
    const drawn = format === 'svg' ? drawnDensity(width, height, svgSide, most) : undefined;
    const scale = drawn === undefined ? 1 : drawn / svgDensity;
    const embedded = format === 'svg' ? await embeddedPixels(name, bytes, most) : 0;
    onSize(width * scale * height * scale + embedded);
    const opened = sharp(bytes, { ...options, ...(drawn !== undefined && { density: drawn }) });
    const picture = rules === 'upright' ? opened.autoOrient() : opened;
    return header.space === 'cmyk' ? await printed(name, picture) : await shown(name, picture, rules);
  } catch (error) {
    if (error instanceof MomeError) throw error;
    if (/memory|allocat/i.test(String(error))) throw error;
    throw new MomeError('MOME_INVALID_IMAGE', `${name}: ${refusal(bytes)}`, { cause: error });
  }
}

/** A drawing in its packed form, `.svgz`. */
async function unpacked(name: string, file: Uint8Array): Promise<Uint8Array> {
  try {
    return await promisify(gunzip)(file, { maxOutputLength: maxFileBytes });
  } catch (error) {
    const large = error instanceof Error && 'code' in error && error.code === 'ERR_BUFFER_TOO_LARGE';
    throw large
      ? new MomeError('MOME_TOO_LARGE', `${name}: expected at most ${maxFileBytes} bytes when unpacked, got more`)
      : new MomeError('MOME_INVALID_IMAGE', `${name}: ${refusal(file)}`, { cause: error });
  }
}

/**
 * The density at which the shorter side of a drawing is `side` long, its own if it is longer. Thin drawings are rendered as large as the
 * loader goes: the whole is resized to a square afterwards.
 */
function drawnDensity(width: number, height: number, side: number, pixels: number): number {
  const wanted = Math.min(maxSvgDensity, svgDensity * Math.max(1, side / Math.min(width, height)));
  const most = Math.min((maxSvgSide - 1) / Math.max(width, height), Math.sqrt(pixels / (width * height)));
  return Math.min(wanted, svgDensity * most);
}

async function shown(name: string, picture: Sharp, rules: PictureRules): Promise<RgbImage> {
  const opaque = rules === 'upright' ? picture.flatten({ background: '#ffffff' }) : picture.removeAlpha();
  const { data, info } = await opaque
    .toColourspace('srgb')
    .raw({ depth: 'uchar' })
    .toBuffer({ resolveWithObject: true });
  const { width, height, channels } = info;
  const pixels = new Uint8Array(data.buffer, data.byteOffset, data.length);
  if (channels === 3) return { data: pixels, width, height };
  return rgbOf(name, { data: pixels, width, height, channels: channels as 1 | 4 });
}

/** Inks to light by the rule of the original's decoder: what a channel and black leave over, one after the other. */
async function printed(name: string, picture: Sharp): Promise<RgbImage> {
  const { data, info } = await picture
    .pipelineColourspace('cmyk')
    .toColourspace('cmyk')
    .raw({ depth: 'uchar' })
    .toBuffer({ resolveWithObject: true });
  const { width, height, channels } = info;
  check(channels >= 4, 'MOME_INVALID_IMAGE', `${name}: expected four inks, got ${channels}`);
  const rgb = new Uint8Array(width * height * 3);
  for (let i = 0, at = 0; i < rgb.length; i += 3, at += channels) {
    const black = data[at + 3]!;
    for (let c = 0; c < 3; c++) rgb[i + c] = 255 - black - Math.round((data[at + c]! * (255 - black)) / 255);
  }
  return { data: rgb, width, height };
}
