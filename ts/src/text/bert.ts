/**
 * BERT's tokenizer: texts to words, words to word pieces.
 *
 * Words come one at a time, so that a long text, which is cut, costs no more than its first pieces.
 */

/** How BERT's normalizer changes words. */
export interface BertOptions {
  /** Makes a word of each Chinese character. */
  readonly splitChinese: boolean;
  readonly lowercase: boolean;
  readonly stripAccents: boolean;
}

/** As `bert-base-uncased` has them. */
export const uncased: BertOptions = { splitChinese: true, lowercase: true, stripAccents: true };

/** Blocks of Chinese characters: unified ideographs with extensions A to E, and compatibility ideographs. */
const chinese =
  '\\u3400-\\u4dbf\\u4e00-\\u9fff\\uf900-\\ufaff\\u{20000}-\\u{2a6df}\\u{2a700}-\\u{2b73f}\\u{2b740}-\\u{2b81f}\\u{2b820}-\\u{2ceaf}\\u{2f800}-\\u{2fa1f}';
const space = '\\t\\n\\r\\p{Zs}\\p{Zl}\\p{Zp}';
/** In BERT, all of ASCII's symbols are punctuation. */
const punctuation = '\\p{P}$+<=>^`|~';

/** A Chinese character, or a run of others. Unassigned code points of these blocks are left out with the other unassigned ones. */
const chineseApart = new RegExp(`(?!\\p{Cn})[${chinese}]|(?:[^${space}${chinese}]|\\p{Cn})+`, 'gu');
const bySpace = new RegExp(`[^${space}]+`, 'gu');
const punctuationApart = new RegExp(`[${punctuation}]|[^${punctuation}]+`, 'gu');
const isPunctuation = new RegExp(`^[${punctuation}]`, 'u');
/** Left out: control, format, private, unassigned and lone surrogate code points, and the replacement character. */
const leftOut = /[\p{C}\ufffd]/gu;
const accents = /\p{Mn}/gu;
const isAscii = /^[!-~]*$/;

/** Characters of a token that are changed at a time, or more up to the next seam, which is looked for in as many again. */
const chunkLength = 2 ** 12;
/**
 * A place where a token may be cut: no mark follows, and no capital sigma looks across it for the end of its word. Marks are left out in
 * the end, so that a cut inside a very long run of them changes nothing.
 */
const seam =
  /[^\p{Case_Ignorable}Σ](?=[^\p{Case_Ignorable}\p{M}Σ])|[^\p{Case_Ignorable}\p{Cased}](?=[^\p{Case_Ignorable}\p{M}])/gu;

/**
 * The words of a text, in order. A word is never empty; one of more than `longest` code points may come cut, as it has no pieces.
 */
export function* wordsOf(text: string, options: BertOptions, longest: number): Generator<string, void> {
  // A copy of its own: generators of several texts may be open.
  const tokens = new RegExp(options.splitChinese ? chineseApart : bySpace);
  for (let token = tokens.exec(text); token !== null; token = tokens.exec(text)) {
    let word = '';
    for (const chunk of chunksOf(token[0])) {
      for (const part of normalised(chunk, options).match(punctuationApart) ?? []) {
        if (!isPunctuation.test(part)) {
          // A code point has one or two characters: beyond twice the longest nothing changes any more.
          if (word.length <= 2 * longest) word += part;
          continue;
        }
        if (word !== '') yield word;
        word = '';
        yield part;
      }
    }
    if (word !== '') yield word;
  }
}

function* chunksOf(token: string): Generator<string, void> {
  let start = 0;
  while (token.length - start > 2 * chunkLength) {
    const window = token.slice(start + chunkLength - 1, start + 2 * chunkLength);
    seam.lastIndex = 0;
    const found = seam.exec(window);
    const length = found === null ? window.length : found.index + found[0].length;
    const end = start + chunkLength - 1 + length;
    yield token.slice(start, end);
    start = end;
  }
  yield token.slice(start);
}

function normalised(token: string, { lowercase, stripAccents }: BertOptions): string {
  if (isAscii.test(token)) return lowercase ? token.toLowerCase() : token;
  let text = token.replace(leftOut, '');
  if (lowercase) text = text.toLowerCase();
  if (stripAccents) text = text.normalize('NFD').replace(accents, '');
  return text;
}

/** A vocabulary of word pieces. */
export interface WordPieceTables {
  /** Every piece; of equal ones the last counts. */
  readonly idOf: ReadonlyMap<string, number>;
  /** Pieces that continue a word, without their prefix. */
  readonly continuing: ReadonlyMap<string, number>;
  /** Most characters of a piece. */
  readonly longestPiece: number;
  readonly prefix: string;
  /** Id of a word that pieces do not make up. */
  readonly unknown: number;
  /** Most code points of a word that has pieces. */
  readonly longestWord: number;
}

/** Adds the ids of a word's pieces by greedy longest match. */
export function addPiecesOf(word: string, ids: number[], tables: WordPieceTables): void {
  const { idOf, continuing, longestPiece, unknown, longestWord } = tables;
  const before = ids.length;
  let start = isLonger(word, longestWord) ? word.length + 1 : 0;
  while (start < word.length) {
    const pieces = start === 0 ? idOf : continuing;
    let end = Math.min(word.length, start + longestPiece);
    let id = pieces.get(word.slice(start, end));
    while (id === undefined && --end > start) id = pieces.get(word.slice(start, end));
    if (id === undefined) break;
    ids.push(id);
    start = end;
  }
  if (start === word.length) return;
  ids.length = before;
  ids.push(unknown);
}

function isLonger(word: string, most: number): boolean {
  return word.length > 2 * most || (word.length > most && [...word].length > most);
}

/** The text of pieces: continuing ones are joined, and spaces before punctuation and English endings are taken out. */
export function joinPieces(pieces: readonly string[], prefix: string): string {
  return pieces
    .map((piece, i) => {
      if (i === 0) return piece;
      if (piece.startsWith(prefix)) return piece.slice(prefix.length);
      return ` ${piece}`.replace(/^ ([.?!,]|n't|'m|'s|'ve|'re)/, '$1');
    })
    .join('');
}
