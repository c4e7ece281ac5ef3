/**
 * Masked language modelling: whole words are chosen, then replaced by [MASK], by a random piece, or left as they are.
 */
import { checkKind, kinds, withMethods } from '../runtime/arguments.ts';
import { type Random, randomKind } from './random.ts';

/** The part of a vocabulary that masking uses. */
export interface MaskingVocabulary {
  readonly vocabularySize: number;
  readonly maskId: number;
  /** CLS, SEP, PAD, UNK and MASK: never predicted, never drawn. */
  isSpecial(id: number): boolean;
  /** Whether a piece continues a word (`##` in WordPiece). */
  isContinuation(id: number): boolean;
}

/** A text with some pieces replaced, and the original pieces. */
export interface MaskedText {
  readonly ids: Int32Array;
  /** Positions to predict, ascending. */
  readonly positions: Int32Array;
  /** The original piece at each position. */
  readonly labels: Int32Array;
}

/**
 * Masks a share of the words of a text.
 *
 * @param probability share of words to predict (0.15 in the paper); at least one word of a text that has any
 * @see arXiv 1810.04805 and its whole-word variant
 */
export function maskWords(
  ids: Int32Array,
  vocabulary: MaskingVocabulary,
  random: Random,
  probability = 0.15,
): MaskedText {
  checkMasking('maskWords', ids, vocabulary, random, probability);
  const words = wordsOf(ids, vocabulary, (_, id) => !vocabulary.isSpecial(id));
  random.shuffle(words);
  const chosen = words.slice(0, words.length === 0 ? 0 : Math.max(1, Math.round(words.length * probability)));
  return replaced(ids, chosen.flat(), vocabulary, random, () => drawPiece(vocabulary, random));
}

/**
 * Masks words of a text as the original code does. Its budget counts pieces and is a share of the padded length. Padding is drawn like a
 * word of one piece and then left alone, so a short text has few masks or none. Words that are longer than what is left of the budget are
 * passed over. A random piece is any of the vocabulary.
 *
 * @param ids a text that begins with CLS and ends with SEP, without padding
 * @param paddedLength pieces that the original pads texts to: `maxTextLength` of the model
 * @param probability share of the padded length
 */
export function maskBudget(
  ids: Int32Array,
  vocabulary: MaskingVocabulary,
  random: Random,
  paddedLength: number,
  probability = 0.15,
): MaskedText {
  checkMasking('maskBudget', ids, vocabulary, random, probability);
  checkKind('maskBudget', 'paddedLength', paddedLength, kinds.size);
  const last = ids.length - 1;
  const words = wordsOf(ids, vocabulary, (position) => position > 0 && position < last);
  for (let position = ids.length; position < paddedLength; position++) words.push([position]);
  random.shuffle(words);
  const budget = Math.max(1, roundHalfToEven(paddedLength * probability));
  const chosen: number[] = [];
  for (const word of words) {
    if (chosen.length >= budget) break;
    if (chosen.length + word.length <= budget) chosen.push(...word);
  }
  const predicted = chosen.filter((position) => position < ids.length && !vocabulary.isSpecial(ids[position]!));
  return replaced(ids, predicted, vocabulary, random, () => random.integer(vocabulary.vocabularySize));
}

/** @throws MomeError `MOME_INVALID_ARGUMENT` */
function checkMasking(where: string, ids: unknown, vocabulary: unknown, random: unknown, probability: unknown): void {
  checkKind(where, 'ids', ids, kinds.integers);
  checkKind(where, 'vocabulary', vocabulary, withMethods('a MaskingVocabulary', 'isSpecial', 'isContinuation'));
  checkKind(where, 'random', random, randomKind);
  checkKind(where, 'probability', probability, kinds.number);
}

/** Positions of the pieces of each word, among the pieces that may be masked. */
function wordsOf(
  ids: Int32Array,
  vocabulary: MaskingVocabulary,
  mayBeMasked: (position: number, id: number) => boolean,
): number[][] {
  const words: number[][] = [];
  for (const [position, id] of ids.entries()) {
    if (!mayBeMasked(position, id)) continue;
    const word = words.at(-1);
    if (word !== undefined && vocabulary.isContinuation(id) && word.at(-1) === position - 1) word.push(position);
    else words.push([position]);
  }
  return words;
}

/** The text with [MASK] at eight of ten positions, another piece at one and the same piece at one. */
function replaced(
  ids: Int32Array,
  chosen: readonly number[],
  vocabulary: MaskingVocabulary,
  random: Random,
  another: () => number,
): MaskedText {
  const positions = Int32Array.from(chosen).sort();
  const masked = Int32Array.from(ids);
  const labels = positions.map((position) => ids[position]!);
  for (const position of positions) {
    const choice = random.uniform(0, 1);
    if (choice < 0.8) masked[position] = vocabulary.maskId;
    else if (choice < 0.9) masked[position] = another();
  }
  return { ids: masked, positions, labels };
}

function drawPiece(vocabulary: MaskingVocabulary, random: Random): number {
  for (;;) {
    const id = random.integer(vocabulary.vocabularySize);
    if (!vocabulary.isSpecial(id)) return id;
  }
}

/** Rounds as Python does: a half goes to the even neighbour. */
function roundHalfToEven(value: number): number {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 === 1 ? rounded - 1 : rounded;
}
