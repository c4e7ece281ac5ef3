/** Exact search over the rows of a matrix, on native threads. */
import { onAbort } from './abort.ts';
import { addon, native } from './addon.ts';
import { MomeError, requireNotAborted } from './errors.ts';

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
  requireNotAborted(signal, 'search');
  if (!signal) return native((exports) => exports.topK(rows, width, query, k));
  const cancel = native(() => new (addon().CancelToken)());
  let ended = () => {};
  const aborted = new Promise<never>((_, reject) => {
    ended = onAbort(signal, () => {
      cancel.cancel();
      reject(new MomeError('MOME_ABORTED', 'search: the call was aborted', { cause: signal.reason }));
    });
  });
  try {
    return await Promise.race([native((exports) => exports.topK(rows, width, query, k, cancel)), aborted]);
  } finally {
    ended();
  }
}
