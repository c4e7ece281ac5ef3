/** Opens training data of any format. */
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { pictureKind } from '../../image/formats.ts';
import { check, MomeError } from '../../runtime/errors.ts';
import { jsonItems } from '../../runtime/json-items.ts';
import { byCodeUnits } from '../../runtime/pace.ts';
import { openArrow } from './arrow.ts';
import { filesOf } from './data-files.ts';
import { type Dataset, everyText, joined } from './dataset.ts';
import { datasetOfFiles, type FileItem } from './file-items.ts';
import { readPairs } from './pair-files.ts';
import { openParquet } from './parquet.ts';
import { type ColumnNames, datasetOfRows, type RepeatedRows } from './row-items.ts';
import { openTar } from './tar.ts';
import { openNlvr2, openVqa } from './task-items.ts';
import { openText, type TextUnit } from './text.ts';
import { parsed } from './vqa.ts';

/** Formats of training data; docs/training.md describes each. */
export const dataKinds = ['pairs', 'arrow', 'parquet', 'tar', 'text', 'pictures', 'list', 'vqa', 'nlvr2'] as const;
export type DataKind = (typeof dataKinds)[number];

/** Where data lie, and how they are read. */
export interface DataSource {
  /**
   * A file, a folder, a pattern such as `coco-*.arrow` or `part-{000..127}.tar`, or several of these. For `vqa` files of questions, for
   * `nlvr2` files of statements.
   */
  readonly files: string | readonly string[];
  /** The format; unless named, by the extension. */
  readonly kind?: DataKind;
  /** Folder that a file names pictures in; its own folder unless named. */
  readonly images?: string;
  /** Parts of a Karpathy split file. */
  readonly splits?: readonly string[];
  /** Columns of Arrow and Parquet files, where they have other names than usual. */
  readonly columns?: ColumnNames;
  /** Rows of Arrow and Parquet files that stand more than once in an epoch. */
  readonly repeat?: RepeatedRows;
  /** Each line of a text is an item, or each paragraph; `line` unless named. */
  readonly unit?: TextUnit;
  /** For `vqa`: files of annotations, one for each of `files`. */
  readonly annotations?: string | readonly string[];
  /** For `vqa`: the list of answers, or its file. */
  readonly answers?: string | readonly string[];
  /** For `vqa`: leaves out the questions about so many pictures with the highest numbers. */
  readonly leaveOutLast?: number;
  /** `one`: an item may have several texts. `each`: every text is an item, with its picture. `one` unless named. */
  readonly captionItems?: 'one' | 'each';
}

const kindsByExtension: Readonly<Record<string, DataKind>> = {
  '.arrow': 'arrow',
  '.parquet': 'parquet',
  '.tar': 'tar',
  '.txt': 'text',
  '.jsonl': 'pairs',
  '.ndjson': 'pairs',
  '.csv': 'pairs',
  '.json': 'pairs',
};
/** Files that name the pictures of a folder. */
const captionFiles = ['captions.jsonl', 'metadata.jsonl', 'captions.csv', 'metadata.csv'];
const listOptions = { depth: 8, bytes: 2 ** 31 };
const listSchema = z.tuple([
  z
    .string()
    .min(1)
    .max(4096)
    .refine((name) => !name.includes('\0')),
  z.union([z.string().max(2 ** 16), z.array(z.string().max(2 ** 16)).max(1000)]),
]);
const mostListItems = 20_000_000;

/**
 * Opens training data. Files of several parts follow each other in the order of their names.
 *
 * @throws MomeError `MOME_NOT_FOUND` for missing files, which are named; `MOME_INVALID_FILE`, with the record, for damaged ones;
 *   `MOME_UNSUPPORTED` for an unknown extension; `MOME_TOO_LARGE`; `MOME_INVALID_ARGUMENT`
 * @example
 * const dataset = await openDataset({ files: 'coco/coco_caption_karpathy_{train,restval}.arrow' });
 */
export async function openDataset(source: DataSource): Promise<Dataset> {
  const dataset = await openSource(source);
  try {
    check(dataset.length > 0, 'MOME_INVALID_FILE', `${listOf(source.files).join(', ')}: expected an item, got none`);
    return source.captionItems === 'each' ? await everyText(dataset) : dataset;
  } catch (error) {
    dataset.close();
    throw error;
  }
}

async function openSource(source: DataSource): Promise<Dataset> {
  const names = listOf(source.files);
  check(names.length > 0, 'MOME_INVALID_ARGUMENT', 'data: expected at least one file, got none');
  const { kind, images } = source;
  if (kind === 'vqa' || kind === 'nlvr2') {
    check(images !== undefined, 'MOME_INVALID_ARGUMENT', `data: expected the folder of pictures for ${kind}, got none`);
    const files = (await Promise.all(names.map(filesOf))).flat();
    return kind === 'nlvr2' ? openNlvr2(files, images) : openQuestions(files, images, source);
  }
  const parts: Dataset[] = [];
  try {
    for (const name of names) for (const file of await filesOf(name)) parts.push(...(await openPath(file, source)));
    return joined(parts);
  } catch (error) {
    for (const part of parts) part.close();
    throw error;
  }
}

function openQuestions(questions: readonly string[], images: string, source: DataSource): Promise<Dataset> {
  const { annotations, answers, leaveOutLast } = source;
  check(
    annotations !== undefined && answers !== undefined,
    'MOME_INVALID_ARGUMENT',
    'data: expected files of annotations and a list of answers for vqa, got none',
  );
  return openVqa({
    questions,
    annotations: listOf(annotations),
    images,
    answers,
    ...(leaveOutLast !== undefined && { leaveOutLast }),
  });
}

