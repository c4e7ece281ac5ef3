/** Vectors in memory, in PostgreSQL and in SQLite. */
export type { StoredRow, StoreIdentity, VectorBackend, VectorRow } from './backend.ts';
export { type ExactOptions, exactBackend } from './exact.ts';
export type { Condition, Filter, Metadata, Range, Scalar } from './filter.ts';
export { type PostgresConnection, type PostgresOptions, postgresBackend } from './postgres.ts';
export { type SqliteDatabase, type SqliteOptions, type SqliteStatement, sqliteBackend } from './sqlite.ts';
export {
  type Added,
  type AddOptions,
  type FilterOptions,
  type StoreCallOptions,
  type StoreItem,
  type StoreResult,
  type StoreSearchOptions,
  type VectorMatch,
  VectorStore,
} from './vector-store.ts';
