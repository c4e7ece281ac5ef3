/** The places that tests keep vectors in, each new and empty. */
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { PGlite } from '@electric-sql/pglite';
import { vector } from '@electric-sql/pglite-pgvector';
import { load } from 'sqlite-vec';
import {
  exactBackend,
  postgresBackend,
  type SqliteDatabase,
  sqliteBackend,
  type VectorBackend,
} from '../../../src/search/index.ts';
import { temporaryFolder } from '../../helpers.ts';

export const Database = createRequire(import.meta.url)('libsql') as new (
  path: string,
) => SqliteDatabase & { loadExtension(path: string): void; close(): void };

/** A place that may be opened several times, as by one process after the other. */
export interface Place {
  readonly name: string;
  open(table?: string): VectorBackend;
}

/** A SQLite database with sqlite-vec. */
export function sqlite(path = ':memory:'): SqliteDatabase & { close(): void } {
  const database = new Database(path);
  load(database);
  return database;
}

let started: Promise<PGlite> | undefined;

/** One PostgreSQL with pgvector for the tests of a file. */
export function postgres(): Promise<PGlite> {
  started ??= PGlite.create({ extensions: { vector } });
  return started;
}

export async function allPlaces(): Promise<readonly Place[]> {
  const folder = await temporaryFolder();
  const [pglite, database] = [await postgres(), sqlite(join(folder, 'vectors.sqlite'))];
  return [
    { name: 'exact', open: (table = 'rows') => exactBackend({ file: join(folder, `${table}.vectors`) }) },
    { name: 'postgres', open: (table = 'rows') => postgresBackend(pglite, { table }) },
    { name: 'hnsw', open: (table = 'rows') => postgresBackend(pglite, { table: `${table}_near`, index: 'hnsw' }) },
    { name: 'sqlite', open: (table = 'rows') => sqliteBackend(database, { table }) },
  ];
}
