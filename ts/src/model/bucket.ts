/**
 * Rounds the sizes of batches up, so that a device meets few sizes: it records the launches of one batch and replays them for others of
 * the same sizes.
 */

/** Buckets between a power of two and the next, once `step` is no longer the coarser. */
const bucketsPerDoubling = 8;

/**
 * The smallest bucket that holds `count`: multiples of `step` up to 16 of them, then eighths of the power of two below. Beyond 8 steps less
 * than 1/8 is added, 1/22 on average; up to 1024 steps there are 64 buckets. Eighths and not sixteenths: what is added goes through the
 * shared products alone, a third of a block's, and twice the buckets are twice the recordings.
 *
 * @example
 * bucket(70, 64); // 128
 * bucket(1030, 64); // 1152
 */
export function bucket(count: number, step: number): number {
  if (count === 0) return 0;
  const grain = Math.max(step, 2 ** Math.floor(Math.log2(count)) / bucketsPerDoubling);
  return Math.ceil(count / grain) * grain;
}

/** Text rows: the smallest tile of a product on a device has 64, so that fewer cost no less. */
export const textRowStep = 64;
/** Sequences, and rows that heads read: cheap, and seldom as many as a tile has rows. */
export const sequenceStep = 8;
/** Pictures: each is some 200 rows, so that few are never rounded up. */
export const imageStep = 1;
