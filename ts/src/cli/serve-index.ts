/** What `mome serve` searches: an index file, in memory or on disk, or a store of vectors in a file or in PostgreSQL. */
import { isAbsolute, relative, resolve, sep } from 'node:path';
import type { Vlmo } from '../inference/index.ts';
import { check, MomeError } from '../runtime/errors.ts';
import { DiskIndex, exactBackend, postgresBackend, SearchIndex, VectorStore } from '../search/index.ts';
import { isDiskIndex } from '../search/index-file.ts';
import type { PictureOf, ServableIndex } from '../serve/served-index.ts';

export interface ServedIndexFlags {
  readonly index?: string;
  readonly store?: string;
}

/** An index that is open, and how it is closed once nobody searches it any more. */
export interface OpenedIndex {
  readonly index: ServableIndex;
  close(): Promise<void>;
}

const postgresUrl = /^postgres(?:ql)?:\/\//;
const defaultTable = 'mome';

/**
 * Opens what the flags name, or nothing.
 *
 * @throws MomeError `MOME_INVALID_ARGUMENT` for both kinds; as `SearchIndex.open`, `DiskIndex.open` and `VectorStore.open`
 */
export async function openServedIndex(
  model: Vlmo,
  { index, store }: ServedIndexFlags,
): Promise<OpenedIndex | undefined> {
  check(
    index === undefined || store === undefined,
    'MOME_INVALID_ARGUMENT',
    'serve: expected --index or --store, got both',
  );
  if (store !== undefined) return postgresUrl.test(store) ? openPostgres(model, store) : openFile(model, store);
  if (index === undefined) return undefined;
  if (!(await isDiskIndex(index))) return { index: await SearchIndex.open(model, index), close: async () => {} };
  const disk = await DiskIndex.open(model, index);
  return { index: disk, close: async () => disk.close() };
}

async function openFile(model: Vlmo, file: string): Promise<OpenedIndex> {
  const store = await VectorStore.open(model, exactBackend({ file }));
  return { index: store, close: () => store.close() };
}

/** Of `pg`, which has to be installed beside mome. */
interface Pg {
  readonly Pool: new (options: {
    readonly connectionString: string;
  }) => {
    query(text: string, values?: unknown[]): Promise<{ readonly rows: unknown[] }>;
    on(event: string, listener: () => void): void;
    end(): Promise<void>;
  };
}

/** `postgresql://user@host/database?table=pictures&index=hnsw`: the parameters `table` and `index` are ours. */
async function openPostgres(model: Vlmo, address: string): Promise<OpenedIndex> {
  check(
    URL.canParse(address),
    'MOME_INVALID_ARGUMENT',
    'serve: expected --store to be a URL of PostgreSQL, got another text',
  );
  const url = new URL(address);
  const table = url.searchParams.get('table') ?? defaultTable;
  const index = url.searchParams.get('index') ?? 'exact';
  for (const own of ['table', 'index']) url.searchParams.delete(own);
  const { Pool } = await postgresClient();
  const pool = new Pool({ connectionString: url.href });
  pool.on('error', () => {}); // of a connection that nobody uses: the next call has another, or fails
  try {
    const store = await VectorStore.open(model, postgresBackend(pool, { table, index: index as 'exact' }));
    return { index: store, close: () => pool.end() };
  } catch (error) {
    await pool.end();
    throw error;
  }
}

async function postgresClient(): Promise<Pg> {
  const name = 'pg'; // no dependency of the package: whoever has PostgreSQL installs it
  try {
    const { default: pg } = (await import(name)) as { default: Pg };
    return pg;
  } catch (error) {
    throw new MomeError(
      'MOME_UNSUPPORTED',
      'serve: expected the package pg beside mome for a store in PostgreSQL; install it with "npm install pg", or with --global where mome is global',
      { cause: error },
    );
  }
}

/** The pictures of a store whose ids are paths below `folder`; none outside it is read, whatever the id. */
export function picturesBelow(folder: string): PictureOf {
  const root = resolve(folder);
  return ({ id }) => {
    const path = resolve(root, id);
    const place = relative(root, path);
    const isInside = place !== '' && place !== '..' && !place.startsWith(`..${sep}`) && !isAbsolute(place);
    check(isInside, 'MOME_NOT_FOUND', 'search: expected an id that is a path below --pictures, got another');
    return path;
  };
}
