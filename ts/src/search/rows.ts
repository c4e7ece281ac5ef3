/** Rows of embeddings: read from a file, checked and copied without holding the event loop. */
import type { TensorEntry } from '../checkpoint/index.ts';
import { check, MomeError, requireNotAborted } from '../runtime/errors.ts';
import { Pace } from '../runtime/pace.ts';

/** Values read, checked or copied between two looks at other events: 256 KiB. */
const valuesAtOnce = 2 ** 16;

/** An array of zeros. @throws MomeError `MOME_OUT_OF_MEMORY` */
export function newRows(count: number, width: number): Float32Array {
  try {
    return new Float32Array(count * width);
  } catch (error) {
    throw new MomeError('MOME_OUT_OF_MEMORY', `index: expected memory for ${count} rows of width ${width}`, {
      cause: error,
    });
  }
}

/**
 * The float32 rows of several tensors, one after the other.
 *
 * @returns [rows, width]
 * @throws MomeError `MOME_INVALID_FILE`, `MOME_NON_FINITE`, `MOME_IO`, `MOME_OUT_OF_MEMORY`, `MOME_ABORTED`
 */
export async function readRows(
  parts: readonly Pick<TensorEntry, 'file' | 'path' | 'shape' | 'offset'>[],
  width: number,
  signal: AbortSignal | undefined,
): Promise<Float32Array> {
  const rows = newRows(
    parts.reduce((sum, { shape }) => sum + shape[0]!, 0),
    width,
  );
  let done = 0;
  for (const { file, path, shape, offset } of parts) {
    const end = done + shape[0]! * width;
    for (const first = done; done < end; ) {
      requireNotAborted(signal, 'index');
      const count = Math.min(valuesAtOnce, end - done);
      await file.readInto(new Uint8Array(rows.buffer, 4 * done, 4 * count), offset + 4 * (done - first));
      const wrong = firstNonFinite(rows.subarray(done, done + count));
      check(
        wrong < 0,
        'MOME_NON_FINITE',
        `${path}: expected finite embeddings, got another value in row ${Math.floor((done + wrong) / width)}`,
      );
      done += count;
    }
  }
  return rows;
}

/** Place of the first value that is NaN or infinite; -1 where there is none. */
export function firstNonFinite(values: Float32Array): number {
  for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i])) return i;
  return -1;
}

/** Copies values [begin, end) of `source` to the start of `target`. */
export async function copyRows(source: Float32Array, begin: number, end: number, target: Float32Array): Promise<void> {
  const pace = new Pace();
  for (let at = begin; at < end; at += valuesAtOnce) {
    target.set(source.subarray(at, Math.min(end, at + valuesAtOnce)), at - begin);
    await pace.rest();
  }
}
