/**
 * 8-bit weights in files: a matrix as `I8` and the float32 scales of its rows beside it, under the name with `.scale` behind.
 * The rule is that of `native/core/quantise.h`, so a model converted ahead of time gives the bits of one quantised at load.
 */
import { Pace } from '../runtime/pace.ts';

/** Name of the tensor that holds the row scales of `name`. */
export const scaleName = (name: string): string => `${name}.scale`;

const largestStep = 127;

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
