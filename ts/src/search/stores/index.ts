/** Vectors in memory, in PostgreSQL and in SQLite. */
export type { StoredRow, StoreIdentity, VectorBackend, VectorRow } from './backend.ts';
export { type ExactOptions, exactBackend } from './exact.ts';
export type { Condition, Filter, Metadata, Range, Scalar } from './filter.ts';
export type {
  Added,
  AddOptions,
  FilterOptions,
  StoreCallOptions,
  StoreItem,
  StoreResult,
  StoreSearchOptions,
  VectorMatch,
} from './options.ts';
export { type PostgresConnection, type PostgresOptions, postgresBackend } from './postgres.ts';
export { type SqliteDatabase, type SqliteOptions, type SqliteStatement, sqliteBackend } from './sqlite.ts';
export { VectorStore } from './vector-store.ts';
