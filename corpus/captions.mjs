/** What is said about a drawing: its name, search words, phrases as people ask, and what a dictionary says. */

const templates = [
  ['a drawing of ', ''],
  ['a picture of ', ''],
  ['an icon of ', ''],
  ['an illustration of ', ''],
  ['a symbol for ', ''],
  ['a small picture of ', ''],
  ['i am looking for ', ''],
  ['show me ', ''],
  ['', ' icon'],
  ['', ' symbol'],
];
const ofKind = {
  emoji: [
    ['', ' emoji'],
    ['emoji: ', ''],
  ],
  clipart: [
    ['clip art of ', ''],
    ['a sticker of ', ''],
  ],
  furniture: [['a photo of ', '']],
};
/** Phrases around a search word, as somebody asks who does not know the name. */
const asked = [
  ['something for ', ''],
  ['something about ', ''],
  ['something to do with ', ''],
  ['something with ', ''],
  ['a picture about ', ''],
  ['the idea of ', ''],
  ['', ''],
  ['', ''],
];
/** Captions of a drawing that has search words. */
const withTags = 16;
const withoutTags = 6;

/**
 * Captions, some more than once: one is drawn by chance each time that the drawing is seen.
 *
 * @param drawing `{ name, others, tags, kind }`, tags being those of its concept too
 * @param meaning `{ gloss, synonyms, kinds }` where its name has one meaning
 * @param random gives numbers in [0, 1)
 */
export function captionsOf({ name, others, tags, kind }, meaning, random) {
  const pick = (list) => list[Math.floor(random() * list.length)];
  const named = [name, ...others, ...(meaning?.synonyms ?? [])];
  const anyName = () => (random() < 0.65 ? name : pick(named));
  const forms = [...templates, ...(ofKind[kind] ?? []), ...(ofKind[kind] ?? [])];
  const wrap = ([before, after], text) => `${before}${text}${after}`;
  const words = [...new Set([...tags, ...(meaning?.synonyms ?? []), ...(meaning?.kinds ?? [])])].filter(
    (word) => word !== name,
  );
  const some = (fewest, most) => {
    const rest = [...words];
    const count = Math.min(rest.length, fewest + Math.floor(random() * (most - fewest + 1)));
    return Array.from({ length: count }, () => rest.splice(Math.floor(random() * rest.length), 1)[0]);
  };
  const captions = [];
  if (meaning?.gloss) captions.push(meaning.gloss, meaning.gloss, `${anyName()}: ${meaning.gloss}`);
  if (meaning?.kinds[0]) captions.push(`${pick(meaning.kinds)}, ${anyName()}`);
  if (words.length === 0) {
    while (captions.length < withoutTags) captions.push(random() < 0.5 ? anyName() : wrap(pick(forms), anyName()));
    return captions;
  }
  while (captions.length < withTags) {
    const drawn = random();
    if (drawn < 0.28) captions.push(anyName());
    else if (drawn < 0.42) captions.push(wrap(pick(forms), anyName()));
    else if (drawn < 0.58) captions.push([anyName(), ...some(1, 4)].join(', '));
    else if (drawn < 0.74) captions.push(wrap(pick(asked), pick(words)));
    else if (drawn < 0.86) captions.push(some(2, 4).join(random() < 0.5 ? ', ' : ' '));
    else if (drawn < 0.93) captions.push(wrap(pick(asked), some(2, 2).join(' and ')));
    else captions.push(`${anyName()} ${pick(['for', 'and', 'with', 'as', 'or'])} ${pick(words)}`);
  }
  return captions;
}

/** Numbers in [0, 1) from a seed (mulberry32). */
export function randomOf(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
