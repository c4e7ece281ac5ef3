/**
 * Texts to word pieces, by any `tokenizer.json` or a BERT `vocab.txt`.
 */
import { readFile, stat } from 'node:fs/promises';
import * as tokenizers from '@huggingface/tokenizers';
import { z } from 'zod';
import { check, MomeError } from '../runtime/errors.ts';

/** Largest tokenizer file taken in, in bytes. */
const maxFileBytes = 64 * 2 ** 20;
/** Words longer than this become [UNK], as in BERT. */
const maxWordLength = 100;

/** Turns texts into ids with CLS first and SEP last, and back. */
export interface Tokenizer {
  readonly vocabularySize: number;
  /** Most ids of a text, CLS and SEP included. */
  readonly maxLength: number;
  readonly maskId: number;
  /** Ids of `text`, at least CLS and SEP. A longer text keeps its first `maxLength - 2` pieces, as in the original. */
  encode(text: string): Int32Array;
  /** The text of `ids` without special pieces. */
  decode(ids: Int32Array): string;
  /** Whether `id` is CLS, SEP, PAD, UNK or MASK. */
  isSpecial(id: number): boolean;
  /** Whether `id` continues a word (`##...`). */
  isContinuation(id: number): boolean;
}

/** What this file uses of the library, whose own types do not resolve from CommonJS. */
interface LibraryTokenizer {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
  decode(ids: number[], options: { skip_special_tokens: boolean }): string;
  token_to_id(token: string): number | undefined;
  id_to_token(id: number): string | undefined;
  get_vocab(added: boolean): Map<string, number>;
}

const { Tokenizer: LibraryTokenizerClass } = tokenizers as unknown as {
  Tokenizer: new (json: object, config: object) => LibraryTokenizer;
};

const tokenizerSchema = z.looseObject({
  model: z.looseObject({
    type: z.string().optional(),
    vocab: z.union([z.record(z.string(), z.number()), z.array(z.unknown())]),
  }),
});

const specials = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'] as const;
const required = ['[CLS]', '[SEP]', '[MASK]', '[UNK]'] as const;

/**
 * Reads `tokenizer.json` or `vocab.txt` (told apart by content).
 *
 * @throws MomeError `MOME_NOT_FOUND`, `MOME_TOO_LARGE`, `MOME_INVALID_FILE`
 */
export async function loadTokenizer(path: string, options: { readonly maxLength: number }): Promise<Tokenizer> {
  let text: string;
  try {
    const { size } = await stat(path);
    check(
      size <= maxFileBytes,
      'MOME_TOO_LARGE',
      `${path}: expected a tokenizer of at most ${maxFileBytes} bytes, got ${size}`,
    );
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof MomeError) throw error;
    throw new MomeError('MOME_NOT_FOUND', `${path}: expected a tokenizer, could not read it`, { cause: error });
  }
  return createTokenizer(text, options, path);
}

/** Makes a tokenizer from the text of a `tokenizer.json` or a `vocab.txt`. */
export function createTokenizer(
  text: string,
  { maxLength }: { readonly maxLength: number },
  where = 'tokenizer',
): Tokenizer {
  check(
    Number.isInteger(maxLength) && maxLength >= 2,
    'MOME_INVALID_ARGUMENT',
    `${where}: expected maxLength >= 2, got ${maxLength}`,
  );
  const json = text.trimStart().startsWith('{') ? parseJson(text, where) : bertJson(text, where);
  let library: LibraryTokenizer;
  try {
    library = new LibraryTokenizerClass(json, {});
  } catch (error) {
    throw new MomeError('MOME_INVALID_FILE', `${where}: expected a tokenizer this library can read`, { cause: error });
  }
  return new WordPieces(library, maxLength, where);
}

