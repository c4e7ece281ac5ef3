/** Calls of a backend. */
import { onAbort } from '../../runtime/abort.ts';
import { MomeError, requireNotAborted } from '../../runtime/errors.ts';

/** Calls a backend. An error without a code becomes `MOME_IO`, with it as cause. */
export async function ofStore<T>(where: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof MomeError) throw error;
    const message = error instanceof Error ? error.message : String(error);
    throw new MomeError('MOME_IO', `${where}: expected the store to do it, got: ${message}`, { cause: error });
  }
}

/** `ofStore`, ended by the signal whatever the backend does. */
export async function raced<T>(where: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  requireNotAborted(signal, where);
  return untilAborted(where, signal, ofStore(where, work));
}

/** Waits for a result, or until the signal fires. @throws MomeError `MOME_ABORTED`; what `result` rejects with */
export async function untilAborted<T>(where: string, signal: AbortSignal | undefined, result: Promise<T>): Promise<T> {
  if (!signal) return result;
  let ended = () => {};
  const aborted = new Promise<never>((_, reject) => {
    ended = onAbort(signal, () =>
      reject(new MomeError('MOME_ABORTED', `${where}: the call was aborted`, { cause: signal.reason })),
    );
  });
  try {
    return await Promise.race([result, aborted]);
  } finally {
    ended();
    result.catch(() => {});
  }
}
