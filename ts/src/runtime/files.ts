/** Whether files are there, and folders that results are written to. */
import { access, mkdir, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { MomeError } from './errors.ts';

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
    throw new MomeError('MOME_IO', `${path}: expected a folder, or a place where one can be made`, { cause: error });
  }
}
