/**
 * Picture augmentation in one inverse-mapped pass: warp, recolour, lay on a background, blur, erase.
 *
 * Works on premultiplied colours, so that every colour change is one 3 x 4 matrix whose offset is weighted by alpha, and the
 * background is chosen apart from the drawing. Nothing is allocated per picture; all randomness is the caller's generator.
 */
import { check } from '../../runtime/errors.ts';
import type { Random } from '../random.ts';
import {
  blur,
  compose,
  drawBackground,
  drawColour,
  drawInk,
  erase,
  paint,
  recolour,
  shade,
  warp,
} from './augment-passes.ts';

/** Strength of each effect; 0 switches it off. "Probability" effects happen to that share of the pictures. */
export interface AugmentOptions {
  /** Smallest scale is 1 - zoomOut. */
  readonly zoomOut: number;
  /** Largest scale is 1 + zoomIn. */
  readonly zoomIn: number;
  /** Largest rotation either way, in degrees. */
  readonly rotation: number;
  /** Largest shear either way, in pixels per pixel. */
  readonly shear: number;
  /** Largest shift either way in each direction, as a share of the side. */
  readonly translation: number;
  /** Probability of a horizontal mirror image. Flags, arrows and letters lose their meaning by it. */
  readonly flip: number;
  /** Brightness is multiplied by 1 - brightness ... 1 + brightness. */
  readonly brightness: number;
  /** Contrast is multiplied by 1 - contrast ... 1 + contrast. */
  readonly contrast: number;
  /** Saturation is multiplied by 1 - saturation ... 1 + saturation. */
  readonly saturation: number;
  /** Largest turn of the hue either way, in full turns. */
  readonly hue: number;
  /** Probability of no colour at all. */
  readonly greyscale: number;
  /** Largest difference in brightness of a linear shading over the drawing, from the middle to the edge. */
  readonly shading: number;
  /** Probability of a dark line of one to two pixels around the drawing. RGBA sources alone. */
  readonly outline: number;
  /** Probability of a background other than white: half of them grey, half of any colour. */
  readonly background: number;
  /** Probability that a drawing in black alone gets a colour and a background that stands out from it. RGBA sources alone. */
  readonly restyle: number;
  /** Probability of a blur of 0.3 to 1 pixels (standard deviation). */
  readonly blur: number;
  /** Probability of one erased rectangle. */
  readonly erase: number;
  /** Largest erased share of the picture, 0 to 1. */
  readonly eraseArea: number;
}

/** Everything off: the output is the source, resampled where the sizes differ, on white. */
export const augmentOff: AugmentOptions = {
  zoomOut: 0,
  zoomIn: 0,
  rotation: 0,
  shear: 0,
  translation: 0,
  flip: 0,
  brightness: 0,
  contrast: 0,
  saturation: 0,
  hue: 0,
  greyscale: 0,
  shading: 0,
  outline: 0,
  background: 0,
  restyle: 0,
  blur: 0,
  erase: 0,
  eraseArea: 0,
};

/** For drawings of several styles, to be recognised in a style not seen. */
export const augmentDefaults: AugmentOptions = {
  zoomOut: 0.25,
  zoomIn: 0.1,
  rotation: 20,
  shear: 0.12,
  translation: 0.08,
  flip: 0,
  brightness: 0.2,
  contrast: 0.2,
  saturation: 0.35,
  hue: 0.04,
  greyscale: 0.05,
  shading: 0.3,
  outline: 0.2,
  background: 0.4,
  restyle: 0,
  blur: 0.25,
  erase: 0.2,
  eraseArea: 0.12,
};

/** Makes training pictures of one size from sources of one size. Holds scratch memory: one per concurrent user. */
export interface Augmenter {
  readonly sourceSize: number;
  readonly size: number;
  readonly channels: 3 | 4;
  readonly options: AugmentOptions;
  /**
   * Writes one augmented picture.
   *
   * @param source [sourceSize, sourceSize, channels]; four channels are premultiplied RGBA.
   * @param random decides everything; the same state gives the same bytes.
   * @param out receives RGB, [size, size, 3], from `offset` on.
   * @throws MomeError `MOME_INVALID_SHAPE` where the source or the room in `out` does not fit.
   */
  apply(source: Uint8Array, random: Random, out: Uint8Array, offset?: number): void;
}

