/**
 * Vectors in PostgreSQL with pgvector, through whatever the caller has: a `Pool` or `Client` of `pg`, or PGlite.
 *
 * Each call is one statement, so that a pool may run it on any connection, and a statement does all of its work or none. When the signal
 * of a search or a count fires, a statement of a pool is cancelled in the database; a `Client`, whose statements wait for each other, and
 * PGlite, which computes in this process, finish theirs.
 */
import { type Kinds, oneOf, takeFields, withMethods } from '../../runtime/arguments.ts';
import { check, MomeError } from '../../runtime/errors.ts';
import { Pace } from '../../runtime/pace.ts';
import { quotedTable, type StoredRow, type StoreIdentity, type VectorBackend } from './backend.ts';
import type { Condition, Metadata } from './filter.ts';
import { isPool, runCancellable } from './postgres-cancel.ts';

/** What a `Pool` or `Client` of `pg` and PGlite have in common. */
export interface PostgresConnection {
  query(text: string, values?: unknown[]): Promise<{ readonly rows: readonly unknown[] }>;
}

export interface PostgresOptions {
  /** Name of the table, such as `pictures` or `archive.pictures`; a second one, with `_model` behind its name, says what model it is of. */
  readonly table: string;
  /** `exact` (default) compares with every row; `hnsw` makes an index of pgvector, which is faster in large tables and misses some. */
  readonly index?: 'exact' | 'hnsw';
}

const optionKinds: Kinds<PostgresOptions> = {
  table: { expected: 'a text', accepts: (value) => typeof value === 'string' },
  index: oneOf(['exact', 'hnsw']),
};
/** Codes of errors when another connection makes the same table, type or index at the same moment. */
const madeMeanwhile = ['23505', '42P07', '42710'];
/** Most candidates that pgvector lets its index look at in one go. */
const mostSearched = 1000;
const comparisons = { gt: '>', gte: '>=', lt: '<', lte: '<=' } as const;

/** @throws MomeError `MOME_INVALID_ARGUMENT` */
export function postgresBackend(connection: PostgresConnection, options: PostgresOptions): VectorBackend {
  const where = 'postgresBackend';
  const connected = withMethods('a Pool or Client of pg, or PGlite', 'query');
  check(connected.accepts(connection), 'MOME_INVALID_ARGUMENT', `${where}: expected ${connected.expected}`);
  const { table, index = 'exact' } = takeFields(where, 'options', options, optionKinds);
  return new PostgresBackend(connection, quotedTable(where, table, 2), index);
}

class PostgresBackend implements VectorBackend {
  readonly #connection: PostgresConnection;
  /** In quotes; of checked characters. */
  readonly #table: string;
  readonly #index: 'exact' | 'hnsw';
  #isIterative = false;

  constructor(connection: PostgresConnection, table: string, index: 'exact' | 'hnsw') {
    this.#connection = connection;
    this.#table = table;
    this.#index = index;
  }

