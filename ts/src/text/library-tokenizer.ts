/** Tokenizers of other kinds than BERT's, by Hugging Face's library. */
import { setImmediate } from 'node:timers/promises';
import * as tokenizers from '@huggingface/tokenizers';
import { check, MomeError } from '../runtime/errors.ts';
import { SpecialPieces } from './special-pieces.ts';
import type { Tokenizer } from './tokenizer.ts';
import { longestWord, maxIds } from './tokenizer-json.ts';

/** Characters that the library is first given for each piece that is kept. */
const charactersPerPiece = 64;
/** Most characters that the library is given: some hundredths of a second. */
const maxCharacters = 2 ** 14;
/** Pieces at the end that a cut may have changed: those of a word and of a special piece that it goes through. */
const maxCutPieces = 2 * longestWord;

/** The part of the library's types that this file uses: the library's own do not resolve from CommonJS. */
interface Library {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
  decode(ids: number[], options: { skip_special_tokens: boolean }): string;
  token_to_id(token: string): number | undefined;
  /** Ids that no piece has stand under undefined. */
  get_vocab(added: boolean): Map<string | undefined, number>;
}

const { Tokenizer: LibraryClass } = tokenizers as unknown as {
  Tokenizer: new (json: object, config: object) => Library;
};

export class LibraryTokenizer implements Tokenizer {
  readonly vocabularySize: number;
  readonly maxLength: number;
  readonly #library: Library;
  readonly #special: SpecialPieces;
  readonly #continuation: ReadonlySet<number>;
  readonly #where: string;

  private constructor(library: Library, vocabulary: LibraryVocabulary, maxLength: number, where: string) {
    this.#where = where;
    this.#library = library;
    this.#special = new SpecialPieces((piece) => library.token_to_id(piece), where);
    this.maxLength = maxLength;
    this.#continuation = vocabulary.continuing;
    this.vocabularySize = vocabulary.highest + 1;
  }

  /** @throws MomeError `MOME_INVALID_FILE` */
  static async create(json: object, maxLength: number, where: string): Promise<LibraryTokenizer> {
    // The library takes the vocabulary in one turn of the event loop; other events run before and after it.
    await setImmediate();
    const library = guarded(where, () => new LibraryClass(json, {}));
    await setImmediate();
    return new LibraryTokenizer(library, readVocabulary(library, where), maxLength, where);
  }

  get maskId(): number {
    return this.#special.mask;
  }

  encode(text: string): Int32Array {
    return this.#special.around(this.#firstPieces(text, this.maxLength - 2));
  }

  /**
   * The first `room` pieces. Pieces come word by word, and a word has a limited number of them, so a prefix of the text gives the same
   * pieces but for the last few. It grows until there are enough: a very long text costs little more than the part that is kept.
   */
  #firstPieces(text: string, room: number): number[] {
    const most = maxCharacters;
    for (let length = Math.min(charactersPerPiece * this.maxLength, most); ; length = Math.min(4 * length, most)) {
      const { ids } = guarded(this.#where, () =>
        this.#library.encode(text.slice(0, length), { add_special_tokens: false }),
      );
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
    const shown = [...ids].filter((id) => !this.#special.has(id));
    return guarded(this.#where, () => this.#library.decode(shown, { skip_special_tokens: true }));
  }

  isSpecial(id: number): boolean {
    return this.#special.has(id);
  }

  isContinuation(id: number): boolean {
    return this.#continuation.has(id);
  }
}

interface LibraryVocabulary {
  readonly continuing: ReadonlySet<number>;
  readonly highest: number;
}

function readVocabulary(library: Library, where: string): LibraryVocabulary {
  const continuing = new Set<number>();
  let highest = 0;
  for (const [token, id] of guarded(where, () => library.get_vocab(true))) {
    check(
      Number.isInteger(id) && id >= 0 && id < maxIds,
      'MOME_INVALID_FILE',
      `${where}: expected ids below ${maxIds}, got ${String(id)}`,
    );
    if (token?.startsWith('##')) continuing.add(id);
    highest = Math.max(highest, id);
  }
  return { continuing, highest };
}

/** The library throws errors of its own for files that make no sense, some of them only when it meets a text. */
function guarded<T>(where: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw new MomeError('MOME_INVALID_FILE', `${where}: expected a tokenizer this library can read`, { cause: error });
  }
}
