/**
 * What a bulk job embeds: pictures or texts in one stable order, whatever holds them.
 *
 * Inputs are counted in units: a picture of a folder, a row of a Parquet file, a line of a text file, a whole tar file. The order is that of
 * the sources as they were named. Shards and parts are cut from it, so it has to be the same whenever the job is started again.
 */
import { stat } from 'node:fs/promises';
import { extname } from 'node:path';
import type { ImageInput } from '../inference/index.ts';
import { check, MomeError } from '../runtime/errors.ts';
import { filesOf } from '../train/data/data-files.ts';
import { openFolders } from './folder-inputs.ts';
import { openParquetFiles } from './parquet-inputs.ts';
import { openTars } from './tar-inputs.ts';
import { openTextFiles } from './text-inputs.ts';

/** Where an item stands: its unit, and its place inside the unit. */
export interface Position {
  readonly unit: number;
  readonly item: number;
}

/** What is embedded, as read, or why it cannot be; and the name that the input itself gives, where it has one. */
export type Content = { readonly name?: string } & (
  | { readonly text: string }
  | { readonly picture: ImageInput }
  | { readonly broken: string }
);

/** One input of a job. */
export interface BulkItem {
  /** The folder or file it comes from, as it was named. */
  readonly source: string;
  /** Its name in there: a relative path, a member of a tar file, a row counted from 0, a line counted from 1. */
  readonly name: string;
  /** Bytes that reading it takes of memory; 0 where decoders read the file themselves. */
  readonly bytes: number;
  /** Where the job goes on behind it. */
  readonly next: Position;
  /** @throws MomeError for an input that cannot be read, see `itemErrors` */
  read(): Promise<Content>;
}

/** Inputs of one kind, in order. */
export interface BulkInputs {
  readonly kind: 'pictures' | 'texts';
  readonly units: number;
  /** A hash of names and sizes, or of contents where those are read anyway; another one means other inputs. */
  readonly identity: string;
  /** What was left out and why, for the user to know. */
  readonly leftOut: readonly string[];
  /** Items from a position to before unit `end`. */
  items(from: Position, end: number): AsyncIterable<BulkItem>;
  /** The share of the units from `begin` to before `end` that lies before a position, from 0 to 1. */
  progress(begin: number, at: Position, end: number): number;
  close(): void;
}

export interface InputOptions {
  /** Column of a Parquet file that holds pictures or texts; default: one of the usual names. */
  readonly column?: string;
  /** Column of a Parquet file, or field of a line of JSON, that names its row. */
  readonly id?: string;
  readonly signal?: AbortSignal;
}

/**
 * Opens folders, tar files, Parquet files or text files (`.txt`, `.jsonl`, `.ndjson`), all of one of these kinds. Names may be patterns, see
 * `filesOf`.
 *
 * @throws MomeError `MOME_NOT_FOUND` for missing files; `MOME_INVALID_FILE` for damaged ones; `MOME_UNSUPPORTED` for other kinds;
 *   `MOME_INVALID_ARGUMENT` for several kinds, no inputs, or an option that the kind does not have
 */
export async function openInputs(sources: readonly string[], options: InputOptions = {}): Promise<BulkInputs> {
  const files: string[] = [];
  for (const source of sources) for (const file of await filesOf(source)) files.push(file);
  check(files.length > 0, 'MOME_INVALID_ARGUMENT', 'embed: expected at least one input, got none');
  let kind: InputKind | undefined;
  for (const file of files) {
    const own = await kindOf(file);
    check(
      kind === undefined || kind === own,
      'MOME_INVALID_ARGUMENT',
      `embed: expected inputs of one kind, got ${kind} (${files[0]}) and ${own} (${file})`,
    );
    kind = own;
  }
  const of = { folder: 'a folder', tar: 'tar files' };
  if (kind === 'folder' || kind === 'tar')
    for (const option of ['column', 'id'] as const)
      check(
        options[option] === undefined,
        'MOME_INVALID_ARGUMENT',
        `embed: expected no ${option} for ${of[kind]}, got ${options[option]}`,
      );
  switch (kind) {
    case 'folder':
      return openFolders(files, options);
    case 'tar':
      return openTars(files);
    case 'parquet':
      return openParquetFiles(files, options);
    default:
      return openTextFiles(files, options);
  }
}

type InputKind = 'folder' | 'tar' | 'parquet' | 'text';

const kindByEnding: Readonly<Record<string, InputKind>> = {
  '.tar': 'tar',
  '.parquet': 'parquet',
  '.txt': 'text',
  '.jsonl': 'text',
  '.ndjson': 'text',
};

async function kindOf(path: string): Promise<InputKind> {
  if ((await stat(path)).isDirectory()) return 'folder';
  const kind = kindByEnding[extname(path).toLowerCase()];
  if (kind) return kind;
  throw new MomeError(
    'MOME_UNSUPPORTED',
    `${path}: expected a folder of pictures, or a file ending in ${Object.keys(kindByEnding).join(', ')}`,
  );
}
