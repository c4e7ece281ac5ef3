/** Picture files of a folder, and why others in it are left out. */
import type { Dirent } from 'node:fs';
import { opendir, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { endingOf, pictureKind } from '../image/formats.ts';
import { checkSignal, takePath } from '../runtime/arguments.ts';
import { MomeError, requireNotAborted } from '../runtime/errors.ts';
import { byCodeUnits, Pace, sortInPieces } from '../runtime/pace.ts';

/** Something in a folder that may hold a picture and is not listed. */
export interface LeftOut {
  /** Absolute path. */
  readonly path: string;
  /** Why, in a few words, such as "a link that leads nowhere". */
  readonly reason: string;
}

/** What a folder holds. */
export interface FolderPictures {
  /** Absolute paths of the pictures at any depth, sorted by their code units. */
  readonly pictures: readonly string[];
  readonly leftOut: readonly LeftOut[];
}

/** Entries read from a folder in one step. */
const entriesAtOnce = 256;

/**
 * All picture files under `folder`, at any depth. By their names are pictures taken for such; see `pictureKind` for the endings. Links to
 * files are followed, links to folders are not: they may lead out of the folder, or round in a circle.
 *
 * @returns with the reason also what is left out: hidden pictures and folders, folders and links that cannot be followed, pictures of a
 *   format without a decoder
 * @throws MomeError `MOME_NOT_FOUND` where there is no folder, `MOME_IO` for a folder that must not be read, `MOME_ABORTED`,
 *   `MOME_INVALID_ARGUMENT`
 */
export async function scanFolder(folder: string | URL, signal?: AbortSignal): Promise<FolderPictures> {
  const top = resolve(takePath('scanFolder', folder, 'a folder of pictures'));
  checkSignal('scanFolder', signal);
  requireNotAborted(signal, 'scanFolder');
  const info = await stat(top).catch((error: unknown) => {
    throw new MomeError(codeOf(error), `${folder}: expected a folder of pictures, ${reasonOf(error)}`, {
      cause: error,
    });
  });
  if (!info.isDirectory())
    throw new MomeError('MOME_NOT_FOUND', `${folder}: expected a folder of pictures, got a file`);
  const pictures: string[] = [];
  const leftOut: LeftOut[] = [];
  const pace = new Pace();
  const folders = [top];
  for (let next = folders.pop(); next !== undefined; next = folders.pop()) {
    const current = next;
    try {
      for await (const entry of await opendir(current, { bufferSize: entriesAtOnce })) {
        requireNotAborted(signal, 'search');
        await pace.rest();
        const path = join(current, entry.name);
        const kind = await kindOf(path, entry);
        if (kind === 'folder') folders.push(path);
        else if (kind === 'picture') pictures.push(path);
        else if (kind !== undefined) leftOut.push({ path, reason: kind.leftOut });
      }
    } catch (error) {
      if (error instanceof MomeError) throw error;
      if (current === top)
        throw new MomeError(codeOf(error), `${folder}: expected a folder that can be read, ${reasonOf(error)}`, {
          cause: error,
        });
      leftOut.push({ path: current, reason: `a folder that cannot be read (${errnoOf(error)})` });
    }
  }
  return {
    pictures: await sortInPieces(pictures, byCodeUnits),
    leftOut: await sortInPieces(leftOut, (a, b) => byCodeUnits(a.path, b.path)),
  };
}

/**
 * The pictures of {@link scanFolder} alone.
 *
 * @throws MomeError as `scanFolder`
 */
export async function listImages(folder: string | URL, signal?: AbortSignal): Promise<string[]> {
  return [...(await scanFolder(folder, signal)).pictures];
}

/** What an entry of a folder is; nothing for a file that is no picture by its name. */
async function kindOf(
  path: string,
  entry: Dirent,
): Promise<'folder' | 'picture' | { readonly leftOut: string } | undefined> {
  const isHidden = entry.name.startsWith('.');
  const byName = pictureKind(entry.name);
  let isFolder = entry.isDirectory();
  let isFile = entry.isFile();
  // Some file systems do not tell what an entry is; and a name that is not UTF-8 leads to no file.
  if (entry.isSymbolicLink() || !(isFolder || isFile) || (byName && entry.name.includes('\ufffd'))) {
    const info = await stat(path).catch((error: unknown) => errnoOf(error));
    if (typeof info === 'string') {
      if (entry.name.includes('\ufffd')) return byName && { leftOut: 'its name is not UTF-8' };
      if (!entry.isSymbolicLink()) return byName && { leftOut: `a file that cannot be read (${info})` };
      if (byName === undefined && endingOf(entry.name) !== '') return undefined;
      return { leftOut: info === 'ELOOP' ? 'a link that leads to itself' : 'a link that leads nowhere' };
    }
    if (entry.isSymbolicLink() && info.isDirectory()) return { leftOut: 'a link to a folder' };
    isFolder = info.isDirectory();
    isFile = info.isFile();
  }
  if (isFolder) return isHidden ? { leftOut: 'a hidden folder' } : 'folder';
  if (byName === undefined) return undefined;
  if (!isFile) return { leftOut: 'no file: a device, pipe or socket' };
  if (isHidden) return { leftOut: 'a hidden file' };
  if (byName === 'unreadable') return { leftOut: `no decoder for .${endingOf(basename(path))} files` };
  return 'picture';
}

const errnoOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? 'unknown';

const isMissing = (error: unknown): boolean => ['ENOENT', 'ENOTDIR', 'ELOOP'].includes(errnoOf(error));

const codeOf = (error: unknown) => (isMissing(error) ? 'MOME_NOT_FOUND' : 'MOME_IO');

const reasonOf = (error: unknown): string =>
  isMissing(error) ? 'found nothing' : `could not read it (${errnoOf(error)})`;
