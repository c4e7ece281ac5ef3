/** Where an index may be written: under a new name, or in the place of another index. */
import { lstat, readlink, realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { check, MomeError } from '../runtime/errors.ts';
import { InputFile } from '../runtime/input-file.ts';
import { type JsonLimits, parseJson } from '../runtime/json.ts';

/** What the metadata of an index hold under `format`. */
export const indexFormat = 'mome-index';

/** What the header of an index may hold: that of 5 million pictures takes less than a hundredth. */
const headerLimits: JsonLimits = { bytes: 2 ** 20, depth: 4, values: 2 ** 16 };
/** Links followed one after the other, as Linux does. */
const maxLinks = 40;

/**
 * The file that is written when an index is saved to `path`: links are followed, also one whose file is yet to be made.
 *
 * @throws MomeError `MOME_INVALID_ARGUMENT` for a folder, device, pipe or socket, or a name that ends in a slash, `MOME_INVALID_FILE` for a
 *   file that is no index, `MOME_IO` where the folder is missing or must not be looked at
 */
export async function indexTarget(path: string): Promise<string> {
  check(
    typeof path === 'string' && path !== '' && !path.includes('\0'),
    'MOME_INVALID_ARGUMENT',
    'index: expected the path of a file',
  );
  check(!path.endsWith('/'), 'MOME_INVALID_ARGUMENT', `${path}: expected the name of an index, got that of a folder`);
  try {
    let target = resolve(path);
    for (let links = 0; ; links++) {
      check(links < maxLinks, 'MOME_IO', `${path}: expected a file, got a link that leads to itself`);
      target = join(await realpath(dirname(target)), basename(target));
      const info = await lstat(target).catch((error: unknown) => {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
        throw error;
      });
      if (info === undefined) return target;
      if (info.isSymbolicLink()) {
        target = resolve(dirname(target), await readlink(target));
        continue;
      }
      const kind = info.isDirectory() ? 'a folder' : 'a device, pipe or socket';
      check(info.isFile(), 'MOME_INVALID_ARGUMENT', `${path}: expected the name of an index, got ${kind}`);
      check(
        await isIndex(target),
        'MOME_INVALID_FILE',
        `${path}: expected a new name or an index, got another file, which is left as it is`,
      );
      return target;
    }
  } catch (error) {
    if (error instanceof MomeError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    const reason =
      code === 'ENOENT' || code === 'ENOTDIR' ? 'its folder is not there' : `could not look at it (${code})`;
    throw new MomeError('MOME_IO', `${path}: expected a place for an index, ${reason}`, { cause: error });
  }
}

/**
 * Whether a file begins as indexes do: with their format in its metadata or, in files of version 2, with the entries that those have.
 * An index whose rows are damaged counts, so that it can be replaced.
 */
async function isIndex(path: string): Promise<boolean> {
  const file = await InputFile.open(path, 'an index');
  try {
    if (file.size < 8) return false;
    const length = Number(new DataView((await file.read(0, 8)).buffer).getBigUint64(0, true));
    if (length > headerLimits.bytes || 8 + length > file.size) return false;
    const text = new TextDecoder().decode(await file.read(8, length));
    const parsed = await parseJson(text, path, headerLimits).catch(() => undefined);
    if (!isRecord(parsed) || !isRecord(parsed.__metadata__)) return false;
    const { format, version, fingerprint } = parsed.__metadata__;
    return format === indexFormat || (version === '2' && typeof fingerprint === 'string' && isRecord(parsed.items));
  } finally {
    file.close();
  }
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
