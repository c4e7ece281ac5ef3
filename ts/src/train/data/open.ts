/** Opens training data of any format. */
import path from 'node:path';
import { check, MomeError } from '../../runtime/errors.ts';
import { type Dataset, joined } from './dataset.ts';
import { datasetOfFiles } from './file-items.ts';
import { readPairs } from './pair-files.ts';

/** Formats of training data; docs/training.md describes each. */
export const dataKinds = ['pairs', 'arrow', 'parquet', 'tar', 'text', 'pictures', 'list', 'vqa', 'nlvr2'] as const;
export type DataKind = (typeof dataKinds)[number];

/** Where data lie, and how they are read. */
export interface DataSource {
  /** A file, a folder, a pattern such as `coco-*.arrow` or `part-{000..127}.tar`, or several of these. */
  readonly files: string | readonly string[];
  /** The format; unless named, by the extension. */
  readonly kind?: DataKind;
  /** Folder that a file names pictures in; its own folder unless named. */
  readonly images?: string;
  /** Parts of a Karpathy split file. */
  readonly splits?: readonly string[];
}

/**
 * Opens training data.
 *
 * @throws MomeError `MOME_NOT_FOUND` for missing files, which are named; `MOME_INVALID_FILE`, with the record, for damaged ones;
 *   `MOME_UNSUPPORTED` for an unknown extension; `MOME_TOO_LARGE`; `MOME_INVALID_ARGUMENT`
 */
export async function openDataset(source: DataSource): Promise<Dataset> {
  const files = typeof source.files === 'string' ? [source.files] : source.files;
  check(files.length > 0, 'MOME_INVALID_ARGUMENT', 'data: expected at least one file, got none');
  check(
    source.kind === undefined || source.kind === 'pairs',
    'MOME_UNSUPPORTED',
    `data: expected data of kind pairs, got ${source.kind}`,
  );
  const parts: Dataset[] = [];
  try {
    for (const file of files) parts.push(await openPairItems(file, source));
    return joined(parts);
  } catch (error) {
    for (const part of parts) part.close();
    if (error instanceof MomeError) throw error;
    throw new MomeError('MOME_INVALID_FILE', `data: expected to read ${files.join(', ')}`, { cause: error });
  }
}

async function openPairItems(file: string, { images, splits }: DataSource): Promise<Dataset> {
  const { items, isFolder } = await readPairs(file, {
    ...(images !== undefined && { images }),
    ...(splits && { splits }),
  });
  const folder = images ?? (isFolder ? file : path.dirname(file));
  return datasetOfFiles(
    items.map(({ file: picture, captions, origin }) => ({ files: [picture], texts: captions, origin })),
    folder,
  );
}
