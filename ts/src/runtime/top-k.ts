/** Search over the rows of a matrix, on native threads. */
import { onAbort } from './abort.ts';
import { addon, type CancelToken, type CodedRows, native } from './addon.ts';
import { MomeError, requireNotAborted } from './errors.ts';
import type { InputFile } from './input-file.ts';

/** Places of rows and their dot products with the query, best first; equal ones by place. */
export interface Nearest {
  readonly indices: Int32Array;
  readonly scores: Float32Array;
}

/**
 * The `k` rows of [rows, width] with the largest dot products with `query` [width].
 *
 * Native threads read `rows` until the scan has ended, also after an abort. Their array must therefore never reach anybody who could
 * transfer or change it: pass an array that the library keeps to itself. The query is copied.
 *
 * @param signal ends the scan within milliseconds; the promise rejects at once
 * @throws MomeError `MOME_INVALID_SHAPE`, `MOME_TOO_LARGE` for more than 2^31 - 1 rows, `MOME_OUT_OF_MEMORY`, `MOME_ABORTED`
 */
export async function topK(
  rows: Float32Array,
  width: number,
  query: Float32Array,
  k: number,
  signal?: AbortSignal,
): Promise<Nearest> {
  return cancellable(signal, (cancel) => native((exports) => exports.topK(rows, width, query, k, cancel)));
}

/**
 * The same over 8-bit rows of a file: the `candidates` best by their codes are scored once more by their float32 rows, with the bits that
 * {@link topK} gives. Without float32 rows in the file scores are those of the codes. The file is read piece by piece and stays on disk.
 *
 * @throws MomeError as `topK`; `MOME_INVALID_FILE` where the file is cut off, `MOME_NON_FINITE` for a row that is not finite, `MOME_IO`
 */
export async function topKOfFile(
  file: InputFile,
  rows: CodedRows,
  query: Float32Array,
  k: number,
  candidates: number,
  signal?: AbortSignal,
): Promise<Nearest> {
  const search = (cancel?: CancelToken) =>
    native((exports) => exports.topKOfFile(file.fd, rows, query.length, query, k, candidates, cancel));
  return cancellable(signal, search);
}

/** Calls `search` with a token that the signal cancels; the promise rejects as soon as the signal fires. */
async function cancellable<T>(
  signal: AbortSignal | undefined,
  search: (cancel?: CancelToken) => Promise<T>,
): Promise<T> {
  requireNotAborted(signal, 'search');
  if (!signal) return search();
  const cancel = native(() => new (addon().CancelToken)());
  let ended = () => {};
  const aborted = new Promise<never>((_, reject) => {
    ended = onAbort(signal, () => {
      cancel.cancel();
      reject(new MomeError('MOME_ABORTED', 'search: the call was aborted', { cause: signal.reason }));
    });
  });
  try {
    return await Promise.race([search(cancel), aborted]);
  } finally {
    ended();
  }
}
