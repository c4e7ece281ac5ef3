/**
 * The passes of augmentation over one picture, in the order in which they run.
 *
 * `layer` is the drawing, premultiplied, 0 to 255: [size, size, 4]. `picture` is the drawing on its background: [size, size, 3].
 */
import type { Random } from '../random.ts';
import type { AugmentOptions } from './augment.ts';

/** Random affine map about the middle, read backwards: for each output pixel, a bilinear sample of the source. */
export function warp(
  source: Uint8Array,
  sourceSize: number,
  channels: 3 | 4,
  layer: Float32Array,
  size: number,
  options: AugmentOptions,
  random: Random,
): void {
  const scale = random.uniform(1 - options.zoomOut, 1 + options.zoomIn);
  const angle = (random.uniform(-options.rotation, options.rotation) * Math.PI) / 180;
  const shear = random.uniform(-options.shear, options.shear);
  const shiftX = random.uniform(-options.translation, options.translation) * size;
  const shiftY = random.uniform(-options.translation, options.translation) * size;
  const mirror = random.chance(options.flip) ? -1 : 1;

  // out = S R H in, so in = H^-1 R^-1 S^-1 out with R^-1 = [c s; -s c] and H^-1 = [1 -shear; 0 1].
  const step = sourceSize / size / scale;
  const cos = Math.cos(angle) * step;
  const sin = Math.sin(angle) * step;
  const xx = mirror * (cos + shear * sin);
  const xy = mirror * (sin - shear * cos);
  const yx = -sin;
  const yy = cos;
  const middle = (size - 1) / 2;
  const sourceMiddle = (sourceSize - 1) / 2;
  const rowBytes = sourceSize * channels;
  const opaque = channels === 3;

  for (let row = 0, to = 0; row < size; row++) {
    const dy = row - middle - shiftY;
    let x = sourceMiddle + xx * (-middle - shiftX) + xy * dy;
    let y = sourceMiddle + yx * (-middle - shiftX) + yy * dy;
    for (let column = 0; column < size; column++, to += 4, x += xx, y += yx) {
      if (x <= -1 || y <= -1 || x >= sourceSize || y >= sourceSize) {
        layer[to] = 0;
        layer[to + 1] = 0;
        layer[to + 2] = 0;
        layer[to + 3] = 0;
        continue;
      }
      const left = Math.floor(x);
      const top = Math.floor(y);
      const fx = x - left;
      const fy = y - top;
      // Taps outside the source weigh nothing, which leaves a soft edge instead of a cut one.
      const wLeft = left >= 0 ? 1 - fx : 0;
      const wRight = left + 1 < sourceSize ? fx : 0;
      const wTop = top >= 0 ? 1 - fy : 0;
      const wBottom = top + 1 < sourceSize ? fy : 0;
      const w00 = wLeft * wTop;
      const w01 = wRight * wTop;
      const w10 = wLeft * wBottom;
      const w11 = wRight * wBottom;
      const upper = wTop > 0 ? top * rowBytes : 0;
      const lower = wBottom > 0 ? (top + 1) * rowBytes : 0;
      const near = wLeft > 0 ? left * channels : 0;
      const far = wRight > 0 ? (left + 1) * channels : 0;
      const p00 = upper + near;
      const p01 = upper + far;
      const p10 = lower + near;
      const p11 = lower + far;
      layer[to] = w00 * source[p00]! + w01 * source[p01]! + w10 * source[p10]! + w11 * source[p11]!;
      layer[to + 1] = w00 * source[p00 + 1]! + w01 * source[p01 + 1]! + w10 * source[p10 + 1]! + w11 * source[p11 + 1]!;
      layer[to + 2] = w00 * source[p00 + 2]! + w01 * source[p01 + 2]! + w10 * source[p10 + 2]! + w11 * source[p11 + 2]!;
      layer[to + 3] = opaque
        ? 255 * (w00 + w01 + w10 + w11)
        : w00 * source[p00 + 3]! + w01 * source[p01 + 3]! + w10 * source[p10 + 3]! + w11 * source[p11 + 3]!;
    }
  }
}

/**
 * Draws one colour map, [3, 4] row by row: contrast x brightness x hue turn x saturation. Hue turns about the grey axis keeping
 * Rec. 709 luma (the feColorMatrix hueRotate of SVG 1.1).
 *
 * @returns false where the map is the identity.
 */
