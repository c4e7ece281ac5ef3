import { describe, expect, it } from 'vitest';
import { type AugmentOptions, augmentDefaults, augmentOff, createAugmenter } from '../../../src/train/data/augment.ts';
import { flattenOnWhite } from '../../../src/train/data/emoji.ts';
import { createRandom } from '../../../src/train/random.ts';

const size = 24;

/** A disc with a colour gradient and a soft edge, premultiplied. */
function disc(side: number): Uint8Array {
  const rgba = new Uint8Array(side * side * 4);
  for (let at = 0; at < side * side; at++) {
    const x = (at % side) - (side - 1) / 2;
    const y = Math.floor(at / side) - (side - 1) / 2;
    const alpha = Math.min(1, Math.max(0, side * 0.35 - Math.hypot(x, y) + 0.5));
    rgba.set([220 * alpha, (60 + (100 * (at % side)) / side) * alpha, 40 * alpha, 255 * alpha], at * 4);
  }
  return rgba;
}

function augment(options: Partial<AugmentOptions>, seed = 1, sourceSize = size): Uint8Array {
  const out = new Uint8Array(size * size * 3);
  createAugmenter({ sourceSize, size, channels: 4, options }).apply(disc(sourceSize), createRandom(seed), out);
  return out;
}

const difference = (a: Uint8Array, b: Uint8Array) => a.reduce((sum, value, at) => sum + Math.abs(value - b[at]!), 0);
const pixel = (rgb: Uint8Array, x: number, y: number) => [...rgb.subarray((y * size + x) * 3, (y * size + x) * 3 + 3)];

