/** Rows of 8-bit codes: a row is its scale times whole numbers from -127 to 127. */

import { writeIntegers } from '../inference/quantize.ts';

/** Rows of codes are filled up with zeros to whole groups of so many; native code has the same number. */
const codeGroup = 64;

/** Bytes of a row of codes. */
export const codeStride = (width: number): number => Math.ceil(width / codeGroup) * codeGroup;

/**
 * Writes the codes of `row`, [width], into `codes` at `at`, and zeros behind them.
 *
 * @returns the scale
 */
export function writeCodes(row: Float32Array, codes: Int8Array, at: number): number {
  codes.fill(0, at + row.length, at + codeStride(row.length));
  return writeIntegers(row, codes, at);
}
