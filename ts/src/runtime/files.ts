/** Whether files are there, folders that results are written to, and files that change together or not at all. */
import { access, lstat, mkdir, open, readlink, realpath, rename, rm, rmdir, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import {
  newTag,
  readCommit,
  removeLeftovers,
  startCommit,
  syncFolder,
  takeOverCommit,
  temporaryName,
} from './commit.ts';
import { MomeError } from './errors.ts';
import { kindOf } from './input-file.ts';

/** Whether there is anything at `path`, of any size; nothing of it is read. */
export async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/**
 * Makes a folder and those above it; nothing happens where it is there already. (`mkdir` with `recursive` never returns on file
 * systems that take no new folders, such as /proc.)
 *
 * @param made every folder that this call makes is added here, the outermost first
 * @throws MomeError `MOME_IO` where it cannot be made, or something else has its name
 */
export async function makeFolder(path: string, made: string[] = []): Promise<void> {
  const folder = resolve(path);
  const known = await stat(folder).catch(() => undefined);
  if (known?.isDirectory()) return;
  if (!known && dirname(folder) !== folder) await makeFolder(dirname(folder), made);
  try {
    await mkdir(folder);
    made.push(folder);
  } catch (error) {
    // Somebody else may have made it meanwhile.
    const now = await stat(folder).catch(() => undefined);
    if (now?.isDirectory()) return;
    const reason = reasonOf(error) ?? 'or a place where one can be made';
    throw new MomeError('MOME_IO', `${path}: expected a folder, ${reason}`, { cause: error });
  }
}

/** Explains an error code of the file system to its reader; undefined for codes that need no explanation. */
function reasonOf(error: unknown): string | undefined {
  const { code, path } = error as NodeJS.ErrnoException;
  const folder = path === undefined ? 'the folder' : dirname(path);
  switch (code) {
    case 'ENOSPC':
      return 'the disk is full';
    case 'EDQUOT':
      return 'the quota of disk space is used up';
    case 'EFBIG':
      return 'the file is larger than the file system or the limits of this process allow';
    case 'EACCES':
    case 'EPERM':
      return `the right to write in ${folder} is missing (${code})`;
    case 'EROFS':
      return 'the file system is read-only';
    case 'EMFILE':
    case 'ENFILE':
      return 'too many files are open';
    case 'ENAMETOOLONG':
      return 'the name is too long';
    case 'ENOENT':
      return `${folder} is not there any more`;
    default:
      return undefined;
  }
}

/** A failed write as an error with a code: says that the disk is full, or which right is missing. */
export function writeError(error: unknown, path: string): MomeError {
  if (error instanceof MomeError) return error;
  const reason = reasonOf(error) ?? (error instanceof Error ? error.message : String(error));
  return new MomeError('MOME_IO', `${path}: expected to write here, ${reason}`, { cause: error });
}

/**
 * Writes several files of a folder that change together or not at all, and removes files that killed runs left behind.
 *
 * `write` makes each file under the temporary name that `fileIn` gives. When it returns, all of them are synced and one file,
 * `.mome-commit`, is put into the folder: it lists the temporary names and what they stand for. From then on the new files count,
 * before it the old ones do. The renames follow, and the list is removed. Whoever is stopped in between leaves the list: readers
 * ({@link readCommit}) look through it, and the next writer finishes the renames. A single file needs no list: its rename is the change.
 *
 * @param options.make whether the folder is made where it is not there
 * @throws MomeError `MOME_IO` saying why, with the old files as they were; what `write` throws
 */
export async function writeTogether(
  folder: string,
  write: (fileIn: (name: string) => string) => Promise<void>,
  { make = true }: { readonly make?: boolean } = {},
): Promise<void> {
  const tag = await newTag();
  const renames = new Map<string, string>();
  const made: string[] = [];
  let committed = false;
  try {
    if (make) await makeFolder(folder, made);
    await takeOverCommit(folder);
    await removeLeftovers(folder);
    await write((name) => {
      const temporary = temporaryName(name, tag);
      renames.set(temporary, name);
      return join(folder, temporary);
    });
    for (const [temporary, name] of renames) await prepare(join(folder, temporary), join(folder, name));
    await syncFolder(folder);
    const finish = renames.size > 1 ? await startCommit(folder, tag, renames) : undefined;
    committed = finish !== undefined;
    if (finish) await finish();
    else for (const [temporary, name] of renames) await rename(join(folder, temporary), join(folder, name));
    await syncFolder(folder);
  } catch (error) {
    if (!committed) {
      for (const temporary of renames.keys()) await rm(join(folder, temporary), { force: true }).catch(() => {});
      for (const path of made.reverse()) await rmdir(path).catch(() => {});
    }
    if (!committed) throw writeError(error, folder);
    const reason = reasonOf(error) ?? 'a rename failed';
    const state = 'the new files count, and the next write here gives them their names';
    throw new MomeError('MOME_IO', `${folder}: expected to rename files, ${reason}; ${state}`, { cause: error });
  }
}

/** Brings a finished temporary file to the disk, with the rights of the file that it replaces. */
async function prepare(temporary: string, target: string): Promise<void> {
  const old = await lstat(target).catch(() => undefined);
  if (old !== undefined && !old.isFile() && !old.isSymbolicLink())
    throw new MomeError('MOME_IO', `${target}: expected a file or a new name, got ${kindOf(old)}`);
  const file = await open(temporary, 'r');
  try {
    // Of the open file: the rights may forbid to open it.
    if (old?.isFile()) await file.chmod(old.mode & 0o777);
    await file.sync();
  } finally {
    await file.close();
  }
}

/**
 * Writes one file that changes as a whole or not at all. A link is followed to the file it names.
 *
 * @param write makes the file under the temporary name that it gets
 * @throws MomeError `MOME_IO` saying why, with the old file as it was, also where a folder, pipe or device has the name; what `write`
 *   throws
 */
export async function replaceFile(path: string, write: (temporary: string) => Promise<void>): Promise<void> {
  const target = await placeOf(path);
  await writeTogether(dirname(target), (fileIn) => write(fileIn(basename(target))), { make: false });
}

/**
 * The file that is written for `path`, before there is anything to write: long work then ends at once where its results have no place.
 *
 * @throws MomeError `MOME_IO` where a folder, pipe or device has the name, or its folder is not there
 */
export async function placeOf(path: string): Promise<string> {
  const target = await followLinks(path);
  const found = await stat(target).catch(() => undefined);
  if (found !== undefined && !found.isFile())
    throw new MomeError('MOME_IO', `${path}: expected a file or a new name, got ${kindOf(found)}`);
  const folder = await stat(dirname(target)).catch((error: NodeJS.ErrnoException) => error);
  const isThere = 'isDirectory' in folder && folder.isDirectory();
  if (!isThere && !('code' in folder && folder.code === 'EACCES'))
    throw new MomeError('MOME_IO', `${path}: expected a place for a file, its folder is not there`);
  return target;
}

/** Where a chain of links ends, also at a name that is still free. */
async function followLinks(path: string): Promise<string> {
  let at = resolve(path);
  for (let links = 0; links < 40; links++) {
    const next = await readlink(at).catch(() => undefined);
    if (next === undefined) return at;
    at = resolve(await realpath(dirname(at)).catch(() => dirname(at)), next);
  }
  throw new MomeError('MOME_IO', `${path}: expected a file or a new name, got links that name each other`);
}