/** One file as one part, or the files of a folder. */
async function openPath(file: string, source: DataSource): Promise<Dataset[]> {
  const found = await stat(file).catch((error: unknown) => {
    throw new MomeError('MOME_NOT_FOUND', `${file}: expected a file or folder, found none`, { cause: error });
  });
  if (found.isDirectory()) return openFolder(file, source);
  const kind = source.kind ?? kindsByExtension[path.extname(file).toLowerCase()];
  check(
    kind !== undefined,
    'MOME_UNSUPPORTED',
    `${file}: expected a file of ${Object.keys(kindsByExtension).join(', ')}, or "kind" to say what it is`,
  );
  return [await openFile(file, kind, source)];
}

async function openFile(file: string, kind: DataKind, source: DataSource): Promise<Dataset> {
  const { images, splits, unit, repeat } = source;
  check(
    repeat === undefined || kind === 'arrow' || kind === 'parquet',
    'MOME_INVALID_ARGUMENT',
    `${file}: expected an Arrow or Parquet file to repeat rows of, got ${kind}`,
  );
  switch (kind) {
    case 'arrow':
      return ofTable(await openArrow(file), source);
    case 'parquet':
      return ofTable(await openParquet(file), source);
    case 'tar':
      return openTar(file);
    case 'text':
      return openText(file, unit);
    case 'list':
      return openList(file, images ?? path.dirname(file));
    case 'pairs': {
      const { items } = await readPairs(file, { ...(images !== undefined && { images }), ...(splits && { splits }) });
      return datasetOfFiles(
        items.map(({ file: picture, captions, origin }) => ({ files: [picture], texts: captions, origin })),
        images ?? path.dirname(file),
      );
    }
    case 'pictures':
      throw new MomeError('MOME_INVALID_ARGUMENT', `${file}: expected a folder of pictures, got a file`);
    case 'vqa':
    case 'nlvr2':
      throw new MomeError('MOME_INTERNAL', `${file}: expected a file of one part, got ${kind}`);
    default:
      return kind satisfies never;
  }
}

async function ofTable(
  table: Parameters<typeof datasetOfRows>[0],
  { columns, repeat }: Pick<DataSource, 'columns' | 'repeat'>,
): Promise<Dataset> {
  try {
    return await datasetOfRows(table, columns, repeat);
  } catch (error) {
    table.close();
    throw error;
  }
}

/** Shards in a folder; else pictures named by a file of captions, with captions beside them, or alone. */
async function openFolder(folder: string, source: DataSource): Promise<Dataset[]> {
  const { kind } = source;
  const names = (await readdir(folder)).sort(byCodeUnits);
  const named = captionFiles.find((name) => names.includes(name));
  if ((kind === undefined || kind === 'pairs') && named)
    return [await openFile(path.join(folder, named), 'pairs', { images: folder, ...source })];
  for (const shards of ['arrow', 'parquet', 'tar'] as const) {
    const files = names.filter((name) => path.extname(name).toLowerCase() === `.${shards}`);
    if (files.length === 0 || (kind !== undefined && kind !== shards)) continue;
    return openAll(
      files.map((name) => path.join(folder, name)),
      shards,
      source,
    );
  }
  if (kind === 'text') {
    const files = names.filter((name) => path.extname(name).toLowerCase() === '.txt');
    check(files.length > 0, 'MOME_NOT_FOUND', `${folder}: expected files named .txt, found none`);
    return openAll(
      files.map((name) => path.join(folder, name)),
      kind,
      source,
    );
  }
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const pictures = entries
    .filter((entry) => !entry.isDirectory() && pictureKind(entry.name) === 'readable')
    .map((entry) => path.join(entry.parentPath, entry.name))
    .sort(byCodeUnits);
  check(
    pictures.length > 0 && (kind === undefined || kind === 'pairs' || kind === 'pictures'),
    'MOME_NOT_FOUND',
    `${folder}: expected ${kind === undefined || kind === 'pictures' ? 'pictures or data files' : `data of kind ${kind}`}, found none`,
  );
  const hasCaptions = kind === 'pairs' || (kind === undefined && entries.some(({ name }) => /\.txt$/i.test(name)));
  if (hasCaptions) return [await openFile(folder, 'pairs', { images: folder, ...source })];
  return [
    datasetOfFiles(
      pictures.map((file) => ({ files: [file], texts: [], origin: file })),
      folder,
    ),
  ];
}

async function openAll(files: readonly string[], kind: DataKind, source: DataSource): Promise<Dataset[]> {
  const parts: Dataset[] = [];
  try {
    for (const file of files) parts.push(await openFile(file, kind, source));
    return parts;
  } catch (error) {
    for (const part of parts) part.close();
    throw error;
  }
}

/** A list `[[path, caption], ...]` in JSON, as those of GCC and SBU. */
async function openList(file: string, images: string): Promise<Dataset> {
  const items: FileItem[] = [];
  for await (const value of jsonItems(file, 'a list of pictures with captions', listOptions)) {
    const origin = `${file}: entry ${items.length}`;
    check(items.length < mostListItems, 'MOME_TOO_LARGE', `${origin}: expected at most ${mostListItems} entries`);
    const [name, caption] = parsed(listSchema, value, origin);
    const texts = [caption].flat().map((text) => text.trim());
    items.push({ files: [path.resolve(images, name)], texts: texts.filter((text) => text !== ''), origin });
  }
  return datasetOfFiles(items, images);
}

const listOf = (value: string | readonly string[]): readonly string[] => (typeof value === 'string' ? [value] : value);
