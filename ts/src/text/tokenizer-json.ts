/** The accepted contents of a `tokenizer.json`. */
import { z } from 'zod';
import { check, MomeError } from '../runtime/errors.ts';
import { type JsonLimits, parseJson } from '../runtime/json.ts';
import { Pace } from '../runtime/pace.ts';

/** Words longer than this become [UNK], as in BERT. */
export const longestWord = 100;
/** Most ids of a vocabulary; BERT's uncased one has 30,522 and the one for a hundred languages 119,547. */
export const maxIds = 2 ** 17;
/** Most pieces of a tokenizer that is not of BERT's kind: the library takes them in one turn of the event loop. */
const maxLibraryPieces = 2 ** 14;

/** That of BERT's uncased vocabulary has 700,000 bytes and 62,000 values. */
export const tokenizerLimits: JsonLimits = { bytes: 8 * 2 ** 20, depth: 16, values: 2 ** 18 + 2 ** 14 };

const id = z
  .number()
  .int()
  .min(0)
  .max(maxIds - 1);
const affix = z.string().max(16).nullish();

/** Most names of an object other than the vocabulary: a check goes over all of them in one turn of the event loop. */
const maxNames = 256;

const modelSchema = z.looseObject({
  type: z.enum(['WordPiece', 'BPE', 'Unigram']).optional(),
  vocab: z.custom<Readonly<Record<string, unknown>> | readonly unknown[]>(
    (value) => typeof value === 'object' && value !== null,
  ),
  unk_token: z.string().max(longestWord).nullish(),
  // The work for a word grows with the square of its length.
  max_input_chars_per_word: z.number().int().min(1).max(longestWord).optional(),
  continuing_subword_prefix: affix,
  continuing_subword_suffix: affix,
  end_of_word_suffix: affix,
});

const flag = z.boolean().optional();
const tokenizerSchema = z.looseObject({
  model: modelSchema,
  added_tokens: z
    .array(
      z.looseObject({
        id,
        content: z.string().min(1).max(longestWord),
        single_word: flag,
        lstrip: flag,
        rstrip: flag,
        normalized: flag,
      }),
    )
    .max(1024)
    .optional(),
});

/** A `tokenizer.json` whose parts are known and short. */
export type TokenizerJson = z.infer<typeof tokenizerSchema>;

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

/**
 * Reads and checks a `tokenizer.json`, in pieces.
 *
 * @throws MomeError `MOME_INVALID_FILE`, `MOME_UNSUPPORTED` for parts that BERT's tokenizers do not have, `MOME_TOO_LARGE`
 */
export async function parseTokenizerJson(text: string, where: string): Promise<TokenizerJson> {
  const json = await parseJson(text, where, tokenizerLimits);
  check(hasFewNames(json), 'MOME_TOO_LARGE', `${where}: expected options of at most ${maxNames} names, got more`);
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
  return parsed.data;
}

function hasFewNames(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return true;
  if (Array.isArray(value)) return value.every(hasFewNames);
  const names = Object.keys(value);
  const parts = value as Readonly<Record<string, unknown>>;
  return names.length <= maxNames && names.every((name) => name === 'vocab' || hasFewNames(parts[name]));
}

/**
 * The pieces of a vocabulary with their ids, checked in pieces.
 *
 * @throws MomeError `MOME_INVALID_FILE`, `MOME_TOO_LARGE`
 */
export async function piecesOf(vocab: object, where: string): Promise<[piece: string, id: number][]> {
  const names = Object.keys(vocab);
  checkPieces(names.length, maxIds, where);
  const ids = vocab as Readonly<Record<string, unknown>>;
  const pieces: [string, number][] = [];
  const pace = new Pace();
  for (const name of names) {
    const value = ids[name];
    check(
      typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < maxIds,
      'MOME_INVALID_FILE',
      `${where}: expected ids from 0 to ${maxIds - 1}, got ${typeof value === 'number' ? value : typeof value}`,
    );
    pieces.push([name, value]);
    if (pieces.length % 1024 === 0) await pace.rest();
  }
  return pieces;
}

/** The JSON as Hugging Face's library takes it. @throws MomeError `MOME_INVALID_FILE`, `MOME_TOO_LARGE` */
export async function libraryJson(json: TokenizerJson, where: string): Promise<object> {
  const { vocab, merges } = json.model;
  const isList = Array.isArray(vocab);
  const count = isList ? vocab.length : Object.keys(vocab).length;
  checkPieces(count, maxLibraryPieces, where);
  if (isList) {
    const scored = z.tuple([z.string().max(longestWord), z.number()]);
    check(
      vocab.every((each) => scored.safeParse(each).success),
      'MOME_INVALID_FILE',
      `${where}: expected pieces with their scores`,
    );
  } else await piecesOf(vocab, where);
  checkMerges(merges, where);
  // CLS and SEP are put around the pieces here, so a post-processor has nothing to do.
  return { added_tokens: [], normalizer: null, pre_tokenizer: null, decoder: null, ...json, post_processor: null };
}

function checkMerges(merges: unknown, where: string): void {
  if (merges === undefined) return;
  check(Array.isArray(merges), 'MOME_INVALID_FILE', `${where}: expected a list of merges`);
  checkPieces(merges.length, 2 * maxLibraryPieces, where);
  const isText = (value: unknown) => typeof value === 'string';
  for (const merge of merges as readonly unknown[]) {
    const isPair = Array.isArray(merge) && merge.length === 2 && merge.every(isText);
    if (!isPair && !(isText(merge) && (merge as string).split(' ').length === 2))
      throw new MomeError('MOME_INVALID_FILE', `${where}: expected merges of two pieces`);
  }
}

export function checkPieces(count: number, most: number, where: string): void {
  check(count <= most, 'MOME_TOO_LARGE', `${where}: expected at most ${most} word pieces, got ${count}`);
}
