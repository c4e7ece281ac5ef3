/** Work on many pictures of which some may not be readable. */
import { type ErrorCode, MomeError } from '../runtime/errors.ts';

/** What a picture file can be refused with; every other error ends the call. */
const pictureErrors: readonly ErrorCode[] = [
  'MOME_NOT_FOUND',
  'MOME_INVALID_IMAGE',
  'MOME_TOO_LARGE',
  'MOME_NON_FINITE',
  'MOME_IO',
];

/**
 * Does `work` for all entries at once, or for ever smaller parts of them when a picture among them cannot be read.
 *
 * @param onError called and waited for, for each entry whose picture cannot be read
 */
export async function eachReadable<T>(
  entries: readonly T[],
  work: (some: readonly T[]) => Promise<void>,
  onError: (entry: T, error: unknown) => Promise<void>,
): Promise<void> {
  if (entries.length === 0) return;
  try {
    await work(entries);
  } catch (error) {
    requirePictureError(error);
    if (entries.length === 1) return onError(entries[0]!, error);
    const middle = Math.ceil(entries.length / 2);
    await eachReadable(entries.slice(0, middle), work, onError);
    await eachReadable(entries.slice(middle), work, onError);
  }
}

/** Passes on whatever is no fault of a picture, such as an abort. */
export function requirePictureError(error: unknown): void {
  if (!(error instanceof MomeError) || !pictureErrors.includes(error.code)) throw error;
}
