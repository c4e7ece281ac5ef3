/** Readers for a user's own image-text pairs: JSONL, CSV, or a folder of pictures with caption files beside them. */
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { pictureKind } from '../../image/formats.ts';
import { check, MomeError } from '../../runtime/errors.ts';
import { InputFile, readText, refuseLfsPointer } from '../../runtime/input-file.ts';
import { type JsonLimits, parseJson } from '../../runtime/json.ts';
import { readKarpathy } from './karpathy.ts';
import { type CsvRow, parseCsv, splitLines } from './lines.ts';

/** A picture with its captions. */
export interface PairItem {
  readonly file: string;
  readonly captions: readonly string[];
  /** "pairs.jsonl:12", for messages. */
  readonly origin: string;
}

const maxItems = 20_000_000;
const maxCaptions = 1000;
const maxCaptionBytes = 1 << 20;
/** What a line of JSON may hold: a path and up to {@link maxCaptions} captions, with names that are not read. */
const lineLimits: JsonLimits = { bytes: maxCaptionBytes, depth: 16, values: 2 ** 13 };

/** The items of what `source` names, in order; the pictures are not looked for. @throws MomeError as `openPairs` */
export async function readPairs(
  source: string,
  options: { readonly images?: string; readonly splits?: readonly string[] },
): Promise<{ readonly items: readonly PairItem[]; readonly isFolder: boolean }> {
  const found = await stat(source).catch((error: unknown) => {
    throw new MomeError('MOME_NOT_FOUND', `openPairs: expected a file or folder, got ${source}, which is not there`, {
      cause: error,
    });
  });
  const extension = path.extname(source).toLowerCase();
  let items: PairItem[];
  if (found.isDirectory()) items = await readFolder(source);
  else if (extension === '.jsonl' || extension === '.ndjson') items = await readJsonLines(source);
  else if (extension === '.csv') items = await readCsv(source);
  else if (extension === '.json') {
    items = await readKarpathy(source, {
      ...(options.splits && { splits: options.splits }),
      folder: options.images ?? path.dirname(source),
    });
  } else {
    const expected = 'a folder, .jsonl, .ndjson, .csv or .json';
    throw new MomeError('MOME_UNSUPPORTED', `openPairs: expected ${expected}, got ${source}`);
  }
  check(items.length > 0, 'MOME_INVALID_FILE', `${source}: expected at least one picture with a caption, got none`);
  return { items, isFolder: found.isDirectory() };
}

async function openLines(source: string): Promise<InputFile> {
  const file = await InputFile.open(source, 'a file of pairs');
  refuseLfsPointer(await file.read(0, Math.min(file.size, 64)), source, 'a file of pairs');
  return file;
}

async function readJsonLines(source: string): Promise<PairItem[]> {
  const items: PairItem[] = [];
  const file = await openLines(source);
  for await (const { text, line } of splitLines(file.pieces(), source)) {
    const content = line === 1 ? text.replace(/^\uFEFF/, '') : text;
    if (content.trim() === '') continue;
    const origin = `${source}:${line}`;
    const value = await parseJson(content, origin, lineLimits).catch((error: unknown) => {
      if (!(error instanceof MomeError) || error.code !== 'MOME_INVALID_FILE') throw error;
      throw new MomeError('MOME_INVALID_FILE', `${origin}: expected a JSON object, got ${excerpt(content)}`, {
        cause: error,
      });
    });
    check(
      typeof value === 'object' && value !== null && !Array.isArray(value),
      'MOME_INVALID_FILE',
      `${origin}: expected a JSON object, got ${excerpt(content)}`,
    );
    // The second names are those of Hugging Face's picture folders.
    const { file_name, text: only, image = file_name, caption = only, captions } = value as Record<string, unknown>;
    check(
      (caption === undefined) !== (captions === undefined),
      'MOME_INVALID_FILE',
      `${origin}: expected either "caption" or "captions", got ${caption === undefined ? 'neither' : 'both'}`,
    );
    check(
      captions === undefined || Array.isArray(captions),
      'MOME_INVALID_FILE',
      `${origin}: expected "captions" to be a list, got ${shown(captions)}`,
    );
    append(items, source, origin, image, captions === undefined ? [caption] : (captions as unknown[]));
  }
  return items;
}

async function readCsv(source: string): Promise<PairItem[]> {
  const items: PairItem[] = [];
  const file = await openLines(source);
  let header: CsvRow | undefined;
  let imageColumn = -1;
  let captionColumn = -1;
  for await (const row of parseCsv(file.pieces(), source)) {
    const origin = `${source}:${row.line}`;
    if (header === undefined) {
      header = row;
      const names = row.cells.map((cell) => cell.trim().toLowerCase());
      imageColumn = names.indexOf('image');
      captionColumn = names.indexOf('caption');
      check(
        imageColumn >= 0 && captionColumn >= 0,
        'MOME_INVALID_FILE',
        `${origin}: expected a header with image and caption, got ${excerpt(row.cells.join(','))}`,
      );
      continue;
    }
    check(
      row.cells.length === header.cells.length,
      'MOME_INVALID_FILE',
      `${origin}: expected ${header.cells.length} cells, got ${row.cells.length}`,
    );
    append(items, source, origin, row.cells[imageColumn], [row.cells[captionColumn]]);
  }
  return items;
}

async function readFolder(source: string): Promise<PairItem[]> {
  const entries = await readdir(source, { recursive: true, withFileTypes: true });
  const pictures = entries
    .filter((entry) => entry.isFile() && pictureKind(entry.name) === 'readable')
    .map((entry) => path.join(entry.parentPath, entry.name))
    .sort();
  const items: PairItem[] = [];
  for (const file of pictures) {
    const sidecar = `${file.slice(0, -path.extname(file).length)}.txt`;
    const { text } = await readText(sidecar, { what: `captions of ${file}`, maxBytes: maxCaptionBytes });
    const lines = text.split(/\r?\n/);
    append(
      items,
      sidecar,
      sidecar,
      file,
      lines.filter((line) => line.trim() !== ''),
    );
  }
  return items;
}

/** Checks one record and adds it. */
function append(items: PairItem[], source: string, origin: string, image: unknown, captions: readonly unknown[]): void {
  check(
    typeof image === 'string' && image.trim() !== '' && !image.includes('\0'),
    'MOME_INVALID_FILE',
    `${origin}: expected "image" to be a path, got ${shown(image)}`,
  );
  check(
    !/^[a-z][a-z0-9+.-]+:\/\//i.test(image),
    'MOME_UNSUPPORTED',
    `${origin}: expected a path of a local file, got ${excerpt(image)}`,
  );
  check(
    captions.length >= 1 && captions.length <= maxCaptions,
    'MOME_INVALID_FILE',
    `${origin}: expected 1 to ${maxCaptions} captions, got ${captions.length}`,
  );
  const texts = captions.map((caption) => {
    check(
      typeof caption === 'string' && caption.trim() !== '',
      'MOME_INVALID_FILE',
      `${origin}: expected a caption of one character or more, got ${shown(caption)}`,
    );
    return caption.trim();
  });
  check(items.length < maxItems, 'MOME_TOO_LARGE', `${origin}: expected at most ${maxItems} items, got more`);
  items.push({ file: path.resolve(path.dirname(source), image.trim()), captions: texts, origin });
}

/** A value of a file for a message: lists and objects may be of any depth. */
function shown(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object' && value !== null) return 'an object';
  return excerpt(JSON.stringify(value));
}

function excerpt(text: string | undefined): string {
  if (text === undefined) return 'nothing';
  return text.length > 80 ? `${text.slice(0, 80)}...` : text;
}
