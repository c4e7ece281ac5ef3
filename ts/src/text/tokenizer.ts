/**
 * Texts to word pieces, by any `tokenizer.json` or a BERT `vocab.txt`.
 */
import { check } from '../runtime/errors.ts';
import { readText } from '../runtime/input-file.ts';
import { Pace } from '../runtime/pace.ts';
import { type BertOptions, uncased } from './bert.ts';
import { BertTokenizer } from './bert-tokenizer.ts';
import { SpecialPieces } from './special-pieces.ts';
import {
  checkPieces,
  libraryJson,
  longestWord,
  maxIds,
  parseTokenizerJson,
  piecesOf,
  type TokenizerJson,
  tokenizerLimits,
} from './tokenizer-json.ts';
import { specials } from './vocabulary.ts';

/** Longest piece of a `vocab.txt`, in characters: longer words have no pieces. */
const maxPieceLength = 512;

/** Turns texts into ids with CLS first and SEP last, and back. */
export interface Tokenizer {
  readonly vocabularySize: number;
  /** Most ids of a text, CLS and SEP included. */
  readonly maxLength: number;
  readonly maskId: number;
  /**
   * Ids of `text`, at least CLS and SEP. A longer text keeps its first `maxLength - 2` pieces, as in the original.
   *
   * @throws MomeError `MOME_TOO_LARGE` for a text whose pieces lie behind very many characters that have none, see `docs/errors.md`
   */
  encode(text: string): Int32Array;
  /** The text of `ids` without special pieces. */
  decode(ids: Int32Array): string;
  /** Whether `id` is CLS, SEP, PAD, UNK or MASK. */
  isSpecial(id: number): boolean;
  /** Whether `id` continues a word (`##...`). */
  isContinuation(id: number): boolean;
}

/**
 * Reads `tokenizer.json` or `vocab.txt` (told apart by content).
 *
 * @throws MomeError `MOME_NOT_FOUND`, `MOME_TOO_LARGE`, `MOME_INVALID_FILE`, `MOME_UNSUPPORTED`, `MOME_IO`
 */
export async function loadTokenizer(path: string, options: { readonly maxLength: number }): Promise<Tokenizer> {
  const { text } = await readText(path, { what: 'a tokenizer', maxBytes: tokenizerLimits.bytes });
  return createTokenizer(text, options, path);
}

/**
 * Makes a tokenizer from the text of a `tokenizer.json` or a `vocab.txt`, while other events run.
 *
 * @throws MomeError `MOME_INVALID_FILE`, `MOME_UNSUPPORTED` for parts that BERT's tokenizers do not have, such as patterns,
 *   `MOME_TOO_LARGE`
 */
