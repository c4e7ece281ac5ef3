/**
 * Texts to word pieces, by any `tokenizer.json` or a BERT `vocab.txt`.
 */
import * as tokenizers from '@huggingface/tokenizers';
import { z } from 'zod';
import { check, MomeError } from '../runtime/errors.ts';
import { readText } from '../runtime/input-file.ts';
import { specials } from './vocabulary.ts';

/** Largest tokenizer file taken in, in bytes. */
const maxFileBytes = 64 * 2 ** 20;
/** Words longer than this become [UNK], as in BERT. */
const maxWordLength = 100;
/** Most ids of a vocabulary: the library keeps a row for each id below the largest. */
const maxIds = 2_000_000;
/** Characters that the library is first given for each piece that is kept. */
const charactersPerPiece = 64;
/** Most characters that the library is given, unless `maxLength` asks for more: some hundredths of a second. */
const maxCharacters = 2 ** 17;
/** Pieces at the end that a cut may have changed: those of a word and of a special piece that it goes through. */
const maxCutPieces = 2 * maxWordLength;

/** Turns texts into ids with CLS first and SEP last, and back. */
export interface Tokenizer {
  readonly vocabularySize: number;
  /** Most ids of a text, CLS and SEP included. */
  readonly maxLength: number;
  readonly maskId: number;
  /**
   * Ids of `text`, at least CLS and SEP. A longer text keeps its first `maxLength - 2` pieces, as in the original.
   *
   * @throws MomeError `MOME_TOO_LARGE` for a text whose first 2^17 characters hold fewer and that goes on
   */
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
  /** Ids that no piece has stand under undefined. */
  get_vocab(added: boolean): Map<string | undefined, number>;
}

const { Tokenizer: LibraryTokenizerClass } = tokenizers as unknown as {
  Tokenizer: new (json: object, config: object) => LibraryTokenizer;
};

const id = z
  .number()
  .int()
  .min(0)
  .max(maxIds - 1);
const affix = z.string().max(16).nullish();

const tokenizerSchema = z.looseObject({
  model: z.looseObject({
    type: z.enum(['WordPiece', 'BPE', 'Unigram']).optional(),
    vocab: z.union([z.record(z.string(), id), z.array(z.unknown()).max(maxIds)]),
    // The work for a word grows with the square of its length.
    max_input_chars_per_word: z.number().int().min(1).max(maxWordLength).optional(),
    continuing_subword_prefix: affix,
    continuing_subword_suffix: affix,
    end_of_word_suffix: affix,
  }),
  added_tokens: z
    .array(z.looseObject({ id, content: z.string().min(1).max(maxWordLength) }))
    .max(100_000)
    .optional(),
});

/** A part of `types` or a sequence of them, with short options: no pattern of the file's own, which could take for ever. */
const partOf = (types: readonly [string, ...string[]], list: string) => {
  const part = z
    .object({ type: z.enum(types) })
    .catchall(z.union([z.string().max(32), z.number(), z.boolean(), z.null()]));
  return z.union([part, z.looseObject({ type: z.literal('Sequence'), [list]: z.array(part).max(16) })]).nullish();
};

/** What the tokenizers of BERT's kind and those of bytes are made of: each takes time in proportion to the text. */
const parts = {
  normalizer: partOf(
    ['BertNormalizer', 'NFC', 'NFD', 'NFKC', 'NFKD', 'Lowercase', 'Strip', 'StripAccents'],
    'normalizers',
  ),
  pre_tokenizer: partOf(
    ['BertPreTokenizer', 'ByteLevel', 'Digits', 'Metaspace', 'Punctuation', 'Whitespace', 'WhitespaceSplit'],
    'pretokenizers',
  ),
  decoder: partOf(['WordPiece', 'BPEDecoder', 'ByteFallback', 'ByteLevel', 'Fuse', 'Metaspace'], 'decoders'),
} as const;

const required = ['[CLS]', '[SEP]', '[MASK]', '[UNK]'] as const;

/**
 * Reads `tokenizer.json` or `vocab.txt` (told apart by content).
 *
 * @throws MomeError `MOME_NOT_FOUND`, `MOME_TOO_LARGE`, `MOME_INVALID_FILE`, `MOME_UNSUPPORTED`, `MOME_IO`
 */
export async function loadTokenizer(path: string, options: { readonly maxLength: number }): Promise<Tokenizer> {
  const { text } = await readText(path, { what: 'a tokenizer', maxBytes: maxFileBytes });
  return createTokenizer(text, options, path);
}

/**
 * Makes a tokenizer from the text of a `tokenizer.json` or a `vocab.txt`.
 *
 * @throws MomeError `MOME_INVALID_FILE`, `MOME_UNSUPPORTED` for parts that BERT's tokenizers do not have, such as patterns
 */
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
    this.#continuation = new Set([...vocabulary].filter(([token]) => token?.startsWith('##')).map(([, id]) => id));
    let highest = 0;
    for (const id of vocabulary.values()) highest = Math.max(highest, id);
    this.vocabularySize = highest + 1;
  }

  encode(text: string): Int32Array {
    return Int32Array.from([this.#cls, ...this.#firstPieces(text, this.maxLength - 2), this.#sep]);
  }

  /**
   * The first `room` pieces. Pieces come word by word, and a word has at most {@link maxWordLength} of them, so a prefix of the
   * text gives the same pieces but for the last few. It grows until there are enough: a very long text costs little more than
   * the part that is kept.
   */
  #firstPieces(text: string, room: number): number[] {
    const first = charactersPerPiece * this.maxLength;
    const most = Math.max(maxCharacters, first);
    for (let length = first; ; length = Math.min(4 * length, most)) {
      const { ids } = this.#library.encode(text.slice(0, length), { add_special_tokens: false });
      if (length >= text.length || ids.length >= room + maxCutPieces) return ids.slice(0, room);
      // Spaces, or a word without end: pieces may come after any number of them.
      check(
        length < most,
        'MOME_TOO_LARGE',
        `text: expected ${room} pieces in the first ${most} of ${text.length} characters, got ${ids.length}`,
      );
    }
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

function parseJson(text: string, where: string): object {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new MomeError('MOME_INVALID_FILE', `${where}: expected JSON, got text that is none`, { cause: error });
  }
  const parsed = tokenizerSchema.safeParse(json);
  check(
    parsed.success,
    'MOME_INVALID_FILE',
    `${where}: expected a tokenizer.json with a model, its vocabulary of ids below ${maxIds} and short special pieces`,
  );
  for (const [key, schema] of Object.entries(parts)) {
    check(
      schema.safeParse(parsed.data[key]).success,
      'MOME_UNSUPPORTED',
      `${where}: expected a ${key} as BERT's, got one of another type, with a pattern or a long option`,
    );
  }
  // CLS and SEP are put around the pieces here, so a post-processor has nothing to do.
  return {
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: null,
    decoder: null,
    ...parsed.data,
    post_processor: null,
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
