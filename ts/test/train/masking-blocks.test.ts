import { describe, expect, it } from 'vitest';
import { maskBlocks, mostMasked } from '../../src/train/masking-blocks.ts';
import { createRandom } from '../../src/train/random.ts';
import { expectCode } from '../helpers.ts';

const draws = (grid: number, count: number, share?: number) =>
  Array.from({ length: count }, (_, seed) =>
    maskBlocks(grid, createRandom(seed), share === undefined ? undefined : { share }),
  );
const sizeOf = (mask: Int32Array) => mask.reduce((sum, each) => sum + each, 0);

/** Share of masked patches whose right neighbour is masked too, among those that have one. */
function together(masks: readonly Int32Array[], grid: number, step: 'right' | 'down'): number {
  let [both, all] = [0, 0];
  for (const mask of masks)
    for (const [at, masked] of mask.entries()) {
      const last = step === 'right' ? at % grid === grid - 1 : at >= grid * (grid - 1);
      if (!masked || last) continue;
      all++;
      both += mask[at + (step === 'right' ? 1 : grid)]!;
    }
  return both / all;
}

describe('blocks of masked patches', () => {
  it('are at most 75 of 196, and nearly always as many', () => {
    const sizes = draws(14, 4000).map(sizeOf);
    expect(Math.max(...sizes)).toBe(75);
    const mean = sizes.reduce((sum, size) => sum + size, 0) / sizes.length;
    expect(mean).toBeGreaterThan(73);
    expect(mean).toBeLessThan(75);
    expect(sizes.filter((size) => size >= 70).length / sizes.length).toBeGreaterThan(0.9);
  });

  it('are flags of the whole grid, other ones for another seed and the same for the same', () => {
    const masks = draws(14, 50);
    for (const mask of masks) {
      expect(mask.length).toBe(196);
      expect(mask.every((flag) => flag === 0 || flag === 1)).toBe(true);
    }
    expect(new Set(masks.map(String)).size).toBe(50);
    expect(draws(14, 3)).toEqual(masks.slice(0, 3));
  });

  it('hold neighbours together, in both directions alike', () => {
    const masks = draws(14, 1000);
    const [right, down] = [together(masks, 14, 'right'), together(masks, 14, 'down')];
    // Patches drawn one by one have a masked neighbour in 38 of 100 cases.
    expect(right).toBeGreaterThan(0.75);
    expect(Math.abs(right - down)).toBeLessThan(0.02);
  });

  it('have aspects between 0.3 and its inverse, evenly on both sides of a square', () => {
    // A share of 16 patches leaves room for one block of that area at most.
    const sides = draws(14, 3000, 16 / 196).flatMap((mask) => {
      const rows = [...mask.keys()].filter((at) => mask[at]).map((at) => Math.floor(at / 14));
      const columns = [...mask.keys()].filter((at) => mask[at]).map((at) => at % 14);
      const height = Math.max(...rows) - Math.min(...rows) + 1;
      const width = Math.max(...columns) - Math.min(...columns) + 1;
      return height * width === sizeOf(mask) ? [[height, width] as const] : [];
    });
    expect(sides.length).toBeGreaterThan(1000);
    // Sides of an area of 16 are sqrt(16 * 0.3) = 2.19 to sqrt(16 / 0.3) = 7.3; a small block behind the first may make one longer.
    for (const side of sides.flat()) expect(side).toBeGreaterThanOrEqual(2);
    expect(sides.filter((side) => Math.max(...side) > 7).length / sides.length).toBeLessThan(0.02);
    const tall = sides.filter(([height, width]) => height > width).length;
    const wide = sides.filter(([height, width]) => height < width).length;
    expect(Math.abs(tall - wide) / (tall + wide)).toBeLessThan(0.08);
  });

  it('keep the share on other grids, down to 2 x 2', () => {
    for (const [grid, share] of [
      [2, undefined],
      [3, undefined],
      [7, undefined],
      [24, undefined],
      [30, 0.6],
      [5, 0.01],
      [4, 1],
    ] as const) {
      const most = mostMasked(grid, share);
      for (const mask of draws(grid, 200, share)) {
        expect(sizeOf(mask)).toBeGreaterThanOrEqual(1);
        expect(sizeOf(mask)).toBeLessThanOrEqual(most);
      }
    }
    expect(mostMasked(14)).toBe(75);
    expect(mostMasked(28)).toBe(300);
    expect(mostMasked(5, 0.01)).toBe(1);
  });

  it('are refused for a single patch and for no share', async () => {
    for (const [grid, share] of [
      [1, 0.4],
      [2.5, 0.4],
      [Number.NaN, 0.4],
      [14, 0],
      [14, 1.01],
      [14, Number.NaN],
    ] as const)
      await expectCode(() => maskBlocks(grid, createRandom(1), { share }), 'MOME_INVALID_ARGUMENT');
  });
});