class WordPieces implements Tokenizer {
  readonly vocabularySize: number;
  readonly maxLength: number;
  readonly maskId: number;
  readonly #library: LibraryTokenizer;
  readonly #cls: number;
  readonly #sep: number;
  readonly #special: ReadonlySet<number>;
  readonly #continuation: ReadonlySet<number>;

  constructor(library: LibraryTokenizer, maxLength: number, where: string) {
    const ids = new Map<string, number>();
    for (const token of specials) {
      const id = library.token_to_id(token);
      if (id !== undefined) ids.set(token, id);
    }
    const missing = required.filter((token) => !ids.has(token));
    check(
      missing.length === 0,
      'MOME_INVALID_FILE',
      `${where}: expected the pieces ${required.join(' ')}, found no ${missing.join(' ')}`,
    );
    const vocabulary = library.get_vocab(true);
    this.#library = library;
    this.maxLength = maxLength;
    this.#cls = ids.get('[CLS]')!;
    this.#sep = ids.get('[SEP]')!;
    this.maskId = ids.get('[MASK]')!;
    this.#special = new Set(ids.values());
    this.#continuation = new Set([...vocabulary].filter(([token]) => token.startsWith('##')).map(([, id]) => id));
    let highest = 0;
    for (const id of vocabulary.values()) highest = Math.max(highest, id);
    this.vocabularySize = highest + 1;
  }

  encode(text: string): Int32Array {
    const room = this.maxLength - 2;
    // Pieces come word by word, so the pieces of a prefix that ends between words are a prefix of the pieces: a very long text
    // costs no more than the part that is kept.
    let pieces: number[] = [];
    for (let length = 64 * this.maxLength; ; length *= 4) {
      const end = wordEnd(text, length);
      pieces = this.#library.encode(text.slice(0, end), { add_special_tokens: false }).ids;
      if (pieces.length >= room || end === text.length) break;
    }
    return Int32Array.from([this.#cls, ...pieces.slice(0, room), this.#sep]);
  }

  decode(ids: Int32Array): string {
    return this.#library.decode([...ids], { skip_special_tokens: true });
  }

  isSpecial(id: number): boolean {
    return this.#special.has(id);
  }

  isContinuation(id: number): boolean {
    return this.#continuation.has(id);
  }
}

/** The end of the word that `from` lies in, at most a long word further. */
function wordEnd(text: string, from: number): number {
  let end = Math.min(from, text.length);
  while (end < text.length && !/\s/.test(text[end]!)) end++;
  return end;
}

function parseJson(text: string, where: string): object {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new MomeError('MOME_INVALID_FILE', `${where}: expected JSON, got text that is none`, { cause: error });
  }
  const parsed = tokenizerSchema.safeParse(json);
  check(parsed.success, 'MOME_INVALID_FILE', `${where}: expected a tokenizer.json with a model and its vocabulary`);
  return {
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: null,
    ...parsed.data,
  };
}

/** The tokenizer.json that `bert-base-uncased` uses, around the lines of a vocab.txt. */
function bertJson(text: string, where: string): object {
  const lines = text.split(/\r?\n/);
  while (lines.at(-1) === '') lines.pop();
  check(
    lines.length > specials.length,
    'MOME_INVALID_FILE',
    `${where}: expected a word piece on each line, got ${lines.length} lines`,
  );
  const vocab: Record<string, number> = Object.create(null) as Record<string, number>;
  for (const [id, token] of lines.entries()) vocab[token] = id;
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: specials
      .filter((token) => vocab[token] !== undefined)
      .map((content) => ({
        id: vocab[content],
        content,
        special: true,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
      })),
    normalizer: {
      type: 'BertNormalizer',
      clean_text: true,
      handle_chinese_chars: true,
      strip_accents: null,
      lowercase: true,
    },
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: null,
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    model: {
      type: 'WordPiece',
      unk_token: '[UNK]',
      continuing_subword_prefix: '##',
      max_input_chars_per_word: maxWordLength,
      vocab,
    },
  };
}