describe('createAugmenter', () => {
  it('changes nothing when all is off', () => {
    expect(Buffer.compare(augment({}), flattenOnWhite(disc(size)))).toBe(0);
    const rgb = flattenOnWhite(disc(size));
    const out = new Uint8Array(rgb.length);
    createAugmenter({ sourceSize: size, size, channels: 3 }).apply(rgb, createRandom(1), out);
    expect(Buffer.compare(out, rgb)).toBe(0);
    // Resampled from another size it is the same disc, but for its edge.
    expect(difference(augment({}, 1, 36), flattenOnWhite(disc(size))) / rgb.length).toBeLessThan(5);
  });

  it('is decided by the generator alone', () => {
    const options = { ...augmentDefaults, outline: 0.5, blur: 0.5, erase: 0.5, flip: 0.5 };
    for (let seed = 0; seed < 20; seed++) {
      expect(Buffer.compare(augment(options, seed, 36), augment(options, seed, 36))).toBe(0);
    }
    expect(difference(augment(options, 1), augment(options, 2))).toBeGreaterThan(0);
  });

  it('keeps no trace of the picture before', () => {
    const options = { ...augmentDefaults, outline: 0.5, blur: 0.5, erase: 0.5 };
    const augmenter = createAugmenter({ sourceSize: size, size, channels: 4, options });
    const out = new Uint8Array(size * size * 3 * 2);
    augmenter.apply(disc(size), createRandom(7), out);
    augmenter.apply(disc(size), createRandom(9), out, size * size * 3);
    expect(Buffer.compare(out.subarray(size * size * 3), augment(options, 9))).toBe(0);
  });

  it.each([
    ['zoomOut', 0.5],
    ['zoomIn', 0.5],
    ['rotation', 90],
    ['shear', 0.5],
    ['translation', 0.3],
    ['flip', 1],
    ['brightness', 0.5],
    ['contrast', 0.5],
    ['saturation', 0.5],
    ['hue', 0.3],
    ['greyscale', 1],
    ['shading', 0.5],
    ['outline', 1],
    ['background', 1],
    ['blur', 1],
  ] as const)('has an effect called %s', (name, strength) => {
    expect(difference(augment({ [name]: strength }), augment({}))).toBeGreaterThan(200);
  });

  it('moves, mirrors and turns as it says', () => {
    const plain = augment({});
    const mirrored = augment({ flip: 1 });
    expect(pixel(mirrored, 8, 12)).toEqual(pixel(plain, size - 1 - 8, 12));
    // The share of ink follows the square of the scale.
    const ink = (rgb: Uint8Array) => rgb.reduce((sum, value) => sum + 255 - value, 0);
    for (let seed = 0; seed < 10; seed++) {
      const ratio = ink(augment({ zoomOut: 0.5 }, seed)) / ink(plain);
      const scale = createRandom(seed).uniform(0.5, 1);
      expect(ratio).toBeCloseTo(scale * scale, 1);
      expect(ink(augment({ rotation: 180 }, seed)) / ink(plain)).toBeCloseTo(1, 1);
    }
  });

  it('loses all colour in greyscale and keeps white backgrounds white', () => {
    const grey = augment({ greyscale: 1 });
    for (let at = 0; at < grey.length; at += 3) {
      expect(Math.abs(grey[at]! - grey[at + 1]!)).toBeLessThanOrEqual(1);
      expect(Math.abs(grey[at]! - grey[at + 2]!)).toBeLessThanOrEqual(1);
    }
    const jittered = augment({ brightness: 0.9, contrast: 0.9, saturation: 0.9, hue: 0.5, shading: 0.9 }, 4);
    expect(pixel(jittered, 0, 0)).toEqual([255, 255, 255]);
  });

  it('turns red to green by a third of the wheel', () => {
    // The largest turns of many seeds: some are near 120 degrees, where red must be weaker than green.
    let turned = 0;
    for (let seed = 0; seed < 40; seed++) {
      const [red, green] = pixel(augment({ hue: 0.4 }, seed), 12, 12) as [number, number, number];
      if (green > red) turned++;
    }
    expect(turned).toBeGreaterThan(5);
    expect(turned).toBeLessThan(35);
  });

  it('draws a dark line around the drawing and nothing inside it', () => {
    const outlined = augment({ outline: 1 });
    const plain = augment({});
    expect(pixel(outlined, 12, 12)).toEqual(pixel(plain, 12, 12));
    expect(pixel(outlined, 0, 0)).toEqual([255, 255, 255]);
    const darkest = (rgb: Uint8Array) => Math.min(...Array.from({ length: size }, (_, x) => pixel(rgb, x, 12)[0]!));
    expect(darkest(outlined)).toBeLessThan(darkest(plain) - 100);
  });

  it('erases one rectangle of a bounded size', () => {
    const plain = augment({});
    for (let seed = 0; seed < 30; seed++) {
      const erased = augment({ erase: 1, eraseArea: 0.2 }, seed);
      let changed = 0;
      for (let at = 0; at < size * size; at++) {
        const rgb = pixel(erased, at % size, Math.floor(at / size));
        if (rgb.some((value, channel) => value !== plain[at * 3 + channel])) changed++;
      }
      expect(changed).toBeLessThanOrEqual(0.2 * size * size * 1.15);
    }
    expect(difference(augment({ erase: 1, eraseArea: 0 }), plain)).toBe(0);
  });

  it('gives drawings in black a colour and a background that stand apart', () => {
    const black = disc(size).map((value, at) => (at % 4 === 3 ? value : 0));
    const augmenter = createAugmenter({ sourceSize: size, size, channels: 4, options: { restyle: 1 } });
    const luma = ([red, green, blue]: number[]) => 0.2126 * red! + 0.7152 * green! + 0.0722 * blue!;
    const backgrounds = new Set<string>();
    let dark = 0;
    for (let seed = 0; seed < 60; seed++) {
      const out = new Uint8Array(size * size * 3);
      augmenter.apply(black, createRandom(seed), out);
      const [ink, background] = [pixel(out, 12, 12), pixel(out, 0, 0)];
      expect(Math.abs(luma(ink) - luma(background))).toBeGreaterThan(78);
      backgrounds.add(String(background));
      if (luma(background) < luma(ink)) dark++;
    }
    expect(backgrounds.size).toBeGreaterThan(20);
    expect(backgrounds).toContain('255,255,255');
    expect(backgrounds).toContain('0,0,0');
    expect(dark).toBeGreaterThan(10);
    // Drawings in colour stay as they are, with as many draws: the next one does not depend on their pixels.
    expect(difference(augment({ restyle: 1 }), augment({}))).toBe(0);
    const [first, second] = [createRandom(3), createRandom(3)];
    augmenter.apply(black, first, new Uint8Array(size * size * 3));
    augmenter.apply(disc(size), second, new Uint8Array(size * size * 3));
    expect(first.uniform()).toBe(second.uniform());
  });

  it('refuses strengths, sizes and buffers that do not fit', () => {
    const make = (options: Partial<AugmentOptions>) =>
      createAugmenter({ sourceSize: 8, size: 8, channels: 4, options });
    const argument = expect.objectContaining({ code: 'MOME_INVALID_ARGUMENT' });
    expect(() => make({ flip: 1.5 })).toThrow(argument);
    expect(() => make({ blur: Number.NaN })).toThrow(argument);
    expect(() => make({ sharpen: 1 } as Partial<AugmentOptions>)).toThrow(argument);
    expect(() => createAugmenter({ sourceSize: 0, size: 8, channels: 4 })).toThrow(argument);
    const shape = expect.objectContaining({ code: 'MOME_INVALID_SHAPE' });
    const augmenter = make(augmentOff);
    expect(() => augmenter.apply(new Uint8Array(8 * 8 * 3), createRandom(1), new Uint8Array(192))).toThrow(shape);
    expect(() => augmenter.apply(new Uint8Array(256), createRandom(1), new Uint8Array(192), 1)).toThrow(shape);
  });
});