export async function createTokenizer(
  text: string,
  { maxLength }: { readonly maxLength: number },
  where = 'tokenizer',
): Promise<Tokenizer> {
  check(
    Number.isInteger(maxLength) && maxLength >= 2,
    'MOME_INVALID_ARGUMENT',
    `${where}: expected maxLength >= 2, got ${maxLength}`,
  );
  if (!/^\s*\{/.test(text)) return bertTokenizer(await readLines(text, where), uncased, maxLength, where);
  const json = await parseTokenizerJson(text, where);
  const options = bertOptionsOf(json);
  if (options === undefined) {
    const { LibraryTokenizer } = await import('./library-tokenizer.ts'); // BERT's tokenizers do without its library
    return LibraryTokenizer.create(await libraryJson(json, where), maxLength, where);
  }
  const { vocab, unk_token, continuing_subword_prefix, max_input_chars_per_word } = json.model;
  const source: VocabularySource = {
    pieces: await piecesOf(vocab, where),
    added: (json.added_tokens ?? []).map(({ content, id }) => [content, id]),
    prefix: continuing_subword_prefix ?? '##',
    unknown: unk_token ?? '[UNK]',
    longestWord: max_input_chars_per_word ?? longestWord,
  };
  return bertTokenizer(source, options, maxLength, where);
}

/** The contents of either kind of file. */
interface VocabularySource {
  readonly pieces: readonly (readonly [piece: string, id: number])[];
  readonly added: readonly (readonly [piece: string, id: number])[];
  readonly prefix: string;
  readonly unknown: string;
  readonly longestWord: number;
}

/** The lines of a vocab.txt. @throws MomeError `MOME_INVALID_FILE`, `MOME_TOO_LARGE` */
async function readLines(text: string, where: string): Promise<VocabularySource> {
  const pieces: [string, number][] = [];
  const pace = new Pace();
  const end = text.length - (/[\r\n]*$/.exec(text.slice(-(2 ** 10)))?.[0].length ?? 0);
  for (let start = 0; start < end; ) {
    const newline = text.indexOf('\n', start);
    const next = newline < 0 || newline > end ? end : newline;
    checkPieces(pieces.length + 1, maxIds, where);
    check(
      next - start <= maxPieceLength,
      'MOME_TOO_LARGE',
      `${where}: expected word pieces of at most ${maxPieceLength} characters, got ${next - start} in line ${pieces.length + 1}`,
    );
    const line = text.slice(start, next);
    pieces.push([line.endsWith('\r') ? line.slice(0, -1) : line, pieces.length]);
    start = next + 1;
    if (pieces.length % 1024 === 0) await pace.rest();
  }
  check(
    pieces.length > specials.length,
    'MOME_INVALID_FILE',
    `${where}: expected a word piece on each line, got ${pieces.length} lines`,
  );
  const idOf = new Map(pieces.filter(([piece]) => (specials as readonly string[]).includes(piece)));
  return { pieces, added: [...idOf], prefix: '##', unknown: '[UNK]', longestWord };
}

async function bertTokenizer(
  { pieces, added, prefix, unknown, longestWord }: VocabularySource,
  options: BertOptions,
  maxLength: number,
  where: string,
): Promise<BertTokenizer> {
  const idOf = new Map<string, number>();
  const continuing = new Map<string, number>();
  const byId: (string | undefined)[] = [];
  let longestPiece = 1;
  const pace = new Pace();
  const put = (piece: string, id: number): void => {
    while (byId.length <= id) byId.push(undefined);
    byId[id] = piece;
  };
  for (const [i, [piece, id]] of pieces.entries()) {
    idOf.set(piece, id);
    put(piece, id);
    if (piece.startsWith(prefix)) continuing.set(piece.slice(prefix.length), id);
    longestPiece = Math.max(longestPiece, piece.length);
    if (i % 512 === 0) await pace.rest();
  }
  const addedIds = new Map(added);
  for (const [piece, id] of addedIds) put(piece, id);
  const special = new SpecialPieces((piece) => addedIds.get(piece) ?? idOf.get(piece), where);
  const unknownId = idOf.get(unknown);
  check(unknownId !== undefined, 'MOME_INVALID_FILE', `${where}: expected the piece for unknown words, found none`);
  const tables = { idOf, continuing, longestPiece, prefix, unknown: unknownId, longestWord };
  return new BertTokenizer({ ...tables, pieces: byId, added: addedIds, options }, special, maxLength);
}

/** How a `tokenizer.json` changes words when it is of BERT's kind, else undefined. */
function bertOptionsOf({ model, added_tokens = [], ...json }: TokenizerJson): BertOptions | undefined {
  const normalizer = json.normalizer as Readonly<Record<string, unknown>> | null | undefined;
  const splitter = json.pre_tokenizer as Readonly<Record<string, unknown>> | null | undefined;
  const isPlain = added_tokens.every((each) => !each.single_word && !each.lstrip && !each.rstrip && !each.normalized);
  if (
    normalizer?.type !== 'BertNormalizer' ||
    normalizer.clean_text === false ||
    splitter?.type !== 'BertPreTokenizer' ||
    (model.type !== undefined && model.type !== 'WordPiece') ||
    Array.isArray(model.vocab) ||
    !isPlain
  )
    return undefined;
  const lowercase = normalizer.lowercase !== false;
  const { strip_accents: strip } = normalizer;
  return {
    splitChinese: normalizer.handle_chinese_chars !== false,
    lowercase,
    stripAccents: typeof strip === 'boolean' ? strip : lowercase,
  };
}
