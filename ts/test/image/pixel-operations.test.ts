import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { changed, flipped, type PixelOperation } from '../../src/image/pixel-operations.ts';
import type { RgbImage } from '../../src/image/pixels.ts';
import { cropOf, transformed } from '../../src/image/transform.ts';
import { testImage } from '../helpers.ts';

interface Reference {
  readonly source: { readonly width: number; readonly height: number; readonly data: string };
  readonly results: readonly { readonly operation: PixelOperation; readonly data: string }[];
}

const reference = JSON.parse(
  readFileSync(new URL('fixtures/pixel-operations.json', import.meta.url), 'utf8'),
) as Reference;
const { width, height } = reference.source;
const source: RgbImage = { data: new Uint8Array(Buffer.from(reference.source.data, 'base64')), width, height };
const largest = (a: Uint8Array, b: Uint8Array) => Math.max(...a.map((value, i) => Math.abs(value - b[i]!)));

describe('pixel operations', () => {
  it.each(reference.results.map((each) => [JSON.stringify(each.operation), each] as const))(
    'give the pixels of Pillow: %s',
    (_, { operation, data }) => {
      const before = source.data.slice();
      const expected = new Uint8Array(Buffer.from(data, 'base64'));
      const made = changed(source, operation);
      // Pillow blends in single precision: where a value is a whole number, the last bit decides.
      expect(largest(made.data, expected)).toBeLessThanOrEqual('factor' in operation ? 1 : 0);
      expect(made.data.filter((value, i) => value !== expected[i]).length).toBeLessThan(expected.length / 100);
      expect(source.data).toEqual(before);
      // Each operation does something, and another strength is noticed.
      expect(largest(made.data, source.data)).toBeGreaterThan(10);
      const other = Object.fromEntries(
        Object.entries(operation).map(([name, value]) => [name, typeof value === 'number' ? 1.1 * value : value]),
      ) as PixelOperation;
      if (Object.keys(operation).length > 1) expect(largest(changed(source, other).data, expected)).toBeGreaterThan(1);
    },
  );

  it('leave pictures of one colour and one pixel alone where there is nothing to stretch', () => {
    const plain = { data: new Uint8Array(3 * 6).fill(77), width: 3, height: 2 };
    for (const name of ['autocontrast', 'equalize'] as const) expect(changed(plain, { name }).data).toEqual(plain.data);
    const one = { data: Uint8Array.of(1, 2, 3), width: 1, height: 1 };
    for (const { operation } of reference.results) expect(changed(one, operation).data.length).toBe(3);
  });

  it('mirror a picture', () => {
    const two = { data: Uint8Array.of(1, 2, 3, 4, 5, 6), width: 2, height: 1 };
    expect([...flipped(two).data]).toEqual([4, 5, 6, 1, 2, 3]);
    expect(flipped(flipped(source)).data).toEqual(source.data);
  });
});

describe('transformed', () => {
  const ratios = [3 / 4, 4 / 3] as const;
  const try_ = (area: number, ratio: number, x = 0, y = 0) => ({ area, ratio, x, y });

  it('cuts the first part that fits, or the middle', () => {
    const size = { width: 100, height: 50 };
    const first = cropOf(size, { tries: [try_(0.9, 0.75), try_(0.5, 1, 0.999, 0.5)], ratios });
    expect(first).toEqual({ left: 50, top: 0, width: 50, height: 50 });
    expect(cropOf(size, { tries: [try_(0.02, 1, 0.5, 0.999)], ratios })).toEqual({
      left: 45,
      top: 40,
      width: 10,
      height: 10,
    });
    expect(cropOf(size, { tries: [], ratios })).toEqual({ left: 16, top: 0, width: 67, height: 50 });
    expect(cropOf({ width: 50, height: 100 }, { tries: [], ratios })).toEqual({
      left: 0,
      top: 16,
      width: 50,
      height: 67,
    });
    expect(cropOf({ width: 60, height: 61 }, { tries: [], ratios })).toEqual({
      left: 0,
      top: 0,
      width: 60,
      height: 61,
    });
    expect(cropOf({ width: 1, height: 900 }, { tries: [try_(0.5, 1)], ratios })).toMatchObject({ width: 1, height: 1 });
  });

  it('changes, cuts, resizes, mirrors and changes', async () => {
    const picture = testImage(7, 16);
    const crop = { tries: [try_(0.25, 1, 0.6, 0.2)], ratios };
    const part = await transformed(picture, 8, { crop });
    const pixel = (image: RgbImage, x: number, y: number) => {
      const at = 3 * (y * image.width + x);
      return [...image.data.subarray(at, at + 3)];
    };
    // Half as wide and high, at a size of which nothing is resampled.
    for (const [x, y] of [
      [0, 0],
      [7, 3],
    ] as const)
      expect(pixel(part, x, y)).toEqual(pixel(picture, x + 5, y + 1));
    const all = await transformed(picture, 8, {
      before: [{ name: 'brightness', factor: 0.5 }],
      crop,
      flip: true,
      after: [{ name: 'translateY', pixels: 1 }],
    });
    expect(pixel(all, 7, 0)).toEqual(pixel(picture, 5, 2).map((value) => Math.floor(value / 2)));
    expect(pixel(all, 7, 7)).toEqual([128, 128, 128]);
  });
});
