/** A decoded picture to the square that training sees: changed, cut, resized and mirrored as a description says. */
import { changed, flipped, type PixelOperation } from './pixel-operations.ts';
import type { RgbImage } from './pixels.ts';
import { resized } from './resize.ts';

/** A part of a picture by chance, before its size is known. */
export interface CropTry {
  /** Share of the picture's area. */
  readonly area: number;
  /** Width by height. */
  readonly ratio: number;
  /** Place between the left and right end, and the top and bottom end, from 0 to below 1. */
  readonly x: number;
  readonly y: number;
}

/** What is done to a picture, in this order. Plain data, so that it can be sent to a decoder. */
export interface PictureTransform {
  readonly before?: readonly PixelOperation[];
  readonly flip?: boolean;
  /** The first part that lies inside the picture is taken; else its middle, with a ratio within these bounds. */
  readonly crop?: { readonly tries: readonly CropTry[]; readonly ratios: readonly [lowest: number, highest: number] };
  /** Changes of the finished square. */
  readonly after?: readonly PixelOperation[];
}

/** The square of side `size`. `picture.data` must stay as it is until then. */
export async function transformed(picture: RgbImage, size: number, transform: PictureTransform): Promise<RgbImage> {
  const { before = [], flip = false, crop, after = [] } = transform;
  let made = before.reduce(changed, picture);
  if (crop) made = cut(made, cropOf(made, crop));
  made = await resized(made, size);
  if (flip) made = flipped(made);
  return after.reduce(changed, made);
}

/** A rectangle in pixels. */
export interface Rectangle {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

/** The part of a picture that a crop takes. */
export function cropOf(
  { width, height }: Pick<RgbImage, 'width' | 'height'>,
  { tries, ratios }: NonNullable<PictureTransform['crop']>,
): Rectangle {
  for (const { area, ratio, x, y } of tries) {
    const pixels = area * width * height;
    const w = Math.round(Math.sqrt(pixels * ratio));
    const h = Math.round(Math.sqrt(pixels / ratio));
    if (w < 1 || h < 1 || w > width || h > height) continue;
    return { left: Math.floor(x * (width - w + 1)), top: Math.floor(y * (height - h + 1)), width: w, height: h };
  }
  const [lowest, highest] = ratios;
  const w = Math.max(1, Math.min(width, Math.round(height * highest)));
  const h = Math.max(1, Math.min(height, Math.round(width / lowest)));
  return { left: (width - w) >> 1, top: (height - h) >> 1, width: w, height: h };
}

function cut({ data, width }: RgbImage, part: Rectangle): RgbImage {
  const out = new Uint8Array(3 * part.width * part.height);
  for (let row = 0; row < part.height; row++) {
    const from = 3 * ((part.top + row) * width + part.left);
    out.set(data.subarray(from, from + 3 * part.width), 3 * row * part.width);
  }
  return { data: out, width: part.width, height: part.height };
}
