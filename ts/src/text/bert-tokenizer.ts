/** A tokenizer of BERT's kind, from its vocabulary. */
import { check } from '../runtime/errors.ts';
import { addPiecesOf, type BertOptions, joinPieces, type WordPieceTables, wordsOf } from './bert.ts';
import type { SpecialPieces } from './special-pieces.ts';
import type { Tokenizer } from './tokenizer.ts';

/** Most characters of a text that are looked at: some hundredths of a second where they hold no pieces. */
const maxCharacters = 2 ** 17;

/** The contents of a vocabulary file of BERT's kind. */
export interface BertVocabulary extends WordPieceTables {
  /** Pieces by id, with holes where no piece has an id. */
  readonly pieces: readonly (string | undefined)[];
  /** Pieces that are found in a text before it is changed, such as [MASK]. */
  readonly added: ReadonlyMap<string, number>;
  readonly options: BertOptions;
}

export class BertTokenizer implements Tokenizer {
  readonly maxLength: number;
  readonly #vocabulary: BertVocabulary;
  readonly #special: SpecialPieces;
  /** Splits a text at added pieces and keeps them. */
  readonly #addedApart: RegExp;

  constructor(vocabulary: BertVocabulary, special: SpecialPieces, maxLength: number) {
    this.maxLength = maxLength;
    this.#vocabulary = vocabulary;
    this.#special = special;
    const longestFirst = [...vocabulary.added.keys()].sort((a, b) => b.length - a.length);
    const escaped = longestFirst.map((piece) => piece.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&'));
    // Without an alternative nothing is found.
    this.#addedApart = new RegExp(escaped.join('|') || '[]', 'gu');
  }

  get vocabularySize(): number {
    return this.#vocabulary.pieces.length;
  }

  get maskId(): number {
    return this.#special.mask;
  }

  encode(text: string): Int32Array {
    const room = this.maxLength - 2;
    const isCut = text.length > maxCharacters;
    // The cut may change the last word or special piece.
    const wanted = isCut ? room + 2 * this.#vocabulary.longestWord : room;
    const ids = this.#firstPieces(isCut ? text.slice(0, maxCharacters) : text, wanted);
    check(
      !isCut || ids.length >= wanted,
      'MOME_TOO_LARGE',
      `text: expected ${room} pieces in the first ${maxCharacters} of ${text.length} characters, got fewer`,
    );
    return this.#special.around(ids.slice(0, room));
  }

  #firstPieces(text: string, room: number): number[] {
    const ids: number[] = [];
    for (const part of this.#parts(text)) {
      if (ids.length >= room) break;
      if (typeof part === 'number') ids.push(part);
      else this.#addPieces(part, ids, room);
    }
    return ids;
  }

  decode(ids: Int32Array): string {
    const { pieces, prefix } = this.#vocabulary;
    const shown = [...ids].filter((id) => !this.#special.has(id) && pieces[id] !== undefined);
    return joinPieces(
      shown.map((id) => pieces[id]!),
      prefix,
    );
  }

  isSpecial(id: number): boolean {
    return this.#special.has(id);
  }

  isContinuation(id: number): boolean {
    return this.#vocabulary.pieces[id]?.startsWith('##') ?? false;
  }

  /** Texts between added pieces, and the ids of those. */
  *#parts(text: string): Generator<string | number, void> {
    const pattern = new RegExp(this.#addedApart);
    let start = 0;
    for (let found = pattern.exec(text); found !== null; found = pattern.exec(text)) {
      if (found.index > start) yield text.slice(start, found.index);
      yield this.#vocabulary.added.get(found[0])!;
      start = pattern.lastIndex;
    }
    if (start < text.length) yield text.slice(start);
  }

  #addPieces(text: string, ids: number[], room: number): void {
    const { options, longestWord } = this.#vocabulary;
    for (const word of wordsOf(text, options, longestWord)) {
      addPiecesOf(word, ids, this.#vocabulary);
      if (ids.length >= room) return;
    }
  }
}
