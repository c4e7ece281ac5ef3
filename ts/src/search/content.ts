/** How a picture file is known again: by its place, size and times or, where those have changed, by its contents. */
import { createHash } from 'node:crypto';
import { open, stat } from 'node:fs/promises';
import { check, MomeError, requireNotAborted } from '../runtime/errors.ts';

/** A picture of an index. */
export interface IndexedImage {
  /** Absolute path. */
  readonly path: string;
  /** Bytes of the file, and milliseconds of the last change of its contents and of anything about it. */
  readonly size: number;
  readonly modified: number;
  readonly changed: number;
  /** The first 128 bits of the SHA-256 of its contents, in hexadecimal; empty in an index that an earlier version has written. */
  readonly hash: string;
}

/** What the file system says of a file. */
export type FileStamp = Omit<IndexedImage, 'hash'>;

/** Bytes hashed between two looks at other events. */
const bytesAtOnce = 2 ** 18;
const hashDigits = 32;

/** @throws MomeError `MOME_NOT_FOUND`, or `MOME_INVALID_IMAGE` for what is no file */
export async function stampOf(path: string): Promise<FileStamp> {
  const info = await stat(path).catch((error: unknown) => {
    throw unreadable(path, error);
  });
  check(info.isFile(), 'MOME_INVALID_IMAGE', `${path}: expected a picture, got no file`);
  return { path, size: info.size, modified: info.mtimeMs, changed: info.ctimeMs };
}

/** Whether nothing has happened to the file since it was indexed, as far as the file system tells. */
export function isUntouched(stamp: FileStamp, known: IndexedImage): boolean {
  // An index of version 2 holds no time of any change.
  const isSameChange = known.hash === '' || stamp.changed === known.changed;
  return stamp.size === known.size && stamp.modified === known.modified && isSameChange;
}

/** Hash of a file's contents. @throws MomeError `MOME_NOT_FOUND`, `MOME_ABORTED` */
export async function hashOf(path: string, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  try {
    const file = await open(path, 'r');
    try {
      const bytes = Buffer.allocUnsafe(bytesAtOnce);
      for (;;) {
        requireNotAborted(signal, 'index');
        const { bytesRead } = await file.read(bytes, 0, bytes.length, null);
        if (bytesRead === 0) break;
        hash.update(bytes.subarray(0, bytesRead));
      }
    } finally {
      await file.close();
    }
  } catch (error) {
    throw error instanceof MomeError ? error : unreadable(path, error);
  }
  return hash.digest('hex').slice(0, hashDigits);
}

function unreadable(path: string, error: unknown): MomeError {
  const { code = 'unknown' } = error as NodeJS.ErrnoException;
  const isMissing = code === 'ENOENT' || code === 'ENOTDIR';
  const reason = isMissing ? 'found nothing' : `could not read it (${code})`;
  return new MomeError('MOME_NOT_FOUND', `${path}: expected a picture, ${reason}`, { cause: error });
}