/**
 * @param settings.sourceSize side of the sources; 1.5 times `size` keeps detail when the drawing is enlarged.
 * @param settings.channels 4 for premultiplied RGBA, 3 for RGB.
 * @param settings.options strengths; what is not named is off. Take {@link augmentDefaults} to start from.
 * @throws MomeError `MOME_INVALID_ARGUMENT` for a size or a strength out of range.
 * @example
 * const augmenter = createAugmenter({ sourceSize: 96, size: 64, channels: 4, options: augmentDefaults });
 * augmenter.apply(pairs.image(0), createRandom(seed, epoch, 0), batch, 0);
 */
export function createAugmenter(settings: {
  readonly sourceSize: number;
  readonly size: number;
  readonly channels: 3 | 4;
  readonly options?: Partial<AugmentOptions>;
}): Augmenter {
  const { sourceSize, size, channels } = settings;
  const options: AugmentOptions = { ...augmentOff, ...settings.options };
  checkSettings(sourceSize, size, channels, options);
  /** Warped drawing, premultiplied, 0 to 255: [size, size, 4]. */
  const layer = new Float32Array(size * size * 4);
  /** Finished picture before rounding: [size, size, 3]. */
  const picture = new Float32Array(size * size * 3);
  const line = new Float32Array(size * 3);
  const colour = new Float64Array(12);

  return {
    sourceSize,
    size,
    channels,
    options,
    apply(source, random, out, offset = 0) {
      const sourceBytes = sourceSize * sourceSize * channels;
      check(
        source.length === sourceBytes,
        'MOME_INVALID_SHAPE',
        `augment: expected a source of [${sourceSize}, ${sourceSize}, ${channels}] = ${sourceBytes} bytes, got ${source.length}`,
      );
      check(
        Number.isInteger(offset) && offset >= 0 && offset + picture.length <= out.length,
        'MOME_INVALID_SHAPE',
        `augment: expected room for ${picture.length} bytes at ${offset}, got ${out.length} bytes`,
      );
      warp(source, sourceSize, channels, layer, size, options, random);
      // Draws do not depend on pixels: processes that share a batch pass by the items of others.
      const drawn = channels === 4 && random.chance(options.restyle) ? drawInk(random) : undefined;
      const ink = drawn && isBlack(source) ? drawn : undefined;
      if (ink) paint(layer, ink.ink);
      if (drawColour(colour, options, random)) recolour(layer, colour);
      if (options.shading > 0) shade(layer, size, options.shading, random);
      const outlined = channels === 4 && random.chance(options.outline);
      const background = drawBackground(options.background, random);
      compose(layer, picture, size, outlined, ink?.background ?? background, random);
      if (random.chance(options.blur)) blur(picture, size, line, random.uniform(0.3, 1));
      if (random.chance(options.erase)) erase(picture, size, options.eraseArea, random);
      for (let at = 0; at < picture.length; at++) {
        const value = picture[at]!;
        out[offset + at] = value >= 255 ? 255 : value > 0 ? value + 0.5 : 0;
      }
    },
  };
}

/** Whether premultiplied RGBA has no colour but black. */
function isBlack(source: Uint8Array): boolean {
  for (let at = 0; at < source.length; at += 4) if (source[at]! + source[at + 1]! + source[at + 2]! > 0) return false;
  return true;
}

function checkSettings(sourceSize: number, size: number, channels: number, options: AugmentOptions): void {
  for (const [name, side] of [['sourceSize', sourceSize] as const, ['size', size] as const]) {
    check(
      Number.isInteger(side) && side >= 1 && side <= 2048,
      'MOME_INVALID_ARGUMENT',
      `createAugmenter: expected ${name} in [1, 2048], got ${side}`,
    );
  }
  check(
    channels === 3 || channels === 4,
    'MOME_INVALID_ARGUMENT',
    `createAugmenter: expected 3 or 4 channels, got ${channels}`,
  );
  const largest: Partial<Record<keyof AugmentOptions, number>> = { zoomOut: 0.9, zoomIn: 4, rotation: 180 };
  for (const name of Object.keys(options) as (keyof AugmentOptions)[]) {
    const strength = options[name];
    const most = largest[name] ?? 1;
    check(
      name in augmentOff && strength >= 0 && strength <= most,
      'MOME_INVALID_ARGUMENT',
      `createAugmenter: expected ${name} in [0, ${name in augmentOff ? most : 'no such option'}], got ${strength}`,
    );
  }
}
