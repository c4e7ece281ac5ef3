/** Folders of pictures: each picture is a unit, sorted by the code units of its path. */
import { createHash } from 'node:crypto';
import { relative, resolve } from 'node:path';
import { Pace } from '../runtime/pace.ts';
import { scanFolder } from '../search/folder.ts';
import type { BulkInputs, InputOptions } from './inputs.ts';
import { unitProgress } from './shards.ts';

/** The identity is that of the names: pictures are not read for it. @throws MomeError as `scanFolder` */
export async function openFolders(folders: readonly string[], { signal }: InputOptions): Promise<BulkInputs> {
  const pictures: { readonly source: string; readonly name: string }[] = [];
  const leftOut: string[] = [];
  const hash = createHash('sha256');
  const pace = new Pace();
  for (const source of folders) {
    const found = await scanFolder(source, signal);
    const top = resolve(source);
    hash.update(`${source}\0\0`);
    for (const path of found.pictures) {
      const name = relative(top, path);
      pictures.push({ source, name });
      hash.update(`${name}\0`);
      await pace.rest();
    }
    for (const { path, reason } of found.leftOut) leftOut.push(`${path}: ${reason}`);
  }
  return {
    kind: 'pictures',
    units: pictures.length,
    identity: hash.digest('hex'),
    leftOut,
    async *items({ unit: first }, end) {
      for (let unit = first; unit < end; unit++) {
        const { source, name } = pictures[unit]!;
        const picture = resolve(source, name);
        yield { source, name, bytes: 0, next: { unit: unit + 1, item: 0 }, read: async () => ({ picture }) };
      }
    },
    progress: unitProgress,
    close: () => {},
  };
}
