/** What keeps vectors for a `VectorStore`. */
import { check } from '../../runtime/errors.ts';
import type { Condition, Metadata } from './filter.ts';

/** A row: an embedding of length 1 under a name of the caller's. */
export interface VectorRow {
  /** At most 2,000 bytes of UTF-8, without NUL. */
  readonly id: string;
  readonly vector: Float32Array;
  readonly metadata?: Metadata;
}

export type StoredRow = Required<VectorRow>;

/** What a store belongs to: one filled by another model is refused. */
export interface StoreIdentity {
  readonly fingerprint: string;
  readonly width: number;
}

/**
 * A place for vectors. `VectorStore` checks every argument before it gets here, and turns errors that have no code into `MOME_IO`.
 */
export interface VectorBackend {
  /** Makes what is missing. @returns the identity that the place has: the one given where it was new */
  open(identity: StoreIdentity): Promise<StoreIdentity>;
  /** Adds or replaces a few rows with different ids: all of them, or none. */
  upsert(rows: readonly StoredRow[]): Promise<void>;
  /** @returns how many were there */
  delete(ids: readonly string[]): Promise<number>;
  /** Those of the ids that are there. */
  present(ids: readonly string[]): Promise<readonly string[]>;
  /** The `k` rows nearest to a vector of length 1 among those that match, in any order. Ends early when the signal fires, if it can. */
  nearest(
    vector: Float32Array,
    k: number,
    conditions: readonly Condition[],
    signal: AbortSignal | undefined,
  ): Promise<readonly StoredRow[]>;
  count(conditions: readonly Condition[], signal: AbortSignal | undefined): Promise<number>;
  close?(): Promise<void>;
}

const tablePattern = /^[a-z_][a-z0-9_]{0,47}$/;

/** A table's name in quotes, with its schema. @throws MomeError `MOME_INVALID_ARGUMENT` for any other characters */
export function quotedTable(where: string, table: unknown, parts: 1 | 2): string {
  const names = typeof table === 'string' ? table.split('.') : [];
  check(
    names.length > 0 && names.length <= parts && names.every((name) => tablePattern.test(name)),
    'MOME_INVALID_ARGUMENT',
    `${where}: expected table to be a name of at most 48 small letters, digits and _${parts === 2 ? ', with its schema and a dot before it or not' : ''}, got ${JSON.stringify(table)?.slice(0, 100)}`,
  );
  return names.map((name) => `"${name}"`).join('.');
}

/** float32 values of bytes in little-endian order, at any place in memory. */
export function floatsOf(bytes: Uint8Array | ArrayBuffer): Float32Array {
  const copy = bytes instanceof ArrayBuffer ? bytes : new Uint8Array(bytes).buffer;
  return new Float32Array(copy);
}

export const bytesOf = (vector: Float32Array): Buffer =>
  Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength);
