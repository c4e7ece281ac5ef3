/**
 * Data sets of tables (Arrow, Parquet) by the names of their columns: those of the original's files, and those that are usual elsewhere.
 */
import { createHash } from 'node:crypto';
import { check, MomeError } from '../../runtime/errors.ts';
import type { AnswerTargets } from '../objectives/step.ts';
import { type Dataset, hashTexts, type Item, lastAtMost, type Picture } from './dataset.ts';
import type { Row, RowTable } from './row-table.ts';

/** Columns that items are read from; those not named are looked for under their usual names. */
export interface ColumnNames {
  readonly image?: string;
  readonly caption?: string;
  readonly visualTokens?: string;
  /** Items of the same value are positives of each other, such as drawings of one concept: texts or whole numbers. */
  readonly group?: string;
}

/** Rows that stand more than once in an epoch, told by the value in a column: values that are not named stand once. */
export interface RepeatedRows {
  readonly column: string;
  readonly times: Readonly<Record<string, number>>;
}

/** Usual names, the first that is there wins. */
const usual = {
  image: ['image', 'jpg', 'jpeg', 'png', 'img'],
  caption: ['caption', 'captions', 'text', 'texts', 'sentences', 'txt'],
  visualTokens: ['visual_tokens', 'visualTokens'],
  group: ['group'],
};
/** Column of drawings as premultiplied RGBA, [side, side, 4], all of one side. */
const pixelsColumn = 'pixels';
const largestSide = 2048;
const mostTexts = 10_000;

/** How rows of a table become items. */
interface Layout {
  readonly pictures: readonly string[];
  /** Column of a text or a list of texts. */
  readonly text?: string;
  /** Each text of a row is an item of its own, with the value in the same place of these lists. */
  readonly each: boolean;
  readonly labels?: string;
  readonly scores?: string;
  readonly truth?: string;
  readonly visualTokens?: string;
  /** Groups of rows; unless named, each row is one. */
  readonly group?: string;
  /** Side of pictures that are pixels. */
  readonly side?: number;
}

/**
 * - `pixels` (premultiplied RGBA, [side, side, 4]) and `caption`: drawings with transparent backgrounds.
 * - `image` (bytes, or `{ bytes, path }`) and `caption` (a text or a list): pairs. `image` that is no bytes column: text alone.
 * - `image`, `questions`, `answer_labels`, `answer_scores`: the original's `vqav2_*`; each question with labels is an item.
 * - `image_0`, `image_1`, `questions`, `answers` of "True" and "False": the original's `nlvr2_*`; each statement is an item.
 *
 * @throws MomeError `MOME_INVALID_FILE` for a table without such columns
 */
