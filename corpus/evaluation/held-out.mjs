/** Queries of the held-out sets, in the files that `mome eval` reads. */
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Words of a text as names and terms are compared: lower case, without a plural's s. */
export const wordsOf = (text) =>
  text
    .toLowerCase()
    .normalize('NFD')
    .replace(/\p{M}/gu, '')
    .split(/[^a-z0-9]+/)
    .filter((word) => word !== '')
    .map((word) => (word.length > 3 ? word.replace(/(?<!s)s$/, '') : word));

const plain = (text) => wordsOf(text).join(' ');

/** Texts with the pictures they are right for, in the order of the first of each. @param pairs of a text and a picture */
function grouped(pairs) {
  const byText = new Map();
  for (const [text, image] of pairs) {
    const key = plain(text);
    if (key === '') continue;
    const known = byText.get(key) ?? { query: text, right: new Set() };
    known.right.add(image);
    byText.set(key, known);
  }
  return [...byText.values()].map(({ query, right }) => ({ query, right: [...right] }));
}

/**
 * Search words that are not in the name of a drawing: none of a term's words is one of the name's.
 *
 * @param items `{ image, name, tags }`
 * @returns a query for each term, whose right results are the drawings that it is said of and that do not have it in their names
 */
export function termQueries(items) {
  return grouped(
    items.flatMap(({ image, name, tags }) => {
      const own = new Set(wordsOf(name));
      return tags.filter((term) => wordsOf(term).every((word) => !own.has(word))).map((term) => [term, image]);
    }),
  );
}

/** Captions, for each of which all drawings of the same concept are right. */
export function conceptQueries(items) {
  const imagesOf = new Map();
  for (const { concept, image } of items) imagesOf.set(concept, [...(imagesOf.get(concept) ?? []), image]);
  return grouped(items.flatMap(({ caption, concept }) => imagesOf.get(concept).map((image) => [caption, image])));
}

/** Captions, for each of which the drawings of that caption are right. */
export const captionQueries = (items) => grouped(items.map(({ caption, image }) => [caption, image]));

/** The first drawing of each caption: recall of labels both ways has one right answer then. */
export function oneOfEachCaption(items) {
  const seen = new Set();
  return items.filter(({ caption }) => !seen.has(plain(caption)) && seen.add(plain(caption)));
}

/** Right results with all pictures that look the same: sets have one drawing under several names. @param lookOf key of a picture's bytes */
export function withSameLooks(queries, lookOf) {
  const imagesOf = new Map();
  for (const [image, look] of lookOf) imagesOf.set(look, [...(imagesOf.get(look) ?? []), image]);
  return queries.map(({ query, right }) => ({
    query,
    right: [...new Set(right.flatMap((image) => imagesOf.get(lookOf.get(image)) ?? [image]))],
  }));
}

/** The lines of a set's `captions.jsonl`. */
export async function itemsOf(folder) {
  const text = await readFile(join(folder, 'captions.jsonl'), 'utf8');
  return text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => JSON.parse(line));
}

const builders = { terms: termQueries, concepts: conceptQueries, captions: captionQueries };

/**
 * Writes `queries.json` of a set beside its pictures.
 *
 * @param kind `terms`, `concepts` or `captions`
 * @returns the items of the set and the queries
 */
export async function writeQueries(folder, kind) {
  const items = await itemsOf(folder);
  const lookOf = new Map();
  for (const { image } of items)
    lookOf.set(
      image,
      createHash('sha256')
        .update(await readFile(join(folder, image)))
        .digest('hex'),
    );
  const queries = withSameLooks(builders[kind](items), lookOf);
  await writeFile(join(folder, 'queries.json'), `${JSON.stringify({ kind, queries })}\n`);
  return { items, queries };
}

/** Items of a set with one drawing for each label: those of `one-each.jsonl`, which is written where the corpus has none. */
export async function oneEachOf(folder) {
  const file = join(folder, 'one-each.jsonl');
  const known = await readFile(file, 'utf8').catch(() => undefined);
  if (known !== undefined)
    return known
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
  const items = oneOfEachCaption(await itemsOf(folder));
  await writeFile(file, `${items.map((item) => JSON.stringify(item)).join('\n')}\n`);
  return items;
}
