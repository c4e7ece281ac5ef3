/** Embeddings as JSON, written in pieces: numbers of many rows would hold up the event loop. */
import type { EmbeddingMatrix } from '../inference/index.ts';
import { Pace } from '../runtime/pace.ts';
import { HttpError } from './errors.ts';

/** Numbers written between two looks at the clock. */
const numbersAtOnce = 1024;

export type RowFormat = 'float' | 'base64';

/** JSON of each row: a list of numbers, or the float32 numbers (little endian) as base64. */
export async function rowsAsJson({ embeddings, count, width }: EmbeddingMatrix, format: RowFormat): Promise<string[]> {
  const rows: string[] = [];
  const pace = new Pace();
  for (let row = 0; row < count; row++) {
    if (row > 0) await pace.rest();
    const values = embeddings.subarray(row * width, (row + 1) * width);
    rows.push(format === 'base64' ? `"${bytesOf(values).toString('base64')}"` : `[${values.join(',')}]`);
  }
  return rows;
}

/** Numbers of a list in JSON, without its brackets. */
export async function numbersAsJson(values: Float32Array): Promise<string> {
  const pieces: string[] = [];
  const pace = new Pace();
  for (let at = 0; at < values.length; at += numbersAtOnce) {
    pieces.push(values.subarray(at, at + numbersAtOnce).join(','));
    await pace.rest();
  }
  return pieces.join(',');
}

/** The bytes of an array, not copied. */
export const bytesOf = (values: Float32Array): Buffer =>
  Buffer.from(values.buffer, values.byteOffset, values.byteLength);

/**
 * The first `dimensions` numbers of each row, brought to length 1 again.
 *
 * @throws HttpError 422 for more than a row has
 */
export function shortened(of: EmbeddingMatrix, dimensions: number | null | undefined): EmbeddingMatrix {
  const { embeddings, count, width } = of;
  if (dimensions === undefined || dimensions === null || dimensions === width) return of;
  if (dimensions > width)
    throw new HttpError(
      422,
      'MOME_INVALID_ARGUMENT',
      `dimensions: expected at most ${width}, got ${dimensions}`,
      'dimensions',
    );
  const cut = new Float32Array(count * dimensions);
  for (let row = 0; row < count; row++) {
    const values = embeddings.subarray(row * width, row * width + dimensions);
    const length = Math.hypot(...values) || 1;
    for (let i = 0; i < dimensions; i++) cut[row * dimensions + i] = values[i]! / length;
  }
  return { embeddings: cut, count, width: dimensions };
}
