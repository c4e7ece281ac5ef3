/**
 * Parquet files as tables. Of a row group the columns that are asked for are read together and kept while rows of the group are used. A thread
 * reads them (`parquet-reader.ts`), one for all files, which is ended when a request takes too long.
 */
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { type ErrorCode, errorCodes, MomeError } from '../../runtime/errors.ts';
import { packageRoot } from '../../runtime/package-files.ts';
import { lastAtMost } from './dataset.ts';
import type { ParquetReply, ParquetRequest } from './parquet-reader.ts';
import type { Row, RowTable } from './row-table.ts';

/** Time for a request: a row group of 2 GB takes some seconds. */
const requestMilliseconds = 20_000;
/** The thread ends when nobody asked it for so long. */
const idleMilliseconds = 10_000;
/** Memory for rows as objects; bytes are not counted. */
const limits = { maxOldGenerationSizeMb: 2048 };

/** A table of a Parquet file. */
export interface ParquetTable extends RowTable {
  /** Row groups that are kept, and may be shuffled together. */
  readonly chunkWindow: number;
}

/**
 * @param milliseconds that a request may take
 * @throws MomeError `MOME_NOT_FOUND`; `MOME_INVALID_FILE` for other files and damaged ones; `MOME_TOO_LARGE`
 */
export async function openParquet(path: string, milliseconds = requestMilliseconds): Promise<ParquetTable> {
  const reply = await reader.ask({ path }, milliseconds);
  if (reply.kind !== 'file') throw new MomeError('MOME_INTERNAL', `${path}: expected what the file holds, got rows`);
  const { rows, columns, chunkStarts, chunkWindow, description } = reply.file;
  const kept = new Map<string, Promise<readonly Row[]>>();
  const groupRows = async (group: number, wanted: readonly string[]): Promise<readonly Row[]> => {
    const begin = chunkStarts[group]!;
    const end = chunkStarts[group + 1] ?? rows;
    if (end === begin) return [];
    const answer = await reader.ask({ path, columns: wanted, begin, end }, milliseconds);
    return answer.kind === 'rows' ? answer.rows : [];
  };
  return {
    path,
    rows,
    columns,
    chunkStarts,
    chunkWindow,
    description,
    async read(row, wanted) {
      const group = lastAtMost(chunkStarts, row);
      const key = `${group} ${wanted.join(' ')}`;
      const loading = kept.get(key) ?? groupRows(group, wanted);
      // The last used stand at the end. Batches made ahead reach into the next window.
      kept.delete(key);
      kept.set(key, loading);
      for (const old of kept.keys()) if (kept.size > 2 * chunkWindow) kept.delete(old);
      return (await loading)[row - chunkStarts[group]!] ?? {};
    },
    async *scan(wanted) {
      for (const group of chunkStarts.keys()) yield await groupRows(group, wanted);
    },
    close: () => kept.clear(),
  };
}

/** The thread, started when there is something to read. */
class ReaderThread {
  #worker: Worker | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  #idle: NodeJS.Timeout | undefined;
  /** The request under way. */
  #waiting: { resolve(reply: ParquetReply): void; fail(why: string, cause?: unknown): void } | undefined;

  /** Asks when the requests before are answered. @throws MomeError the error of the thread; `MOME_INVALID_FILE` when time is up */
  ask(request: ParquetRequest, milliseconds: number): Promise<Exclude<ParquetReply, { kind: 'error' }>> {
    const asked = this.#turn.then(() => this.#ask(request, milliseconds));
    this.#turn = asked.catch(() => {});
    return asked;
  }

  async #ask(request: ParquetRequest, milliseconds: number): Promise<Exclude<ParquetReply, { kind: 'error' }>> {
    clearTimeout(this.#idle);
    const worker = this.#worker ?? this.#start();
    worker.ref();
    const { path } = request;
    let timer: NodeJS.Timeout | undefined;
    try {
      const reply = await new Promise<ParquetReply>((resolve, reject) => {
        this.#waiting = {
          resolve,
          fail: (why, cause) => {
            this.#end();
            const message = `${path}: expected a Parquet file that can be read, ${why}`;
            reject(new MomeError('MOME_INVALID_FILE', message, { cause }));
          },
        };
        timer = setTimeout(() => this.#waiting?.fail(`it took longer than ${milliseconds / 1000} s`), milliseconds);
        worker.postMessage(request);
      });
      if (reply.kind !== 'error') return reply;
      const code = (errorCodes as readonly string[]).includes(reply.code) ? (reply.code as ErrorCode) : 'MOME_INTERNAL';
      throw new MomeError(code, reply.message, reply.reason === undefined ? {} : { cause: new Error(reply.reason) });
    } finally {
      clearTimeout(timer);
      this.#waiting = undefined;
      worker.unref();
      this.#idle = setTimeout(() => this.#end(), idleMilliseconds);
      this.#idle.unref();
    }
  }

  #start(): Worker {
    const worker = new Worker(join(packageRoot(), 'dist', 'parquet-reader.mjs'), { resourceLimits: limits });
    this.#worker = worker;
    const own = () => (this.#worker === worker ? this.#waiting : undefined);
    worker.on('message', (reply: ParquetReply) => own()?.resolve(reply));
    worker.on('error', (error) => own()?.fail('its reader failed', error));
    worker.on('exit', () => own()?.fail('its reader ended'));
    return worker;
  }

  #end(): void {
    void this.#worker?.terminate();
    this.#worker = undefined;
  }
}

const reader = new ReaderThread();