export function drawColour(colour: Float64Array, options: AugmentOptions, random: Random): boolean {
  const brightness = random.uniform(1 - options.brightness, 1 + options.brightness);
  const contrast = random.uniform(1 - options.contrast, 1 + options.contrast);
  const vivid = random.uniform(1 - options.saturation, 1 + options.saturation);
  const turn = random.uniform(-options.hue, options.hue) * 2 * Math.PI;
  const saturation = random.chance(options.greyscale) ? 0 : vivid;
  if (brightness === 1 && contrast === 1 && saturation === 1 && turn === 0) return false;
  const gain = brightness * contrast;
  const cos = saturation * Math.cos(turn);
  const sin = saturation * Math.sin(turn);
  const red = 0.213;
  const green = 0.715;
  const blue = 0.072;
  colour[0] = gain * (red + cos * (1 - red) - sin * red);
  colour[1] = gain * (green - cos * green - sin * green);
  colour[2] = gain * (blue - cos * blue + sin * (1 - blue));
  colour[4] = gain * (red - cos * red + sin * 0.143);
  colour[5] = gain * (green + cos * (1 - green) + sin * 0.14);
  colour[6] = gain * (blue - cos * blue - sin * 0.283);
  colour[8] = gain * (red - cos * red - sin * (1 - red));
  colour[9] = gain * (green - cos * green + sin * green);
  colour[10] = gain * (blue + cos * (1 - blue) + sin * blue);
  const offset = (1 - contrast) * 0.5;
  colour[3] = offset;
  colour[7] = offset;
  colour[11] = offset;
  return true;
}

export function recolour(layer: Float32Array, colour: Float64Array): void {
  const rr = colour[0]!;
  const rg = colour[1]!;
  const rb = colour[2]!;
  const gr = colour[4]!;
  const gg = colour[5]!;
  const gb = colour[6]!;
  const br = colour[8]!;
  const bg = colour[9]!;
  const bb = colour[10]!;
  const offset = colour[3]!;
  for (let at = 0; at < layer.length; at += 4) {
    const alpha = layer[at + 3]!;
    if (alpha === 0) continue;
    const r = layer[at]!;
    const g = layer[at + 1]!;
    const b = layer[at + 2]!;
    const lift = offset * alpha;
    layer[at] = clamp(rr * r + rg * g + rb * b + lift, alpha);
    layer[at + 1] = clamp(gr * r + gg * g + gb * b + lift, alpha);
    layer[at + 2] = clamp(br * r + bg * g + bb * b + lift, alpha);
  }
}

/** A linear gradient over the drawing in a random direction: multiplies towards dark, screens towards light. */
export function shade(layer: Float32Array, size: number, strength: number, random: Random): void {
  const angle = random.uniform(0, 2 * Math.PI);
  const amount = random.uniform(0, strength);
  const perColumn = (Math.cos(angle) * amount * 2) / size;
  const perRow = (Math.sin(angle) * amount * 2) / size;
  const middle = (size - 1) / 2;
  for (let row = 0, at = 0; row < size; row++) {
    let light = perRow * (row - middle) - perColumn * middle;
    for (let column = 0; column < size; column++, at += 4, light += perColumn) {
      const alpha = layer[at + 3]!;
      if (alpha === 0) continue;
      // light * alpha + (1 - light) * colour where it brightens; (1 + light) * colour where it darkens.
      const keep = 1 - Math.abs(light);
      const lift = light > 0 ? light * alpha : 0;
      layer[at] = keep * layer[at]! + lift;
      layer[at + 1] = keep * layer[at + 1]! + lift;
      layer[at + 2] = keep * layer[at + 2]! + lift;
    }
  }
}

/** Red, green and blue, 0 to 255. */
export type Colour = readonly [red: number, green: number, blue: number];

const white: Colour = [255, 255, 255];
const black: Colour = [0, 0, 0];

/** White, or with some probability a grey or any colour. */
export function drawBackground(probability: number, random: Random): Colour {
  if (!random.chance(probability)) return white;
  const red = random.uniform(0, 255);
  return random.chance(0.5) ? [red, random.uniform(0, 255), random.uniform(0, 255)] : [red, red, red];
}

/** Rec. 709 luma of a colour. */
const lumaOf = ([red, green, blue]: Colour): number => 0.2126 * red + 0.7152 * green + 0.0722 * blue;
/** Least difference in luma between a drawing and its background. */
const leastContrast = 80;

/**
 * A colour for a drawing, and a background that is white, black, or of any colour and differs from it in lightness.
 *
 * Takes the same number of draws in every case.
 */
export function drawInk(random: Random): { readonly ink: Colour; readonly background: Colour } {
  const any = (): Colour => [random.uniform(0, 255), random.uniform(0, 255), random.uniform(0, 255)];
  const kind = random.uniform();
  const [drawnBackground, drawnInk] = [any(), any()];
  const background = kind < 0.35 ? white : kind < 0.5 ? black : drawnBackground;
  const [luma, inkLuma] = [lumaOf(background), lumaOf(drawnInk)];
  if (Math.abs(luma - inkLuma) >= leastContrast) return { ink: drawnInk, background };
  // Mixed with the farther of black and white until it stands out.
  const far = luma > 127.5 ? black : white;
  const wanted = luma > 127.5 ? luma - leastContrast : luma + leastContrast;
  const share = (wanted - inkLuma) / (lumaOf(far) - inkLuma);
  const mixed = (channel: 0 | 1 | 2) => drawnInk[channel] + share * (far[channel] - drawnInk[channel]);
  return { ink: [mixed(0), mixed(1), mixed(2)], background };
}

