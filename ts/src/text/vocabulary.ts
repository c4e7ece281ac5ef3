/**
 * Learns a WordPiece vocabulary from texts: characters first, then the most frequent pairs of pieces are joined one by one.
 */
import { check, requireNotAborted } from '../runtime/errors.ts';
import { Pace } from '../runtime/pace.ts';

/** The special pieces, which a vocabulary begins with. */
export const specials = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'] as const;

export interface VocabularyOptions {
  /** Most pieces, special ones included. */
  readonly size: number;
  /** Pairs seen less often are not joined. */
  readonly minFrequency: number;
}

/**
 * @returns the lines of a vocab.txt: special pieces, then characters, then joined pieces in the order they were made
 * @see arXiv 1508.07909 for joining by frequency
 */
export async function buildVocabulary(
  texts: Iterable<string> | AsyncIterable<string>,
  { size, minFrequency }: VocabularyOptions,
  signal?: AbortSignal,
): Promise<string[]> {
  const pace = new Pace();
  const words = await countWords(texts, pace, signal);
  const pieces = new Set<string>();
  for (const { parts } of words) for (const part of parts) pieces.add(part);
  check(
    size >= specials.length + pieces.size,
    'MOME_INVALID_ARGUMENT',
    `vocabulary: expected room for ${specials.length + pieces.size} special pieces and characters, got ${size}`,
  );
  const vocabulary: string[] = [...specials, ...[...pieces].sort(byCodePoints)];
  const pairs = new PairCounts(words);
  while (vocabulary.length < size) {
    requireNotAborted(signal, 'vocabulary');
    const pair = pairs.best(minFrequency);
    if (!pair) break;
    const joined = join(pair[0], pair[1]);
    if (!pieces.has(joined)) {
      pieces.add(joined);
      vocabulary.push(joined);
    }
    pairs.merge(pair, joined);
    await pace.rest();
  }
  return vocabulary;
}

interface Word {
  parts: string[];
  readonly count: number;
}

/** Lower-cased words without accents, punctuation apart, as BERT's uncased tokenizer splits them. */
async function countWords(
  texts: Iterable<string> | AsyncIterable<string>,
  pace: Pace,
  signal: AbortSignal | undefined,
): Promise<Word[]> {
  const counts = new Map<string, number>();
  for await (const text of texts) {
    requireNotAborted(signal, 'vocabulary');
    await pace.rest();
    const plain = text
      .toLowerCase()
      .normalize('NFD')
      .replace(/\p{Mn}/gu, '');
    for (const word of plain.match(/[\p{P}\p{S}]|[^\p{P}\p{S}\s]+/gu) ?? [])
      counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  return [...counts]
    .sort(([a], [b]) => byCodePoints(a, b))
    .map(([word, count]) => ({
      parts: [...word].map((character, i) => (i === 0 ? character : `##${character}`)),
      count,
    }));
}

/** How often each pair of neighbouring pieces occurs, kept up to date as pairs are joined. */
class PairCounts {
  readonly #words: Word[];
  readonly #counts = new Map<string, number>();
  readonly #wordsOf = new Map<string, Set<number>>();

  constructor(words: Word[]) {
    this.#words = words;
    for (const index of words.keys()) this.#add(index, 1);
  }

  /** The most frequent pair, the first in code point order among equals. */
  best(minFrequency: number): [string, string] | undefined {
    let best: string | undefined;
    let most = Math.max(1, minFrequency) - 1;
    for (const [key, count] of this.#counts) {
      if (count > most || (count === most && best !== undefined && byCodePoints(key, best) < 0)) {
        best = key;
        most = count;
      }
    }
    return best === undefined ? undefined : (best.split('\n') as [string, string]);
  }

  merge([left, right]: [string, string], joined: string): void {
    for (const index of [...(this.#wordsOf.get(`${left}\n${right}`) ?? [])]) {
      this.#add(index, -1);
      const { parts } = this.#words[index]!;
      const merged: string[] = [];
      for (let i = 0; i < parts.length; i++) {
        const isPair = parts[i] === left && parts[i + 1] === right;
        merged.push(isPair ? joined : parts[i]!);
        if (isPair) i++;
      }
      this.#words[index]!.parts = merged;
      this.#add(index, 1);
    }
  }

  #add(index: number, sign: 1 | -1): void {
    const { parts, count } = this.#words[index]!;
    for (let i = 0; i + 1 < parts.length; i++) {
      const key = `${parts[i]}\n${parts[i + 1]}`;
      const total = (this.#counts.get(key) ?? 0) + sign * count;
      if (total > 0) this.#counts.set(key, total);
      else this.#counts.delete(key);
      const owners = this.#wordsOf.get(key) ?? new Set<number>();
      if (sign > 0) owners.add(index);
      else owners.delete(index);
      this.#wordsOf.set(key, owners);
    }
  }
}

const join = (left: string, right: string): string => left + right.replace(/^##/, '');

function byCodePoints(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
