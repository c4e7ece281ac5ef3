/** WebDataset shards: each tar file is a unit, so that a job reads only the tar files of its own shard. */
import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { openTarPictures } from '../train/data/tar.ts';
import type { BulkInputs } from './inputs.ts';

/** The identity is that of names and sizes: tar files are opened when their turn comes. */
export async function openTars(files: readonly string[]): Promise<BulkInputs> {
  const hash = createHash('sha256');
  /** Bytes of all files before each, and of all. */
  const before: number[] = [0];
  for (const file of files) {
    const { size } = await stat(file);
    hash.update(`${file}\0${size}\0`);
    before.push(before.at(-1)! + size);
  }
  /** Samples of the file that was opened last, for progress inside it. */
  let open: { readonly unit: number; readonly samples: number; readonly close: () => void } | undefined;
  return {
    kind: 'pictures',
    units: files.length,
    identity: hash.digest('hex'),
    leftOut: [],
    async *items(from, end) {
      for (let unit = from.unit; unit < end; unit++) {
        const source = files[unit]!;
        const tar = await openTarPictures(source);
        open = { unit, samples: tar.pictures.length, close: tar.close };
        for (let item = unit === from.unit ? from.item : 0; item < tar.pictures.length; item++) {
          const { name, size } = tar.pictures[item]!;
          const isLast = item + 1 === tar.pictures.length;
          yield {
            source,
            name,
            bytes: size,
            next: isLast ? { unit: unit + 1, item: 0 } : { unit, item: item + 1 },
            read: async () => ({ picture: await tar.read(item) }),
          };
        }
        tar.close(); // reads under way are finished first
      }
    },
    progress(begin, { unit, item }, end) {
      const all = before[end]! - before[begin]!;
      const inside = open?.unit === unit && open.samples > 0 ? item / open.samples : 0;
      const size = (before[unit + 1] ?? before[unit]!) - before[unit]!;
      return all === 0 ? 1 : (before[unit]! - before[begin]! + inside * size) / all;
    },
    close: () => open?.close(),
  };
}
