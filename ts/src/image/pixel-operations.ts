/**
 * Changes of pictures for augmentation, computed as Pillow does: results are cut to whole numbers, not rounded, and points between pixels are
 * bilinear.
 */
import type { RgbImage } from './pixels.ts';

/** A change of a picture that keeps its size. Plain data, so that it can be sent to a decoder. */
export type PixelOperation =
  | { readonly name: 'autocontrast' | 'equalize' }
  /** Blends with black, the mean grey, grey, or a smoothed picture: 1 changes nothing, below 1 more of the other, above 1 away from it. */
  | { readonly name: 'brightness' | 'contrast' | 'saturation' | 'sharpness'; readonly factor: number }
  /** Pixels come from so many pixels further for each pixel down (x) or right (y). */
  | { readonly name: 'shearX' | 'shearY'; readonly slope: number }
  /** Pixels come from so many pixels further right (x) or down (y). */
  | { readonly name: 'translateX' | 'translateY'; readonly pixels: number }
  /** About the middle, against the clock. */
  | { readonly name: 'rotate'; readonly degrees: number };

/** Colour of what comes from outside the picture. */
const fill = 128;

/** The changed picture; the given one stays as it is. */
export function changed(picture: RgbImage, operation: PixelOperation): RgbImage {
  switch (operation.name) {
    case 'autocontrast':
      return mapped(picture, autocontrastTable);
    case 'equalize':
      return mapped(picture, equalizeTable);
    case 'brightness':
      return { ...picture, data: blended(picture.data, () => 0, operation.factor) };
    case 'contrast': {
      const mean = meanGrey(picture.data);
      return { ...picture, data: blended(picture.data, () => mean, operation.factor) };
    }
    case 'saturation': {
      const { data } = picture;
      return { ...picture, data: blended(data, (at) => grey(data, at - (at % 3)), operation.factor) };
    }
    case 'sharpness': {
      const smooth = smoothed(picture);
      return { ...picture, data: blended(picture.data, (at) => smooth[at]!, operation.factor) };
    }
    case 'shearX':
      return warped(picture, [1, operation.slope, 0, 0, 1, 0]);
    case 'shearY':
      return warped(picture, [1, 0, 0, operation.slope, 1, 0]);
    case 'translateX':
      return warped(picture, [1, 0, operation.pixels, 0, 1, 0]);
    case 'translateY':
      return warped(picture, [1, 0, 0, 0, 1, operation.pixels]);
    case 'rotate':
      return warped(picture, rotation(picture, operation.degrees));
    default:
      return operation satisfies never;
  }
}

/** The mirror image, left for right. */
export function flipped({ data, width, height }: RgbImage): RgbImage {
  const out = new Uint8Array(data.length);
  for (let row = 0; row < height; row++)
    for (let column = 0; column < width; column++) {
      const from = 3 * (row * width + column);
      const to = 3 * (row * width + width - 1 - column);
      for (let c = 0; c < 3; c++) out[to + c] = data[from + c]!;
    }
  return { data: out, width, height };
}

/** Light as ITU-R 601 weighs it. */
function grey(data: Uint8Array, at: number): number {
  return (19595 * data[at]! + 38470 * data[at + 1]! + 7471 * data[at + 2]! + 0x8000) >> 16;
}

function meanGrey(data: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < data.length; at += 3) sum += grey(data, at);
  return Math.floor(sum / (data.length / 3) + 0.5);
}

function blended(data: Uint8Array, other: (at: number) => number, factor: number): Uint8Array {
  const out = new Uint8Array(data.length);
  for (let at = 0; at < data.length; at++) {
    const base = other(at);
    const value = base + factor * (data[at]! - base);
    out[at] = Math.min(255, Math.max(0, value));
  }
  return out;
}

/** Each channel by a table that is made of how often each value occurs. */
function mapped({ data, width, height }: RgbImage, tableOf: (counts: Uint32Array) => Uint8Array | undefined): RgbImage {
  const out = data.slice();
  for (let c = 0; c < 3; c++) {
    const counts = new Uint32Array(256);
    for (let at = c; at < data.length; at += 3) counts[data[at]!]!++;
    const table = tableOf(counts);
    if (table) for (let at = c; at < data.length; at += 3) out[at] = table[data[at]!]!;
  }
  return { data: out, width, height };
}

function autocontrastTable(counts: Uint32Array): Uint8Array | undefined {
  const low = counts.findIndex((count) => count > 0);
  const high = counts.findLastIndex((count) => count > 0);
  if (high <= low) return undefined;
  const scale = 255 / (high - low);
  const offset = -low * scale;
  return Uint8Array.from(counts, (_, value) => Math.min(255, Math.max(0, Math.trunc(value * scale + offset))));
}

function equalizeTable(counts: Uint32Array): Uint8Array | undefined {
  const used = counts.filter((count) => count > 0);
  if (used.length <= 1) return undefined;
  const pixels = used.reduce((sum, count) => sum + count, 0);
  const step = Math.floor((pixels - used[used.length - 1]!) / 255);
  if (step === 0) return undefined;
  let sum = Math.floor(step / 2);
  return Uint8Array.from(counts, (count) => {
    const value = Math.min(255, Math.floor(sum / step));
    sum += count;
    return value;
  });
}

/** Means over 3 x 3 pixels in which the middle counts five times; the border stays. */
function smoothed({ data, width, height }: RgbImage): Uint8Array {
  const out = data.slice();
  const line = 3 * width;
  for (let row = 1; row < height - 1; row++)
    for (let at = row * line + 3; at < (row + 1) * line - 3; at++) {
      let sum = 5 * data[at]!;
      for (const up of [-line, 0, line])
        for (const left of [-3, 0, 3]) if (up !== 0 || left !== 0) sum += data[at + up + left]!;
      out[at] = sum / 13 + 0.5;
    }
  return out;
}

type Affine = readonly [a: number, b: number, c: number, d: number, e: number, f: number];

function rotation({ width, height }: RgbImage, degrees: number): Affine {
  const angle = (-degrees * Math.PI) / 180;
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const [x, y] = [width / 2, height / 2];
  return [cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y];
}

/** The pixel at (x, y) comes from (a x + b y + c, d x + e y + f), both of middles of pixels. */
function warped({ data, width, height }: RgbImage, [a, b, c, d, e, f]: Affine): RgbImage {
  const out = new Uint8Array(data.length);
  const line = 3 * width;
  for (let row = 0, to = 0; row < height; row++)
    for (let column = 0; column < width; column++, to += 3) {
      const x = a * (column + 0.5) + b * (row + 0.5) + c;
      const y = d * (column + 0.5) + e * (row + 0.5) + f;
      if (x < 0 || x >= width || y < 0 || y >= height) {
        out[to] = out[to + 1] = out[to + 2] = fill;
        continue;
      }
      const left = Math.floor(x - 0.5);
      const top = Math.floor(y - 0.5);
      const dx = x - 0.5 - left;
      const dy = y - 0.5 - top;
      const near = 3 * Math.max(0, left);
      const far = 3 * Math.min(width - 1, left + 1);
      const upper = line * Math.max(0, top);
      const lower = top + 1 < height ? line * (top + 1) : upper;
      for (let channel = 0; channel < 3; channel++) {
        const first = data[upper + near + channel]!;
        const third = data[lower + near + channel]!;
        const above = first + (data[upper + far + channel]! - first) * dx;
        const below = third + (data[lower + far + channel]! - third) * dx;
        out[to + channel] = above + (below - above) * dy;
      }
    }
  return { data: out, width, height };
}
