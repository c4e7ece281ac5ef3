/** The thread that reads Parquet files: takes one request at a time and answers it. */
import { parentPort } from 'node:worker_threads';
import { MomeError } from '../../runtime/errors.ts';
import { openParquetFile, type ParquetDescription, type ParquetFile } from './parquet-file.ts';
import type { Row } from './row-table.ts';

/** A request: without `columns` what the file holds, else rows from `begin` to before `end`. */
export interface ParquetRequest {
  readonly path: string;
  readonly columns?: readonly string[];
  readonly begin?: number;
  readonly end?: number;
}

export type ParquetReply =
  | { readonly kind: 'file'; readonly file: ParquetDescription }
  | { readonly kind: 'rows'; readonly rows: readonly Row[] }
  | { readonly kind: 'error'; readonly code: string; readonly message: string; readonly reason?: string };

/** Files that stay open. */
const mostOpen = 64;
const open = new Map<string, Promise<ParquetFile>>();

/** The last used stand at the end. @param anew whether the name may stand for another file by now */
function fileAt(path: string, anew: boolean): Promise<ParquetFile> {
  const known = open.get(path);
  if (anew) known?.then((old) => old.close()).catch(() => {});
  const file = anew || !known ? openParquetFile(path) : known;
  open.delete(path);
  open.set(path, file);
  file.catch(() => {
    if (open.get(path) === file) open.delete(path);
  });
  for (const [oldest, old] of open) {
    if (open.size <= mostOpen) break;
    open.delete(oldest);
    old.then((each) => each.close()).catch(() => {});
  }
  return file;
}

async function answer({ path, columns, begin = 0, end = 0 }: ParquetRequest): Promise<ParquetReply> {
  try {
    const file = await fileAt(path, columns === undefined);
    if (columns) return { kind: 'rows', rows: await file.read(columns, begin, end) };
    const { rows, chunkStarts, chunkWindow, description } = file;
    return { kind: 'file', file: { rows, columns: file.columns, chunkStarts, chunkWindow, description } };
  } catch (error) {
    const { message } = error as Error;
    if (!(error instanceof MomeError)) return { kind: 'error', code: 'MOME_INTERNAL', message };
    const reason = error.cause === undefined ? {} : { reason: String(error.cause) };
    return { kind: 'error', code: error.code, message, ...reason };
  }
}

parentPort?.on('message', async (request: ParquetRequest) => {
  parentPort?.postMessage(await answer(request));
});
