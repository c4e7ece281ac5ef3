/**
 * Masked image modelling: rectangles of neighbouring patches are masked, as BEiT does it. Single patches would be guessed from the ones
 * beside them.
 */
import { checkKind, kinds } from '../runtime/arguments.ts';
import { check } from '../runtime/errors.ts';
import { type Random, randomKind } from './random.ts';

/** How the patches of a picture are chosen. */
export interface BlockMasking {
  /** The most patches that are masked, as a share of all: 75 of 196 in BEiT. */
  readonly share: number;
}

/** BEiT's numbers, for its 14 x 14 patches; other grids have the same shares of their patches. */
const reference = { patches: 14 * 14, most: 75, smallestBlock: 16 };
/** Tries to place one block before the picture is left with what it has. */
const tries = 10;
/** Height over width of a block lies between this and its inverse. */
const flattest = 0.3;

export const blockMaskingDefaults: BlockMasking = { share: reference.most / reference.patches };

/** The most patches of a picture that are masked: the share, rounded, at least one. */
export function mostMasked(grid: number, share = blockMaskingDefaults.share): number {
  return Math.max(1, Math.round(share * grid ** 2));
}

/**
 * Draws the masked patches of a picture. A block has an area between the smallest (16 of 196 patches) and what is left of the budget, and an
 * aspect ratio that is log-uniform between 0.3 and 1 / 0.3; it stands anywhere in the grid, over other blocks too. A block that masks nothing
 * new, masks more than is left, or is as wide or high as the grid is drawn again, ten times at most.
 *
 * @param grid patches along one side of a picture, at least 2
 * @returns [grid, grid] in row-major order: 1 for masked patches, else 0; between one and {@link mostMasked} of them are, and BEiT's grid of
 *   14 has 74 on average
 * @throws MomeError `MOME_INVALID_ARGUMENT` for a grid of one patch, or a share outside (0, 1]
 * @see arXiv 2106.08254, algorithm 1
 */
export function maskBlocks(grid: number, random: Random, options: BlockMasking = blockMaskingDefaults): Int32Array {
  checkKind('maskBlocks', 'options', options, kinds.object);
  const { share } = options;
  checkKind('maskBlocks', 'random', random, randomKind);
  check(
    Number.isInteger(grid) && grid >= 2,
    'MOME_INVALID_ARGUMENT',
    `masked pictures: expected a grid of at least 2 x 2 patches, got ${grid} x ${grid}`,
  );
  check(
    share > 0 && share <= 1,
    'MOME_INVALID_ARGUMENT',
    `masked pictures: expected a share of patches above 0, at most 1, got ${share}`,
  );
  const most = mostMasked(grid, share);
  const smallest = Math.max(1, (reference.smallestBlock / reference.patches) * grid ** 2);
  const mask = new Int32Array(grid ** 2);
  let count = 0;
  while (count < most) {
    const added = addBlock(mask, grid, most - count, smallest, random);
    if (added === 0) break;
    count += added;
  }
  if (count === 0) mask[random.integer(mask.length)] = 1;
  return mask;
}

/** Masks one more block; how many patches that were not masked it has, 0 where ten tries failed. */
function addBlock(mask: Int32Array, grid: number, left: number, smallest: number, random: Random): number {
  for (let attempt = 0; attempt < tries; attempt++) {
    // Where less is left than the smallest block, areas lie between the two.
    const area = random.uniform(smallest, left);
    const aspect = Math.exp(random.uniform(Math.log(flattest), -Math.log(flattest)));
    const height = Math.round(Math.sqrt(area * aspect));
    const width = Math.round(Math.sqrt(area / aspect));
    if (height >= grid || width >= grid) continue;
    const top = random.integer(grid - height + 1);
    const start = random.integer(grid - width + 1);
    let added = 0;
    for (let y = top; y < top + height; y++)
      for (let x = start; x < start + width; x++) if (mask[y * grid + x] === 0) added++;
    if (added === 0 || added > left) continue;
    for (let y = top; y < top + height; y++) mask.fill(1, y * grid + start, y * grid + start + width);
    return added;
  }
  return 0;
}