export async function datasetOfRows(
  table: RowTable & { readonly chunkWindow?: number },
  names: ColumnNames = {},
  repeat?: RepeatedRows,
): Promise<Dataset> {
  const layout = await layoutOf(table, names);
  check(
    repeat === undefined || !layout.each,
    'MOME_INVALID_ARGUMENT',
    `${table.path}: expected pairs, pictures or texts to repeat, got questions`,
  );
  const places = layout.each ? await placesOf(table, layout) : repeat && (await repeatedPlaces(table, repeat));
  const groups = layout.group === undefined ? undefined : await groupsOf(table, layout.group);
  const length = places ? places.rows.length : table.rows;
  const place = (index: number): readonly [row: number, text: number | undefined] => {
    check(
      Number.isInteger(index) && index >= 0 && index < length,
      'MOME_INVALID_ARGUMENT',
      `${table.path}: expected an index below ${length}, got ${index}`,
    );
    return places ? [places.rows[index]!, places.texts?.[index]] : [index, undefined];
  };
  const origin = (index: number): string => {
    const [row, text] = place(index);
    return `${table.path}: row ${row}${text === undefined ? '' : `, text ${text + 1}`}`;
  };
  const { chunkWindow } = table;
  const chunkStarts = places ? table.chunkStarts.map((row) => firstAtLeast(places.rows, row)) : table.chunkStarts;
  const chunks = chunkStarts.filter((start, i) => start < (chunkStarts[i + 1] ?? length));
  const self: Dataset = {
    length,
    picturesPerItem: layout.pictures.length as 0 | 1 | 2,
    ...(layout.side !== undefined && { pixels: { size: layout.side, channels: 4 } }),
    ...(chunks.length > 1 && { chunkStarts: Uint32Array.from(chunks) }),
    ...(chunkWindow !== undefined && { chunkWindow }),
    async item(index, withPictures = true) {
      const [row, text] = place(index);
      const { pictures, labels, scores, truth, visualTokens } = layout;
      const columns = [...(withPictures ? pictures : []), layout.text, labels, scores, truth, visualTokens];
      const values = await table.read(
        row,
        columns.filter((name) => name !== undefined),
      );
      return itemOf(values, layout, withPictures, groups?.[row] ?? row, text, origin(index));
    },
    origin,
    async *itemTexts() {
      if (!layout.text) {
        for (let index = 0; index < length; index++) yield [];
        return;
      }
      let index = 0;
      let row = 0;
      for await (const part of table.scan([layout.text])) {
        for (const values of part) {
          const value = values[layout.text];
          if (!places) yield textsOf(value) ?? [];
          else
            for (; index < length && places.rows[index] === row; index++)
              yield textsOf(at(value, places.texts?.[index])) ?? [];
          row++;
        }
      }
    },
    async fingerprint() {
      const hash = createHash('sha256').update(
        JSON.stringify([table.description, layout, length, ...(repeat ? [repeat] : [])]),
      );
      await hashTexts(hash, self);
      return hash.digest('hex');
    },
    close: () => table.close(),
  };
  return self;
}

async function layoutOf(table: RowTable, names: ColumnNames): Promise<Layout> {
  const has = (name: string) => table.columns.includes(name);
  const column = (kind: keyof ColumnNames): string | undefined => {
    const named = names[kind];
    check(
      named === undefined || has(named),
      'MOME_INVALID_FILE',
      `${table.path}: expected a column ${named}, got ${table.columns.slice(0, 20).join(', ')}`,
    );
    return named ?? usual[kind].find(has);
  };
  if (has('image_0') && has('image_1') && has('questions') && has('answers'))
    return { pictures: ['image_0', 'image_1'], text: 'questions', each: true, truth: 'answers' };
  const image = column('image');
  if (image !== undefined && has('questions'))
    return {
      pictures: [image],
      text: 'questions',
      each: true,
      ...(has('answer_labels') && has('answer_scores') && { labels: 'answer_labels', scores: 'answer_scores' }),
    };
  const text = column('caption');
  const visualTokens = column('visualTokens');
  const group = column('group');
  const others = {
    ...(text !== undefined && { text }),
    each: false,
    ...(visualTokens !== undefined && { visualTokens }),
    ...(group !== undefined && { group }),
  };
  if (names.image === undefined && has(pixelsColumn))
    return { pictures: [pixelsColumn], ...others, side: await sideOf(table) };
  check(
    image !== undefined || text !== undefined,
    'MOME_INVALID_FILE',
    `${table.path}: expected columns such as image and caption, got ${table.columns.slice(0, 20).join(', ')}`,
  );
  const shown = image !== undefined && (await hasPictures(table, image));
  check(shown || text !== undefined, 'MOME_INVALID_FILE', `${table.path}: expected pictures or texts, got neither`);
  return { pictures: shown ? [image] : [], ...others };
}

/** The side of a table's drawings, told by its first row. */
async function sideOf(table: RowTable): Promise<number> {
  const value = table.rows === 0 ? undefined : (await table.read(0, [pixelsColumn]))[pixelsColumn];
  const side = value instanceof Uint8Array ? Math.sqrt(value.length / 4) : 0;
  check(
    Number.isInteger(side) && side >= 1 && side <= largestSide,
    'MOME_INVALID_FILE',
    `${table.path}: row 0: expected the RGBA of a square of at most ${largestSide} in ${pixelsColumn}, got ${kindOf(value)}`,
  );
  return side;
}

