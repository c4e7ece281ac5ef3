/**
 * Vectors in SQLite with sqlite-vec, through a handle as of better-sqlite3 or libsql.
 *
 * Calls of such a handle hold the event loop until they return. Rows are therefore compared in slices of a few milliseconds each, between
 * which other events run; what is written meanwhile may or may not be found.
 */
import { describe, type Kinds, takeFields, withMethods } from '../../runtime/arguments.ts';
import { check, MomeError, requireNotAborted } from '../../runtime/errors.ts';
import { bytesOf, floatsOf, quotedTable, type StoredRow, type StoreIdentity, type VectorBackend } from './backend.ts';
import { byCodePoints, type Condition, type Metadata } from './filter.ts';

export interface SqliteStatement {
  run(values: unknown[]): { readonly changes: number | bigint };
  get(values: unknown[]): unknown;
  all(values: unknown[]): unknown[];
}

/** What a `Database` of better-sqlite3 and of libsql have in common. */
export interface SqliteDatabase {
  prepare(text: string): SqliteStatement;
  exec(text: string): unknown;
}

export interface SqliteOptions {
  /** Name of the table; a second one, with `_model` behind its name, says what model it is of. */
  readonly table: string;
}

const optionKinds: Kinds<SqliteOptions> = {
  table: { expected: 'a text', accepts: (value) => typeof value === 'string' },
};
/** Milliseconds of one slice, as far as single rows allow. */
const sliceTime = 8;
const firstSlice = 256;
const mostRows = 2 ** 20;
const comparisons = { gt: '>', gte: '>=', lt: '<', lte: '<=' } as const;

/**
 * @param database with sqlite-vec loaded into it: `sqliteVec.load(database)`
 * @throws MomeError `MOME_INVALID_ARGUMENT`
 */
export function sqliteBackend(database: SqliteDatabase, options: SqliteOptions): VectorBackend {
  const where = 'sqliteBackend';
  const handle = withMethods('a Database of better-sqlite3 or libsql', 'prepare', 'exec');
  check(
    handle.accepts(database),
    'MOME_INVALID_ARGUMENT',
    `${where}: expected ${handle.expected}, got ${describe(database)}`,
  );
  const { table } = takeFields(where, 'options', options, optionKinds);
  return new SqliteBackend(database, quotedTable(where, table, 1));
}

interface Found {
  readonly row: number;
  readonly distance: number;
  readonly id: string;
}

class SqliteBackend implements VectorBackend {
  readonly #database: SqliteDatabase;
  readonly #table: string;

  constructor(database: SqliteDatabase, table: string) {
    this.#database = database;
    this.#table = table;
  }

