/** Captions in the words of people who do not know the name: what something is for, what it does, what is said about it. */
import { readLines } from './files.mjs';
import { contentWords } from './lexicon.mjs';

/** Phrases around a word, by what the word is. */
const phrases = {
  noun: (
    'i need N|i need a N|where is the N|where can i find a N|it has a N|it has N|it is about N|my N|the N|a N|some N|the N is here|' +
    'it comes with N|it makes me think of N|for the N|in the N|on the N|at the N|a kind of N|it belongs to N|i like N|something for N|' +
    'something for the N|a thing for N|there is N|there is a N|full of N|made of N|something with a N|something like a N|we have N|' +
    'it is a N|this is a N|what a N|no N without it|time for N|a place for N|a tool for N|a sign for N'
  ).split('|'),
  verb: (
    'something to V|something to V with|i want to V|time to V|a place to V|let us V|let me V|how do i V|ready to V|it can V|i like to V|' +
    'you use it to V|a tool to V|we V|they V|someone who likes to V|do not V|go and V|it helps me V|I have to V'
  )
    .toLowerCase()
    .replaceAll(' v', ' V')
    .split('|'),
  adj: 'it is A|i feel A|so A|something A|a A thing|that looks A|very A|someone A|it makes me A|i am A|everything is A'.split(
    '|',
  ),
};
const pairsOf =
  'N with M|N and M|the N on the M|a N in the M|N for M|N of the M|M with a N|a N that has M|N, M|a M N|the M N|N for your M|a N to M|the N and the M|something with N and M|M or N'.split(
    '|',
  );
const defined = ['D', 'D', 'it is D', 'something that is D', 'this is D', 'a picture of D', 'D, called a N'];
const linking = new Set('a an and at by for from in is it of on or the to with'.split(' '));
const count = 24;
const shareOfRequests = 1 / 3;
const withVowel = (text) => text.replace(/\ba ([aeiou])/g, 'an $1');

/** The parts of a definition that can stand alone, as people would say them. */
export function clausesOf(gloss) {
  const clauses = gloss
    .split(/[;:]/)
    .map((text) => text.trim())
    .filter((text) => text.length > 5);
  const said = [];
  for (const clause of clauses) {
    const use = /\b(?:used|designed|serving|intended|needed) (?:to|for|in|as|by|on|with) .+/.exec(clause)?.[0];
    if (use) said.push(`something ${use}`, `it is ${use}`, use.replace(/^\w+ (?:to|for) /, 'something for '));
    const does = /\b(?:that|which|who) (.+)/.exec(clause)?.[1];
    if (does) said.push(`it ${does}`, `something that ${does}`);
    const having = /\b(?:having|with) .+/.exec(clause)?.[0];
    if (having) said.push(`something ${having}`, having.replace(/^having/, 'it has'));
    const purpose = /\bfor (\w+ing .+)/.exec(clause)?.[1];
    if (purpose) said.push(`something for ${purpose}`);
  }
  return { clauses, said };
}

/**
 * Requests for drawings, written for this corpus by concept: a line has a concept and its requests, with tabs between them.
 *
 * @returns requests by concept
 */
export const readRequests = (file) =>
  new Map(
    readLines(file).map((line) => {
      const [concept, ...requests] = line.split('\t');
      return [concept, requests];
    }),
  );

/**
 * Captions of a drawing, some more than once: one is drawn by chance each time that the drawing is seen.
 *
 * @param drawing `{ name, others, tags, requests }`, tags and requests being those of its concept too; a third are requests where there are any
 * @param plain captions of {@link captionsOf}, nearly half of the result
 * @param lexicon of {@link Lexicon}
 * @param random gives numbers in [0, 1)
 */
export function askedOf({ name, others, tags, requests }, plain, lexicon, random) {
  const pick = (list) => list[Math.floor(random() * list.length)];
  const own = [name, ...others];
  const words = [...new Set([...tags, ...own, ...name.split(' ')])].filter(
    (word) => word.length > 1 && !linking.has(word),
  );
  const about = new Set(contentWords([...own, ...tags].join(' ')));
  const meant = lexicon.meaningOf(name, about);
  const ofWords = words.filter((word) => word !== name).flatMap((word) => lexicon.meaningOf(word, about) ?? []);
  const definition = () => {
    const meaning = meant && (ofWords.length === 0 || random() < 0.75) ? meant : pick(ofWords);
    const { clauses, said } = clausesOf(meaning.gloss);
    if (said.length > 0 && random() < 0.6) return pick(said);
    if (clauses.length === 0) return meaning.gloss;
    return pick(defined).replace('D', pick(clauses)).replace('N', name);
  };
  const sentences = [meant, ...ofWords].flatMap((meaning) => meaning?.examples ?? []);
  const phrase = () => {
    const word = pick(words);
    const part = lexicon.partOf(word) ?? 'noun';
    return pick(phrases[part]).replace(/[NVA]/, word);
  };
  const both = () => pick(pairsOf).replace('N', pick(words)).replace('M', pick(words));
  const captions = [];
  while (captions.length < count) {
    if (requests.length > 0 && random() < shareOfRequests) {
      captions.push(pick(requests));
      continue;
    }
    const drawn = random();
    if (drawn < 0.45) captions.push(pick(plain));
    else if (drawn < 0.62) captions.push(withVowel(phrase()));
    else if (drawn < 0.7) captions.push(withVowel(both()));
    else if (drawn < 0.88 && (meant || ofWords.length > 0)) captions.push(definition());
    else if (sentences.length > 0) captions.push(pick(sentences));
    else captions.push(withVowel(phrase()));
  }
  return captions;
}
