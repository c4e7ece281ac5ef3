/** Search words that the makers of icon sets wrote, by concept. Those of Font Awesome and healthicons are held out and are not read. */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { readJson } from '../files.mjs';
import { conceptOf, plainName } from '../names.mjs';

/** Words of these sets that are no search words. */
const noTags = /^(?:new|updated|icon|icons|watson.*|ibm.*|brand|logo|arrows|.*\bwatson\b.*)$/;

/** Package -> how its names and words are read: a list of [slug, words]. */
const readers = {
  '@tabler/icons': (at) =>
    Object.values(readJson(at('icons.json'))).map(({ name, tags, category }) => [
      name,
      [...tags.map(String), category],
    ]),
  'lucide-static': (at) => Object.entries(readJson(at('tags.json'))),
  '@carbon/icons': (at) =>
    readJson(at('metadata.json')).icons.map(({ name, friendlyName, aliases = [] }) => [
      name,
      [friendlyName, ...aliases],
    ]),
  '@carbon/pictograms': (at) =>
    readJson(at('metadata.json')).icons.map(({ name, friendlyName, aliases = [] }) => [
      name,
      [friendlyName, ...aliases],
    ]),
  '@phosphor-icons/core': async (at) =>
    (await import(pathToFileURL(at('dist/index.mjs')).href)).icons.map(({ name, tags }) => [
      name,
      tags.filter((tag) => !tag.startsWith('*')),
    ]),
  '@primer/octicons': (at) =>
    Object.values(readJson(at('build/data.json'))).map(({ name, keywords }) => [name, keywords]),
  '@mdi/svg': (at) =>
    readJson(at('meta.json')).map(({ name, aliases, tags }) => [
      name,
      [...aliases, ...tags.flatMap((tag) => tag.split(' / '))],
    ]),
};
export const tagPackages = Object.keys(readers);

/** Concept -> search words. */
export async function readTags(packages) {
  const tags = new Map();
  for (const [name, read] of Object.entries(readers)) {
    const entries = await read((file) => join(packages, name, ...file.split('/')));
    for (const [slug, words] of entries) addTags(tags, slug, words);
  }
  return tags;
}

/** Adds the words of a name to those of its concept. */
export function addTags(tags, name, words) {
  const concept = conceptOf(name);
  if (concept === undefined) return;
  const own = tags.get(concept) ?? new Set();
  for (const word of words.map(plainName))
    if (word.length > 1 && word.length < 40 && !noTags.test(word) && conceptOf(word) !== concept) own.add(word);
  if (own.size > 0) tags.set(concept, own);
}