  async open({ fingerprint, width }: StoreIdentity): Promise<StoreIdentity> {
    const model = this.#table.replace(/"$/, '_model"');
    const [extension] = await this.#rows<{ version: string }>(
      `SELECT extversion AS version FROM pg_extension WHERE extname = 'vector'`,
    );
    if (!extension) await this.#make('CREATE EXTENSION IF NOT EXISTS vector');
    const [major, minor] = (extension?.version ?? '0.8').split('.').map(Number);
    this.#isIterative = major! > 0 || minor! >= 8;
    await this.#make(
      `CREATE TABLE IF NOT EXISTS ${model} (one boolean PRIMARY KEY CHECK (one), fingerprint text NOT NULL, width integer NOT NULL)`,
    );
    await this.#rows(
      `INSERT INTO ${model} (one, fingerprint, width) VALUES (true, $1::text, $2::text::integer) ON CONFLICT (one) DO NOTHING`,
      [fingerprint, String(width)],
    );
    const [found] = await this.#rows<StoreIdentity>(`SELECT fingerprint, width FROM ${model}`);
    if (found!.fingerprint !== fingerprint || found!.width !== width) return found!;
    // (The width is a number of the model's configuration: a type takes no parameter.)
    await this.#make(
      `CREATE TABLE IF NOT EXISTS ${this.#table} (id text COLLATE "C" PRIMARY KEY, embedding vector(${Math.trunc(width)}) NOT NULL, metadata jsonb NOT NULL)`,
    );
    if (this.#index === 'hnsw') {
      const name = this.#table.split('.').at(-1)!.replace(/"$/, '_hnsw"');
      await this.#make(`CREATE INDEX IF NOT EXISTS ${name} ON ${this.#table} USING hnsw (embedding vector_ip_ops)`);
    }
    return found!;
  }

  async upsert(rows: readonly StoredRow[]): Promise<void> {
    const pace = new Pace();
    const given: object[] = [];
    for (const { id, vector, metadata } of rows) {
      given.push({ id, vector: `[${vector.join(',')}]`, metadata });
      await pace.rest();
    }
    // In the order of ids, so that two writers of the same rows do not wait for each other.
    await this.#rows(
      `INSERT INTO ${this.#table} (id, embedding, metadata)
       SELECT given.id, given.vector::vector, given.metadata
       FROM jsonb_to_recordset($1::text::jsonb) AS given(id text, vector text, metadata jsonb) ORDER BY given.id COLLATE "C"
       ON CONFLICT (id) DO UPDATE SET embedding = excluded.embedding, metadata = excluded.metadata`,
      [JSON.stringify(given)],
    );
  }

  async delete(ids: readonly string[]): Promise<number> {
    const gone = await this.#rows(
      `DELETE FROM ${this.#table} WHERE id IN (SELECT jsonb_array_elements_text($1::text::jsonb)) RETURNING 1 AS one`,
      [JSON.stringify(ids)],
    );
    return gone.length;
  }

  async present(ids: readonly string[]): Promise<readonly string[]> {
    const found = await this.#rows<{ id: string }>(
      `SELECT id FROM ${this.#table} WHERE id IN (SELECT jsonb_array_elements_text($1::text::jsonb))`,
      [JSON.stringify(ids)],
    );
    return found.map(({ id }) => id);
  }

  async nearest(
    vector: Float32Array,
    k: number,
    conditions: readonly Condition[],
    signal: AbortSignal | undefined,
  ): Promise<readonly StoredRow[]> {
    if (this.#index === 'hnsw') {
      const found = await this.#search(vector, k, conditions, true, signal);
      // The index looks at a part of the rows, of which too few may match.
      if (found.length === k || signal?.aborted) return found;
    }
    return this.#search(vector, k, conditions, false, signal);
  }

  async count(conditions: readonly Condition[], signal: AbortSignal | undefined): Promise<number> {
    const values: string[] = [];
    const [found] = await this.#rows<{ count: string }>(
      `SELECT count(*)::text AS count FROM ${this.#table} WHERE ${sqlOf(conditions, values)}`,
      values,
      signal,
    );
    return Number(found!.count);
  }

  async #search(
    vector: Float32Array,
    k: number,
    conditions: readonly Condition[],
    byIndex: boolean,
    signal: AbortSignal | undefined,
  ): Promise<StoredRow[]> {
    const values = [`[${vector.join(',')}]`, String(k)];
    const where = sqlOf(conditions, values);
    const columns = 'id, embedding, metadata';
    // An expression that the index does not know: every row is compared.
    const distance = byIndex ? '(embedding <#> $1::text::vector)' : '(embedding <#> $1::text::vector) + 0';
    let inner = `SELECT ${columns} FROM ${this.#table} WHERE ${where} ORDER BY ${distance}, id LIMIT $2::text::integer`;
    if (byIndex) {
      // Settings of this statement alone, made before its search begins: they stand before what the search is joined to.
      values.push(String(Math.min(mostSearched, Math.max(40, 2 * k))));
      const settings = [`set_config('hnsw.ef_search', $${values.length}::text, true)`];
      if (this.#isIterative) settings.push(`set_config('hnsw.iterative_scan', 'strict_order', true)`);
      const search = `SELECT ${columns} FROM ${this.#table} WHERE made.settings IS NOT NULL AND ${where} ORDER BY ${distance} LIMIT $2::text::integer`;
      inner = `SELECT found.* FROM made CROSS JOIN LATERAL (${search}) AS found`;
      inner = `WITH made AS MATERIALIZED (SELECT ${settings.join(' || ')} AS settings) ${inner}`;
    }
    const rows = await this.#rows<{ id: string; vector: Uint8Array; metadata: string }>(
      `SELECT id, vector_send(embedding) AS vector, metadata::text AS metadata FROM (${inner}) AS nearest`,
      values,
      signal,
    );
    return rows.map((row) => ({
      id: row.id,
      vector: receivedVector(row.vector),
      metadata: JSON.parse(row.metadata) as Metadata,
    }));
  }

  /** @param signal cancels the statement in the database, where the connection is a pool */
  async #rows<T>(text: string, values: readonly string[] = [], signal?: AbortSignal): Promise<readonly T[]> {
    const connection = this.#connection;
    const { rows } =
      signal && isPool(connection)
        ? await runCancellable(connection, text, [...values], signal)
        : await connection.query(text, [...values]);
    return rows as readonly T[];
  }

  /** A statement that makes something which another connection may make at the same moment. */
  async #make(text: string): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        await this.#rows(text);
        return;
      } catch (error) {
        if (tries === 3 || !madeMeanwhile.includes((error as { code?: string }).code ?? '')) throw error;
      }
    }
  }
}

/** Conditions as SQL; what they compare with is added to `values`. */
function sqlOf(conditions: readonly Condition[], values: string[]): string {
  const bind = (value: string, type: string) => `$${values.push(value)}::text${type}`;
  const parts = conditions.map((condition) => {
    if (condition.op === 'in' && condition.values.length === 0) return 'false';
    const field = bind(condition.field, '');
    if (condition.op === 'in') {
      return `(metadata -> ${field}) IN (${condition.values.map((value) => bind(JSON.stringify(value), '::jsonb')).join(', ')})`;
    }
    const { value } = condition;
    const comparison = comparisons[condition.op];
    if (typeof value === 'number')
      return `(CASE WHEN jsonb_typeof(metadata -> ${field}) = 'number' THEN (metadata ->> ${field})::numeric ${comparison} ${bind(String(value), '::numeric')} ELSE false END)`;
    return `(CASE WHEN jsonb_typeof(metadata -> ${field}) = 'string' THEN (metadata ->> ${field}) COLLATE "C" ${comparison} ${bind(value, '')} ELSE false END)`;
  });
  return parts.length === 0 ? 'true' : parts.join(' AND ');
}

/** A vector as pgvector sends it: its length and nothing in 16 bits each, then float32 values, all in big-endian order. */
function receivedVector(bytes: Uint8Array): Float32Array {
  if (!(bytes instanceof Uint8Array) || bytes.length < 4)
    throw new MomeError('MOME_IO', 'postgres: expected the bytes of a vector');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float32Array.from({ length: (bytes.length - 4) / 4 }, (_, i) => view.getFloat32(4 + 4 * i, false));
}