/** Gives the whole drawing one colour. */
export function paint(layer: Float32Array, [red, green, blue]: Colour): void {
  for (let at = 0; at < layer.length; at += 4) {
    const share = layer[at + 3]! / 255;
    layer[at] = share * red;
    layer[at + 1] = share * green;
    layer[at + 2] = share * blue;
  }
}

/** Lays the drawing on its background, with a dark line under its edge where `outlined`. */
export function compose(
  layer: Float32Array,
  picture: Float32Array,
  size: number,
  outlined: boolean,
  [red, green, blue]: Colour,
  random: Random,
): void {
  if (!outlined) {
    for (let from = 0, to = 0; from < layer.length; from += 4, to += 3) {
      const rest = 1 - layer[from + 3]! / 255;
      picture[to] = layer[from]! + rest * red;
      picture[to + 1] = layer[from + 1]! + rest * green;
      picture[to + 2] = layer[from + 2]! + rest * blue;
    }
    return;
  }
  const ink = random.uniform(0, 60);
  const reach = random.chance(0.5) ? 2 : 1;
  const last = size - 1;
  for (let row = 0, from = 0, to = 0; row < size; row++) {
    const up = row - Math.max(0, row - reach);
    const down = Math.min(last, row + reach) - row;
    for (let column = 0; column < size; column++, from += 4, to += 3) {
      const left = column - Math.max(0, column - reach);
      const right = Math.min(last, column + reach) - column;
      const alpha = layer[from + 3]!;
      let widest = alpha;
      if (alpha < 255) {
        widest = Math.max(
          widest,
          layer[from + 3 - left * 4]!,
          layer[from + 3 + right * 4]!,
          layer[from + 3 - up * size * 4]!,
          layer[from + 3 + down * size * 4]!,
        );
      }
      const line = ((widest - alpha) / 255) * ink;
      const rest = 1 - widest / 255;
      picture[to] = layer[from]! + line + rest * red;
      picture[to + 1] = layer[from + 1]! + line + rest * green;
      picture[to + 2] = layer[from + 2]! + line + rest * blue;
    }
  }
}

/** Two passes of [k, 1 - 2k, k] in each direction, whose variances add up: 4k = deviation^2, k at most 1/4. Edges repeat. */
export function blur(picture: Float32Array, size: number, line: Float32Array, deviation: number): void {
  const side = (deviation * deviation) / 4;
  for (let pass = 0; pass < 2; pass++) {
    for (let at = 0; at < size; at++) {
      blurLine(picture, at * size * 3, 3, size, line, side);
      blurLine(picture, at * 3, size * 3, size, line, side);
    }
  }
}

function blurLine(
  picture: Float32Array,
  start: number,
  stride: number,
  size: number,
  line: Float32Array,
  side: number,
): void {
  const centre = 1 - 2 * side;
  for (let at = 0, from = start; at < size * 3; at += 3, from += stride) {
    line[at] = picture[from]!;
    line[at + 1] = picture[from + 1]!;
    line[at + 2] = picture[from + 2]!;
  }
  for (let index = 0, to = start; index < size; index++, to += stride) {
    const at = index * 3;
    const before = index > 0 ? at - 3 : at;
    const after = index < size - 1 ? at + 3 : at;
    picture[to] = centre * line[at]! + side * (line[before]! + line[after]!);
    picture[to + 1] = centre * line[at + 1]! + side * (line[before + 1]! + line[after + 1]!);
    picture[to + 2] = centre * line[at + 2]! + side * (line[before + 2]! + line[after + 2]!);
  }
}

/** Fills one rectangle of a random colour, place and proportion (1:2 to 2:1). */
export function erase(picture: Float32Array, size: number, largestArea: number, random: Random): void {
  const area = random.uniform(0.02, 1) * largestArea * size * size;
  const proportion = 2 ** random.uniform(-1, 1);
  const width = Math.min(size, Math.round(Math.sqrt(area * proportion)));
  const height = Math.min(size, Math.round(Math.sqrt(area / proportion)));
  const left = random.integer(size - width + 1);
  const top = random.integer(size - height + 1);
  const red = random.uniform(0, 255);
  const green = random.uniform(0, 255);
  const blue = random.uniform(0, 255);
  for (let row = top; row < top + height; row++) {
    for (let at = (row * size + left) * 3; at < (row * size + left + width) * 3; at += 3) {
      picture[at] = red;
      picture[at + 1] = green;
      picture[at + 2] = blue;
    }
  }
}

function clamp(value: number, most: number): number {
  return value > 0 ? Math.min(value, most) : 0;
}
