/**
 * The relative-position bias of a dense sequence: which row of `relative_position_bias_table` each (query, key) pair reads.
 * `native/core/relative_position.h` is the same layout for kernels; tests hold both to the recorded cases.
 */

/** The sizes that the table follows from. */
interface RelativeTable {
  /** Patches along one side of the picture. */
  readonly grid: number;
  /** Text length the text part of the table was sized for. */
  readonly textInitLength: number;
}

/** A token: CLS is 0 of either modality; patches and word pieces follow. */
export interface Token {
  readonly part: 'image' | 'text';
  readonly index: number;
}

/** The row of the table for one pair. */
export function tableRow({ grid, textInitLength }: RelativeTable, query: Token, key: Token): number {
  const span = 2 * grid - 1;
  const imageOffsets = span ** 2;
  if (query.part !== key.part) return imageOffsets + (query.part === 'text' ? 3 : 4);
  const isText = query.part === 'text';
  // CLS to any, any to CLS, CLS to CLS: after the offsets of each modality.
  const special = isText ? imageOffsets + 3 + 2 + 2 * textInitLength - 3 : imageOffsets;
  if (query.index === 0 && key.index === 0) return special + 2;
  if (query.index === 0) return special;
  if (key.index === 0) return special + 1;
  if (isText) return imageOffsets + 5 + (key.index - query.index) + (textInitLength - 2);
  const [from, to] = [query.index - 1, key.index - 1];
  const dy = Math.floor(from / grid) - Math.floor(to / grid) + grid - 1;
  const dx = (from % grid) - (to % grid) + grid - 1;
  return dy * span + dx;
}

/** Rows of the table for all pairs, [tokens, tokens]. */
export function tableRows(table: RelativeTable, tokens: readonly Token[]): Int32Array {
  const rows = new Int32Array(tokens.length ** 2);
  let at = 0;
  for (const query of tokens) for (const key of tokens) rows[at++] = tableRow(table, query, key);
  return rows;
}

/**
 * The bias of one layer, [heads, pairs].
 *
 * @param table [rows, columns]
 * @param firstColumn column of the layer's first head
 */
export function expandBias(
  table: Float32Array,
  columns: number,
  rows: Int32Array,
  heads: number,
  firstColumn: number,
): Float32Array {
  const bias = new Float32Array(heads * rows.length);
  for (let head = 0; head < heads; head++) {
    const out = bias.subarray(head * rows.length, (head + 1) * rows.length);
    for (let pair = 0; pair < rows.length; pair++) out[pair] = table[rows[pair]! * columns + firstColumn + head]!;
  }
  return bias;
}
