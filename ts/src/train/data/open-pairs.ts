/** Opens held-out pairs of any format: captions in memory, pictures read when they are asked for. */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import pLimit from 'p-limit';
import { prepareImage } from '../../image/prepare.ts';
import { check, MomeError } from '../../runtime/errors.ts';
import type { Dataset } from './dataset.ts';
import { openDataset } from './open.ts';
import { type PairItem, readPairs } from './pair-files.ts';
import type { PairDataset } from './pairs.ts';
import { pictureBytes } from './picture-bytes.ts';
import type { ColumnNames } from './row-items.ts';

export interface PairFileOptions {
  /** Side the pictures are resized to (the whole picture, bicubic, proportions not kept: as the model sees it). */
  readonly size: number;
  /** Looks for every picture before the first is read. On unless switched off. */
  readonly checkFiles?: boolean;
  /** Folder that a `.json` file names pictures in; its own folder unless named. */
  readonly images?: string;
  /** Columns of Arrow and Parquet files, where they have other names than usual. */
  readonly columns?: ColumnNames;
  /** Parts of a `.json` file; unless named `train` and, where the file has it, COCO's `restval`. */
  readonly splits?: readonly string[];
}

const statsInFlight = 32;
const mostItems = 20_000_000;
/** Files of records that hold their pictures. */
const tables = ['.arrow', '.parquet', '.tar'];

/**
 * Opens what `source` names: a `.jsonl` or `.ndjson` file, a `.csv` file, a `.json` file of Karpathy's splits, an Arrow,
 * Parquet or tar file with pictures, or a folder.
 *
 * - JSONL: one object a line, `{"image": "cat.jpg", "caption": "a cat"}` or `"captions": ["a cat", "a pet"]`; also
 *   `{"file_name": "cat.jpg", "text": "a cat"}`.
 * - CSV (RFC 4180): a header with `image` and `caption`; a picture may stand in several rows.
 * - JSON: `dataset_coco.json` and its like ({@link readKarpathy}), with `images` and `splits` among the options.
 * - Arrow, Parquet, WebDataset tar: as `openDataset` reads them; each row is a picture with its captions. These files stay open until `close`.
 * - Folder, read with its subfolders: `cat.jpg` with `cat.txt` beside it, one caption a line.
 *
 * Picture paths are relative to the file. Items that name the same picture are one group.
 *
 * @throws MomeError `MOME_NOT_FOUND` for a missing file, folder, picture or caption file; `MOME_INVALID_FILE`, with the line, for what is
 * malformed; `MOME_UNSUPPORTED` for another extension; `MOME_TOO_LARGE` beyond the limits.
 * @example
 * const pairs = await openPairs('captions.jsonl', { size: 224 });
 */
export async function openPairs(source: string, options: PairFileOptions): Promise<PairDataset> {
  check(
    Number.isInteger(options.size) && options.size >= 1 && options.size <= 4096,
    'MOME_INVALID_ARGUMENT',
    `openPairs: expected a size in [1, 4096], got ${options.size}`,
  );
  if (tables.includes(path.extname(source).toLowerCase())) return openTable(source, options);
  const { items, isFolder } = await readPairs(source, options);
  if (options.checkFiles ?? true) await checkPictures(items);
  return pictureFiles(items, options.images ?? (isFolder ? source : path.dirname(source)), options);
}

async function openTable(source: string, { size, columns }: PairFileOptions): Promise<PairDataset> {
  const dataset = await openDataset({ files: source, ...(columns && { columns }) });
  try {
    check(
      dataset.picturesPerItem === 1,
      'MOME_INVALID_FILE',
      `${source}: expected a picture with captions in each row, got ${dataset.picturesPerItem} pictures`,
    );
    check(
      dataset.length <= mostItems,
      'MOME_TOO_LARGE',
      `${source}: expected at most ${mostItems} rows, got ${dataset.length}`,
    );
    const captions: (readonly string[])[] = [];
    for await (const texts of dataset.itemTexts()) {
      check(texts.length > 0, 'MOME_INVALID_FILE', `${dataset.origin(captions.length)}: expected a caption, got none`);
      captions.push(texts);
    }
    return tablePairs(dataset, captions, size);
  } catch (error) {
    dataset.close();
    throw error;
  }
}

function tablePairs(dataset: Dataset, captions: readonly (readonly string[])[], size: number): PairDataset {
  const own = (index: number) => itemAt(captions, index);
  return {
    length: captions.length,
    size,
    channels: 3,
    captions: own,
    group: (index) => index,
    source: (index) => dataset.origin(index),
    close: () => dataset.close(),
    async image(index) {
      own(index);
      const [picture] = (await dataset.item(index)).pictures;
      try {
        return await pictureBytes(picture!, dataset.pixels, size);
      } catch (error) {
        throw ofItem(error, dataset.origin(index));
      }
    },
  };
}

function itemAt<T>(items: readonly T[], index: number): T {
  const found = items[index];
  check(found, 'MOME_INVALID_ARGUMENT', `pairs: expected an index below ${items.length}, got ${index}`);
  return found;
}

/** @param folder what `source` names pictures relative to */
function pictureFiles(items: readonly PairItem[], folder: string, options: PairFileOptions): PairDataset {
  const { size } = options;
  const groupByFile = new Map<string, number>();
  for (const { file } of items) if (!groupByFile.has(file)) groupByFile.set(file, groupByFile.size);
  const item = (index: number) => itemAt(items, index);
  return {
    length: items.length,
    size,
    channels: 3,
    captions: (index) => item(index).captions,
    group: (index) => groupByFile.get(item(index).file)!,
    image: (index) => readPicture(item(index), size),
    source: (index) => path.relative(path.resolve(folder), item(index).file),
  };
}

/** The picture as inference would see it at this size; a failure names the item. */
async function readPicture(item: PairItem, size: number): Promise<Uint8Array> {
  try {
    return await prepareImage(item.file, size);
  } catch (error) {
    throw ofItem(error, item.origin);
  }
}

const ofItem = (error: unknown, origin: string): unknown =>
  error instanceof MomeError ? new MomeError(error.code, `${origin}: ${error.message}`, { cause: error }) : error;

async function checkPictures(items: readonly PairItem[]): Promise<void> {
  const limit = pLimit(statsInFlight);
  const seen = new Set<string>();
  const unseen = items.filter(({ file }) => !seen.has(file) && seen.add(file));
  await limit.map(unseen, async ({ file, origin }) => {
    const found = await stat(file).catch(() => undefined);
    check(found?.isFile(), 'MOME_NOT_FOUND', `${origin}: expected a picture, got ${file}, which is not a file`);
  });
}
