/** Rows of 8-bit codes: a row is its scale times whole numbers from -127 to 127. */

/** Rows of codes are filled up with zeros to whole groups of so many; native code has the same number. */
const codeGroup = 64;
const largestCode = 127;

/** Bytes of a row of codes. */
export const codeStride = (width: number): number => Math.ceil(width / codeGroup) * codeGroup;

/**
 * Writes the codes of `row`, [width], into `codes` at `at`, and zeros behind them.
 *
 * @returns the scale
 */
export function writeCodes(row: Float32Array, codes: Int8Array, at: number): number {
  let largest = 0;
  for (let i = 0; i < row.length; i++) largest = Math.max(largest, Math.abs(row[i]!));
  codes.fill(0, at, at + codeStride(row.length));
  if (largest === 0) return 0;
  const factor = largestCode / largest;
  for (let i = 0; i < row.length; i++) codes[at + i] = Math.round(row[i]! * factor);
  return largest / largestCode;
}
