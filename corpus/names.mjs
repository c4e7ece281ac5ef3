/** Names of drawings as people would write them, and the concepts that several names are of. */

/** Words that say how something is drawn. They are taken off a name only where the set has the same name without them. */
const styleWords = new Set(
  (
    'outline outlined line linear fill filled solid bold thin light regular duotone twotone rounded round sharp flat color colour ' +
    'alt broken bulk fine stroke glyph o 10 12 14 16 20 24 28 32 48 64 10px 12px 16px 20px 24px 28px 32px 48px'
  ).split(' '),
);
/** Words before a number that belongs to what is shown. */
const counted = new Set(
  'number level battery numeric circle square dice step page counter hexagon octagon hours hour clock star bars signal box pentagon'.split(
    ' ',
  ),
);
/** Singular forms that the rules below would miss or spoil. */
const irregular = new Map(
  Object.entries({
    people: 'person',
    men: 'man',
    women: 'woman',
    children: 'child',
    mice: 'mouse',
    feet: 'foot',
    teeth: 'tooth',
    geese: 'goose',
    leaves: 'leaf',
    knives: 'knife',
    wolves: 'wolf',
    glasses: 'glasses',
    scissors: 'scissors',
    trousers: 'trousers',
    news: 'news',
    lens: 'lens',
    bus: 'bus',
    gas: 'gas',
    virus: 'virus',
    cactus: 'cactus',
    octopus: 'octopus',
    plus: 'plus',
    minus: 'minus',
    focus: 'focus',
    status: 'status',
    chess: 'chess',
  }),
);
/** Words of a name that say nothing about what it shows. */
const empty = new Set(['a', 'an', 'the', 'of', 'with', 'and', 'in', 'on', 'icon']);

/** A slug or title as words in lower case: "arrowDown_2-Left" gives "arrow down 2 left". */
export function plainName(slug) {
  return slug
    .normalize('NFKD')
    .replace(/\p{M}/gu, '')
    .replace(/([a-z])([A-Z])/g, '$1 $2')
    .toLowerCase()
    .replace(/[’']/g, '')
    .replace(/[^a-z0-9]+/g, ' ')
    .trim();
}

/** The same without a number at the end that only tells drawings of one name apart. */
export function withoutNumber(name) {
  const words = name.split(' ');
  while (words.length > 1 && /^\d{1,2}$/.test(words.at(-1)) && !counted.has(words.at(-2))) words.pop();
  return words.join(' ');
}

/** The singular of an English word, by rules that need no dictionary. */
export function singular(word) {
  const known = irregular.get(word);
  if (known) return known;
  if (word.length < 4 || !word.endsWith('s') || /(?:ss|us|is|ics)$/.test(word)) return word;
  if (word.endsWith('ies') && word.length > 4) return `${word.slice(0, -3)}y`;
  if (/(?:ches|shes|xes|sses|zes)$/.test(word)) return word.slice(0, -2);
  return word.slice(0, -1);
}

/**
 * The concept of a name: its words in alphabetical order, singular, without those that say nothing. "Arrows: left" and "left arrow" are one concept.
 *
 * @returns undefined for a name without a word
 */
export function conceptOf(name) {
  const words = plainName(name).split(' ').filter(Boolean);
  const said = words.filter((word) => !empty.has(word));
  const kept = (said.length > 0 ? said : words).map(singular);
  return kept.length === 0 ? undefined : [...new Set(kept)].sort().join(' ');
}

/**
 * Takes what says how an icon is drawn off the slugs of a set.
 *
 * @param slugs all icons of the set
 * @param suffixes endings that the set itself names, without the hyphen
 * @param prefixes the same for beginnings
 * @returns slug -> slug of what it shows
 */
export function withoutStyles(slugs, suffixes = [], prefixes = []) {
  const all = new Set(slugs);
  const endings = suffixes.filter(Boolean).sort((a, b) => b.length - a.length);
  const beginnings = prefixes.filter(Boolean).sort((a, b) => b.length - a.length);
  const bases = new Map();
  /** How many slugs would have each base: a base that is one slug's alone is no style. */
  const counts = new Map();
  for (const slug of all) {
    const base = endings.length + beginnings.length > 0 ? stripNamed(slug, endings, beginnings) : stripGeneric(slug);
    bases.set(slug, base);
    counts.set(base, (counts.get(base) ?? 0) + 1);
  }
  for (const [slug, base] of bases) if (base !== slug && counts.get(base) < 2 && !all.has(base)) bases.set(slug, slug);
  return bases;
}

function stripNamed(slug, endings, beginnings) {
  const ending = endings.find((each) => slug.endsWith(`-${each}`) && slug.length > each.length + 1);
  const rest = ending ? slug.slice(0, -ending.length - 1) : slug;
  const beginning = beginnings.find((each) => rest.startsWith(`${each}-`) && rest.length > each.length + 1);
  return beginning ? rest.slice(beginning.length + 1) : rest;
}

function stripGeneric(slug) {
  const words = slug.split('-');
  while (words.length > 1 && styleWords.has(words.at(-1))) words.pop();
  return words.join('-');
}
