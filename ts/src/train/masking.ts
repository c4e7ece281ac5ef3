/**
 * Masked language modelling: whole words are chosen, then replaced by [MASK], by a random piece, or left as they are.
 */
import type { Random } from './random.ts';

/** What masking needs to know of a vocabulary. */
export interface MaskingVocabulary {
  readonly vocabularySize: number;
  readonly maskId: number;
  /** CLS, SEP, PAD, UNK and MASK: never predicted, never drawn. */
  isSpecial(id: number): boolean;
  /** Whether a piece continues a word (`##` in WordPiece). */
  isContinuation(id: number): boolean;
}

/** A text with some pieces replaced, and what stood there. */
export interface MaskedText {
  readonly ids: Int32Array;
  /** Positions to predict, ascending. */
  readonly positions: Int32Array;
  /** The original piece at each position. */
  readonly labels: Int32Array;
}

/**
 * @param probability share of words to predict (0.15 in the paper); at least one word of a text that has any
 * @see arXiv 1810.04805 and its whole-word variant
 */
export function maskWords(
  ids: Int32Array,
  vocabulary: MaskingVocabulary,
  random: Random,
  probability = 0.15,
): MaskedText {
  const words: number[][] = [];
  for (const [position, id] of ids.entries()) {
    if (vocabulary.isSpecial(id)) continue;
    const word = words.at(-1);
    if (word !== undefined && vocabulary.isContinuation(id) && word.at(-1) === position - 1) word.push(position);
    else words.push([position]);
  }
  const order = words.map((_, i) => i);
  random.shuffle(order);
  const chosen = order.slice(0, words.length === 0 ? 0 : Math.max(1, Math.round(words.length * probability)));
  const positions = Int32Array.from(chosen.flatMap((word) => words[word]!)).sort();
  const masked = Int32Array.from(ids);
  const labels = positions.map((position) => ids[position]!);
  for (const position of positions) {
    const choice = random.uniform(0, 1);
    if (choice < 0.8) masked[position] = vocabulary.maskId;
    else if (choice < 0.9) masked[position] = drawPiece(vocabulary, random);
  }
  return { ids: masked, positions, labels };
}

function drawPiece(vocabulary: MaskingVocabulary, random: Random): number {
  for (;;) {
    const id = random.integer(vocabulary.vocabularySize);
    if (!vocabulary.isSpecial(id)) return id;
  }
}
