/** Embeddings as text: lines of JSON, one list of JSON, or CSV. Each row has its names and, where it has no embedding, says why. */
import { stringify } from 'csv-stringify/sync';
import { Pace } from '../runtime/pace.ts';

export const textFormats = ['json', 'jsonl', 'csv'] as const;
export type TextFormat = (typeof textFormats)[number];

/** One row: its names in the order of `columns`, and its embedding, [width], or why there is none. */
export interface TextRow {
  readonly names: readonly (string | undefined)[];
  readonly embedding?: Float32Array | undefined;
  readonly error?: string | undefined;
}

/** The fewest digits that give the same float32 again when they are read. */
const digits = (value: number): number => Number(value.toPrecision(9));

/**
 * The file in pieces, in UTF-8 when they are written as such.
 *
 * @param columns what the names are called
 * @param width numbers of an embedding
 */
export async function* rowsAsText(
  format: TextFormat,
  columns: readonly string[],
  rows: readonly TextRow[],
  width: number,
): AsyncGenerator<string> {
  const pace = new Pace();
  if (format === 'csv') yield stringify([[...columns, 'error', ...Array.from({ length: width }, (_, i) => String(i))]]);
  if (format === 'json') yield '[';
  let isFirst = true;
  for (const { names, embedding, error } of rows) {
    const numbers = embedding && Array.from(embedding, digits);
    if (format === 'csv')
      yield stringify([[...names, error, ...(numbers?.map(String) ?? new Array<string>(width).fill(''))]]);
    else {
      const fields = Object.fromEntries(columns.map((column, i) => [column, names[i]]));
      const line = JSON.stringify({ ...fields, embedding: numbers, error });
      yield format === 'jsonl' ? `${line}\n` : `${isFirst ? '\n' : ',\n'}${line}`;
    }
    isFirst = false;
    await pace.rest();
  }
  if (format === 'json') yield '\n]\n';
}
