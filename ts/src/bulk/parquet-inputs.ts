/** Parquet files of pictures or texts: each row is a unit. */
import { createHash } from 'node:crypto';
import { check, MomeError } from '../runtime/errors.ts';
import { lastAtMost } from '../train/data/dataset.ts';
import { openParquet, type ParquetTable } from '../train/data/parquet.ts';
import type { BulkInputs, Content, InputOptions } from './inputs.ts';
import { unitProgress } from './shards.ts';

/** Columns that are looked for, the first that is there wins. */
const usualColumns = ['image', 'jpg', 'jpeg', 'png', 'img', 'caption', 'text', 'txt'];
/** Rows that are looked at for a value that tells pictures from texts. */
const lookedAt = 100;
/** A row of a file is kept with its row group, whose bytes the reader bounds. */
const assumedBytes = 2 ** 17;

/** @throws MomeError as `openParquet`; `MOME_INVALID_FILE` for files without the columns */
export async function openParquetFiles(files: readonly string[], { column, id }: InputOptions): Promise<BulkInputs> {
  const hash = createHash('sha256');
  const starts: number[] = [];
  const tables: ParquetTable[] = [];
  let rows = 0;
  let wanted: string | undefined = column;
  for (const file of files) {
    const table = await openParquet(file);
    wanted ??= usualColumns.find((name) => table.columns.includes(name));
    for (const name of [wanted ?? usualColumns.join(' or '), id])
      check(
        name === undefined || table.columns.includes(name),
        'MOME_INVALID_FILE',
        `${file}: expected a column ${name}, got ${table.columns.slice(0, 20).join(', ')}`,
      );
    hash.update(`${file}\0${table.description}\0`);
    starts.push(rows);
    tables.push(table);
    rows += table.rows;
  }
  const of = wanted!;
  const columns = id === undefined || id === of ? [of] : [of, id];
  const kind = await kindOf(tables, of);
  hash.update(`${of}\0${kind}`);
  return {
    kind,
    units: rows,
    identity: hash.digest('hex'),
    leftOut: [],
    async *items({ unit: first }, end) {
      for (let unit = first; unit < end; unit++) {
        const at = lastAtMost(starts, unit);
        const table = tables[at]!;
        const row = unit - starts[at]!;
        yield {
          source: table.path,
          name: String(row),
          bytes: assumedBytes,
          next: { unit: unit + 1, item: 0 },
          read: async () => {
            const values = await table.read(row, columns);
            const name = id === undefined ? undefined : nameOf(values[id]);
            return { ...contentOf(values[of], kind, of), ...(name !== undefined && { name }) };
          },
        };
      }
    },
    progress: unitProgress,
    close: () => {
      for (const table of tables) table.close();
    },
  };
}

/** Whether a column holds pictures or texts, by its first value that is not null. */
async function kindOf(tables: readonly ParquetTable[], column: string): Promise<BulkInputs['kind']> {
  for (const table of tables)
    for (let row = 0; row < Math.min(lookedAt, table.rows); row++) {
      const value = (await table.read(row, [column]))[column];
      if (value === null || value === undefined) continue;
      if (typeof value === 'string') return 'texts';
      if (bytesOf(value)) return 'pictures';
      const message = `${table.path}: expected pictures or texts in the column ${column}, got another type`;
      throw new MomeError('MOME_INVALID_FILE', message);
    }
  return 'pictures';
}

function contentOf(value: unknown, kind: BulkInputs['kind'], column: string): Content {
  if (kind === 'texts')
    return typeof value === 'string' ? { text: value } : { broken: `expected a text in ${column}, got none` };
  const picture = bytesOf(value);
  return picture ? { picture } : { broken: `expected the bytes of a picture in ${column}, got none` };
}

/** The bytes of a picture, or of a record of them with a path as Hugging Face's files have it. */
function bytesOf(value: unknown): Uint8Array | undefined {
  if (value instanceof Uint8Array) return value.length > 0 ? value : undefined;
  return typeof value === 'object' && value !== null && 'bytes' in value ? bytesOf(value.bytes) : undefined;
}

const nameOf = (value: unknown): string | undefined =>
  ['string', 'number', 'bigint'].includes(typeof value) ? String(value) : undefined;