  async open({ fingerprint, width }: StoreIdentity): Promise<StoreIdentity> {
    const model = this.#table.replace(/"$/, '_model"');
    try {
      this.#database.prepare('SELECT vec_version() AS version').get([]);
    } catch (error) {
      const message = 'sqlite: expected sqlite-vec to be loaded: call load(database) of the package sqlite-vec first';
      throw new MomeError('MOME_UNSUPPORTED', message, { cause: error });
    }
    this.#together(() => {
      this.#database.exec(
        `CREATE TABLE IF NOT EXISTS ${model} (one INTEGER PRIMARY KEY CHECK (one = 1), fingerprint TEXT NOT NULL, width INTEGER NOT NULL)`,
      );
      this.#run(`INSERT INTO ${model} VALUES (1, ?, ?) ON CONFLICT (one) DO NOTHING`, [fingerprint, width]);
      this.#database.exec(
        `CREATE TABLE IF NOT EXISTS ${this.#table} (row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, vector BLOB NOT NULL, metadata TEXT NOT NULL)`,
      );
    });
    const [found] = this.#all<StoreIdentity>(`SELECT fingerprint, width FROM ${model}`, []);
    return { fingerprint: found!.fingerprint, width: Number(found!.width) };
  }

  async upsert(rows: readonly StoredRow[]): Promise<void> {
    this.#together(() => {
      const insert = this.#database.prepare(
        `INSERT INTO ${this.#table} (id, vector, metadata) VALUES (?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET vector = excluded.vector, metadata = excluded.metadata`,
      );
      for (const { id, vector, metadata } of rows) insert.run([id, bytesOf(vector), JSON.stringify(metadata)]);
    });
  }

  async delete(ids: readonly string[]): Promise<number> {
    const text = `DELETE FROM ${this.#table} WHERE id IN (SELECT value FROM json_each(?))`;
    return this.#run(text, [JSON.stringify(ids)]);
  }

  async present(ids: readonly string[]): Promise<readonly string[]> {
    const text = `SELECT id FROM ${this.#table} WHERE id IN (SELECT value FROM json_each(?))`;
    return this.#all<{ id: string }>(text, [JSON.stringify(ids)]).map(({ id }) => id);
  }

  async nearest(
    vector: Float32Array,
    k: number,
    conditions: readonly Condition[],
    signal: AbortSignal | undefined,
  ): Promise<readonly StoredRow[]> {
    const values: unknown[] = [];
    const where = sqlOf(conditions, values);
    const text = `SELECT row, id, vec_distance_cosine(vector, ?) AS distance FROM ${this.#table}
      WHERE row > ? AND row <= ? AND ${where} ORDER BY distance, id LIMIT ?`;
    let best: Found[] = [];
    await this.#slices(signal, (after, last) => {
      best.push(...this.#all<Found>(text, [bytesOf(vector), after, last, ...values, k]));
      if (best.length > 2 * k) best = firstOf(best, k);
    });
    return this.#rowsOf(firstOf(best, k), conditions, signal);
  }

  async count(conditions: readonly Condition[], signal: AbortSignal | undefined): Promise<number> {
    const values: unknown[] = [];
    const text = `SELECT count(*) AS count FROM ${this.#table} WHERE row > ? AND row <= ? AND ${sqlOf(conditions, values)}`;
    let count = 0;
    await this.#slices(signal, (after, last) => {
      count += Number(this.#all<{ count: number }>(text, [after, last, ...values])[0]!.count);
    });
    return count;
  }

  /** Calls `work` for one range of rows after the other, each as long as takes about `sliceTime`. */
  async #slices(signal: AbortSignal | undefined, work: (after: number, last: number) => void): Promise<void> {
    const [end] = this.#all<{ last: number | null }>(`SELECT max(row) AS last FROM ${this.#table}`, []);
    let rows = firstSlice;
    for (let after = 0; after < Number(end!.last ?? 0); ) {
      requireNotAborted(signal, 'query');
      const started = performance.now();
      work(after, after + rows);
      after += rows;
      const factor = sliceTime / Math.max(0.1, performance.now() - started);
      rows = Math.min(mostRows, Math.max(1, Math.round(rows * Math.min(2, factor))));
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Rows as they are now. Others may have been written in their places since they were found: the filter holds for these too. */
  async #rowsOf(
    found: readonly Found[],
    conditions: readonly Condition[],
    signal: AbortSignal | undefined,
  ): Promise<StoredRow[]> {
    const rows: StoredRow[] = [];
    const values: unknown[] = [];
    const where = sqlOf(conditions, values);
    const text = `SELECT id, vector, metadata FROM ${this.#table} WHERE row IN (SELECT value FROM json_each(?)) AND ${where}`;
    for (let begin = 0; begin < found.length; begin += firstSlice) {
      requireNotAborted(signal, 'query');
      const numbers = found.slice(begin, begin + firstSlice).map(({ row }) => Number(row));
      const some = this.#all<{ id: string; vector: Uint8Array | ArrayBuffer; metadata: string }>(text, [
        JSON.stringify(numbers),
        ...values,
      ]);
      for (const { id, vector, metadata } of some)
        rows.push({ id, vector: floatsOf(vector), metadata: JSON.parse(metadata) as Metadata });
      await new Promise((resolve) => setImmediate(resolve));
    }
    return rows;
  }

  /** All of `work` or none of it, also inside a transaction of the caller. */
  #together(work: () => void): void {
    this.#database.exec('SAVEPOINT mome');
    try {
      work();
    } catch (error) {
      this.#database.exec('ROLLBACK TO mome');
      this.#database.exec('RELEASE mome');
      throw error;
    }
    this.#database.exec('RELEASE mome');
  }

  // (Values go as one list: libsql takes a lone buffer for named values, and ends the process.)
  #run(text: string, values: unknown[]): number {
    return Number(this.#database.prepare(text).run(values).changes);
  }

  #all<T>(text: string, values: unknown[]): T[] {
    return this.#database.prepare(text).all(values) as T[];
  }
}

const firstOf = (found: Found[], k: number): Found[] =>
  found.sort((a, b) => a.distance - b.distance || byCodePoints(a.id, b.id)).slice(0, k);

/** Conditions as SQL; what they compare with is added to `values`. */
function sqlOf(conditions: readonly Condition[], values: unknown[]): string {
  const parts = conditions.map((condition) => {
    const path = `$.${condition.field}`; // of letters, digits and _
    const typed = (types: string, rest: string, value: unknown) => {
      values.push(path, path, value);
      return `(json_type(metadata, ?) IN (${types}) AND json_extract(metadata, ?) ${rest})`;
    };
    if (condition.op !== 'in') {
      const comparison = comparisons[condition.op];
      if (typeof condition.value === 'string') return typed(`'text'`, `${comparison} ?`, condition.value);
      // SQLite reads some numbers of JSON a little off, such as whole ones beyond 2^53: the bound is read in the same way.
      return typed(`'integer', 'real'`, `${comparison} json_extract(?, '$')`, JSON.stringify(condition.value));
    }
    const listOf = (type: string) => condition.values.filter((value) => typeof value === type);
    const isOneOf = 'IN (SELECT value FROM json_each(?))';
    const choices: string[] = [];
    if (listOf('string').length > 0) choices.push(typed(`'text'`, isOneOf, JSON.stringify(listOf('string'))));
    if (listOf('number').length > 0)
      choices.push(typed(`'integer', 'real'`, isOneOf, JSON.stringify(listOf('number'))));
    if (listOf('boolean').length > 0) {
      values.push(path, JSON.stringify(listOf('boolean').map(String)));
      choices.push(`json_type(metadata, ?) ${isOneOf}`);
    }
    return choices.length === 0 ? 'false' : `(${choices.join(' OR ')})`;
  });
  return parts.length === 0 ? 'true' : parts.join(' AND ');
}
