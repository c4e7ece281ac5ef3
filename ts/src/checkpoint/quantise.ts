/**
 * 8-bit weights in files: a matrix as `I8` and the float32 scales of its rows beside it, under the name with `.scale` behind.
 * The rule is that of `native/core/quantise.h`, so matrices converted ahead of time give the bits of those quantised at load.
 */
import { check } from '../runtime/errors.ts';
import { Pace } from '../runtime/pace.ts';

/** Name of the tensor that holds the row scales of `name`. */
export const scaleName = (name: string): string => `${name}.scale`;

const largestStep = 127;

/**
 * Refuses scales that no row can have. Those that are not finite are `requireFinite`'s.
 *
 * @param first number of the first of these rows
 * @throws MomeError `MOME_INVALID_FILE`
 */
export function requireScales(scales: Float32Array, first: number, where: string): void {
  const wrong = scales.findIndex(
    (scale) => Number.isFinite(scale) && (scale < 0 || !Number.isFinite(Math.fround(scale * largestStep))),
  );
  check(
    wrong < 0,
    'MOME_INVALID_FILE',
    `${where}: expected scales >= 0 that are finite times 127, got ${scales[wrong]} at row ${first + wrong}`,
  );
}

/**
 * Refuses the value -128, which symmetric 8 bits do not have.
 *
 * @param first number of the first of these values
 * @throws MomeError `MOME_INVALID_FILE`
 */
export function requireSymmetric(values: Uint8Array, first: number, where: string): void {
  const wrong = values.indexOf(0x80);
  check(
    wrong < 0,
    'MOME_INVALID_FILE',
    `${where}: expected 8-bit values in [-127, 127], got -128 at index ${first + wrong}`,
  );
}

/** A quantised matrix: values in [-127, 127], one scale per row. */
export interface QuantisedRows {
  readonly values: Int8Array;
  readonly scales: Float32Array;
}

/**
 * Quantises [rows, columns] row by row: `scale = max |x| / 127`, rounded up to 16 significant bits, `q = round(x / scale)`, ties to
 * even. A row with a value that is not finite gets the scale NaN.
 */
export async function quantiseRows(data: Float32Array, rows: number): Promise<QuantisedRows> {
  const columns = rows === 0 ? 0 : data.length / rows;
  const values = new Int8Array(data.length);
  const scales = new Float32Array(rows);
  const bits = new Uint32Array(scales.buffer);
  const pace = new Pace();
  for (let row = 0; row < rows; row++) {
    await pace.rest();
    const first = row * columns;
    let largest = 0;
    let finite = true;
    for (let i = first; i < first + columns; i++) {
      const magnitude = Math.abs(data[i]!);
      finite &&= Number.isFinite(magnitude);
      if (magnitude > largest) largest = magnitude;
    }
    scales[row] = finite ? Math.fround(largest / largestStep) : Number.NaN;
    if (finite) bits[row] = (bits[row]! + 0xff) & 0xffffff00;
    const scale = scales[row]!;
    if (!(scale > 0)) continue;
    for (let i = first; i < first + columns; i++) values[i] = roundToEven(Math.fround(data[i]! / scale));
  }
  return { values, scales };
}

function roundToEven(x: number): number {
  const below = Math.floor(x);
  const rest = x - below;
  if (rest !== 0.5) return Math.round(x);
  return below % 2 === 0 ? below : below + 1;
}
