/** Picture files of a folder. */
import { stat } from 'node:fs/promises';
import { glob } from 'tinyglobby';
import { check, MomeError } from '../runtime/errors.ts';

/** File name endings taken for pictures. */
const imageEndings = ['jpg', 'jpeg', 'png', 'webp', 'gif', 'svg', 'avif'] as const;

/**
 * All picture files under `folder`, sorted; hidden folders and links are left out.
 *
 * @throws MomeError `MOME_NOT_FOUND`
 */
export async function listImages(folder: string): Promise<string[]> {
  const info = await stat(folder).catch((error: unknown) => {
    throw new MomeError('MOME_NOT_FOUND', `${folder}: expected a folder of pictures, found nothing`, { cause: error });
  });
  check(info.isDirectory(), 'MOME_NOT_FOUND', `${folder}: expected a folder of pictures, got a file`);
  const files = await glob(`**/*.{${imageEndings.join(',')}}`, {
    cwd: folder,
    absolute: true,
    followSymbolicLinks: false,
    caseSensitiveMatch: false,
  });
  return files.sort();
}
