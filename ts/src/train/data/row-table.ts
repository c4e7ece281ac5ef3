/** Rows with named columns in a file, read a few at a time. */

/** Values of a row by column: bytes as Uint8Array, lists as arrays, missing values as null. */
export type Row = Readonly<Record<string, unknown>>;

export interface RowTable {
  readonly path: string;
  readonly rows: number;
  /** Names of the columns of the outermost level. */
  readonly columns: readonly string[];
  /** First rows of record batches or row groups, ascending from 0. */
  readonly chunkStarts: readonly number[];
  /** Bytes that describe the file, for its fingerprint: its size and the end of it. */
  readonly description: string;
  /** @throws MomeError `MOME_INVALID_FILE` naming the file and the row */
  read(row: number, columns: readonly string[]): Promise<Row>;
  /** All rows in order, in parts; for columns that are small. */
  scan(columns: readonly string[]): AsyncIterable<readonly Row[]>;
  close(): void;
}
