/**
 * Keeps two runs out of one output folder.
 */
import { join } from 'node:path';
import { lock } from 'proper-lockfile';
import { MomeError } from '../runtime/errors.ts';

/** Name of the lock inside the output folder: a folder, whose time of change says that its run is alive. */
const lockName = '.run.lock';
/** Milliseconds after which the lock of a run that was killed counts for nothing, and between two signs of life. */
const stale = 5000;
const update = 1000;
/** A run waits for as long as the lock of a killed run may last. */
const retries = { retries: 12, minTimeout: 500, maxTimeout: 500, factor: 1 };

/** A lock that is held until it is released. */
export interface RunLock {
  /** Fires when somebody else took the folder over, which happens after this process stood still for seconds. */
  readonly lost: AbortSignal;
  readonly release: () => Promise<void>;
}

/**
 * @param where names the command in messages
 * @throws MomeError `MOME_IO` when another run writes to the folder, or when no lock can be made there
 */
export async function lockRun(folder: string, where = 'train'): Promise<RunLock> {
  const lost = new AbortController();
  const lose = () => {
    const reason = new MomeError(
      'MOME_IO',
      `${where}: expected ${folder} for this run alone, another run took it over`,
    );
    lost.abort(reason);
  };
  try {
    const release = await lock(folder, {
      lockfilePath: join(folder, lockName),
      realpath: false,
      stale,
      update,
      retries,
      onCompromised: lose,
    });
    return { lost: lost.signal, release: () => release().catch(() => undefined) };
  } catch (error) {
    const isLocked = error instanceof Error && 'code' in error && error.code === 'ELOCKED';
    throw new MomeError(
      'MOME_IO',
      isLocked
        ? `${where}: expected ${folder} for this run alone, another run is writing to it`
        : `${where}: expected a folder to write to, could not lock ${folder}`,
      { cause: error },
    );
  }
}