/** For each row the first row that has the same value in a column. */
async function groupsOf(table: RowTable, column: string): Promise<Uint32Array> {
  const groups = new Uint32Array(table.rows);
  const firsts = new Map<string, number>();
  let row = 0;
  for await (const part of table.scan([column]))
    for (const values of part) {
      const value = values[column];
      check(
        ['string', 'number', 'bigint'].includes(typeof value),
        'MOME_INVALID_FILE',
        `${table.path}: row ${row}: expected a text or a whole number in ${column}, got ${kindOf(value)}`,
      );
      const key = String(value);
      const first = firsts.get(key);
      if (first === undefined) firsts.set(key, row);
      groups[row] = first ?? row;
      row++;
    }
  return groups;
}

/** The original's files of text alone have the word "None" for each picture. */
async function hasPictures(table: RowTable, image: string): Promise<boolean> {
  if (table.rows === 0) return true;
  const value = (await table.read(0, [image]))[image];
  return typeof value !== 'string';
}

/** Places of items, for tables whose items are not their rows. */
interface Places {
  readonly rows: Uint32Array;
  /** Which text of its row an item has; without it, all of them. */
  readonly texts?: Uint32Array;
}

/** Each row as often as it is to stand in an epoch, in order. */
async function repeatedPlaces(table: RowTable, { column, times }: RepeatedRows): Promise<Places> {
  check(
    table.columns.includes(column),
    'MOME_INVALID_FILE',
    `${table.path}: expected a column ${column}, got ${table.columns.slice(0, 20).join(', ')}`,
  );
  const rows: number[] = [];
  let row = 0;
  for await (const part of table.scan([column]))
    for (const values of part) {
      const value = String(values[column]);
      const count = Object.hasOwn(times, value) ? times[value]! : 1;
      for (let time = 0; time < count; time++) rows.push(row);
      row++;
    }
  return { rows: Uint32Array.from(rows) };
}

/** The row and the place in it of each item, for rows with several. Questions that have labels, where there are any, and none. */
async function placesOf(table: RowTable, layout: Layout): Promise<Places> {
  const rows: number[] = [];
  const texts: number[] = [];
  let row = 0;
  const columns = [layout.text!, layout.labels].filter((name) => name !== undefined);
  for await (const part of table.scan(columns)) {
    for (const values of part) {
      const questions = values[layout.text!];
      const labels = layout.labels === undefined ? undefined : values[layout.labels];
      const count = Array.isArray(questions) ? Math.min(questions.length, mostTexts) : 1;
      for (let text = 0; text < count; text++) {
        const known = Array.isArray(labels) ? labels[text] : undefined;
        if (layout.labels !== undefined && Array.isArray(known) && known.length === 0) continue;
        rows.push(row);
        texts.push(text);
      }
      row++;
    }
  }
  return { rows: Uint32Array.from(rows), texts: Uint32Array.from(texts) };
}

/** Index of the first of ascending `values` that is at least `value`; their number where there is none. */
function firstAtLeast(values: Uint32Array, value: number): number {
  if (values.length === 0 || values[values.length - 1]! < value) return values.length;
  const at = value === 0 ? 0 : lastAtMost(values, value - 1);
  return values[at]! >= value ? at : at + 1;
}

function itemOf(
  values: Row,
  layout: Layout,
  withPictures: boolean,
  group: number,
  place: number | undefined,
  origin: string,
): Item {
  const wrong = (what: string, got: unknown): MomeError =>
    new MomeError('MOME_INVALID_FILE', `${origin}: expected ${what}, got ${kindOf(got)}`);
  const pictures = (withPictures ? layout.pictures : []).map((name) => {
    const picture = layout.side === undefined ? pictureOf(values[name]) : pixelsOf(values[name], layout.side);
    if (!picture && layout.side !== undefined) throw wrong(`${4 * layout.side ** 2} bytes in ${name}`, values[name]);
    if (!picture) throw wrong(`the bytes of a picture in ${name}`, values[name]);
    return picture;
  });
  let texts: readonly string[] = [];
  if (layout.text !== undefined) {
    const found = textsOf(at(values[layout.text], place));
    if (!found) throw wrong(`a text or a list of texts in ${layout.text}`, values[layout.text]);
    texts = found;
  }
  const pick = (name: string): unknown => at(values[name], place);
  const answers = layout.labels === undefined ? undefined : answersOf(pick(layout.labels), pick(layout.scores!));
  if (layout.labels !== undefined && !answers) throw wrong('labels with as many scores', pick(layout.labels));
  const truth = layout.truth === undefined ? undefined : truthOf(pick(layout.truth));
  if (layout.truth !== undefined && truth === undefined) throw wrong('"True" or "False"', pick(layout.truth));
  const tokens = layout.visualTokens === undefined ? undefined : idsOf(values[layout.visualTokens]);
  if (layout.visualTokens !== undefined && !tokens)
    throw wrong('visual tokens as whole numbers', values[layout.visualTokens]);
  return {
    pictures,
    texts,
    group,
    ...(answers && { answers }),
    ...(truth !== undefined && { truth }),
    ...(tokens && { visualTokens: Int32Array.from(tokens) }),
  };
}

/** Bytes of a picture, or a record of them with a path as Hugging Face's files have it. */
function pictureOf(value: unknown): Picture | undefined {
  if (value instanceof Uint8Array && value.length > 0) return { encoded: value };
  if (typeof value === 'object' && value !== null && 'bytes' in value) return pictureOf(value.bytes);
  return undefined;
}

function pixelsOf(value: unknown, side: number): Picture | undefined {
  return value instanceof Uint8Array && value.length === 4 * side * side ? { pixels: value } : undefined;
}

const utf8 = new TextDecoder();

/** Texts that are not empty; undefined for a value of another kind. */
function textsOf(value: unknown): string[] | undefined {
  if (typeof value === 'string') return value.trim() === '' ? [] : [value.trim()];
  // Some files do not say that a column of bytes is text.
  if (value instanceof Uint8Array) return textsOf(utf8.decode(value));
  if (!Array.isArray(value) || value.length > mostTexts) return undefined;
  const texts = value.map(textsOf);
  return texts.every((each) => each !== undefined) ? texts.flat() : undefined;
}

/** The value for one text of a row that has several. */
function at(value: unknown, place: number | undefined): unknown {
  return Array.isArray(value) && place !== undefined ? value[place] : value;
}

function answersOf(given: unknown, scores: unknown): AnswerTargets | undefined {
  const labels = idsOf(given);
  if (!labels || !Array.isArray(scores) || labels.length !== scores.length) return undefined;
  return scores.every((score) => score >= 0 && score <= 1) ? { labels, scores } : undefined;
}

function truthOf(value: unknown): boolean | undefined {
  const text = value instanceof Uint8Array ? utf8.decode(value) : value;
  if (typeof text === 'boolean') return text;
  if (typeof text !== 'string') return undefined;
  return { true: true, false: false }[text.toLowerCase()];
}

/** Whole numbers of at least 0 as a file has them; undefined for other values. */
function idsOf(value: unknown): number[] | undefined {
  if (!Array.isArray(value)) return undefined;
  const ids = value.map((each) => (typeof each === 'bigint' ? Number(each) : each));
  return ids.every((each) => Number.isInteger(each) && each >= 0 && each < 2 ** 31) ? ids : undefined;
}

function kindOf(value: unknown): string {
  if (value === null || value === undefined) return 'nothing';
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  if (Array.isArray(value)) return `a list of ${value.length}`;
  return `a ${typeof value}`;
}
