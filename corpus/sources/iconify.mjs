/** Icons of `@iconify/json`. */
import { join } from 'node:path';
import { readJson } from '../files.mjs';
import { plainName, withoutNumber, withoutStyles } from '../names.mjs';

const longestAliasChain = 8;

/** All sets with what is known about them: prefix -> `{ name, author, license, category, palette, ... }`. */
export const readCollections = (packages) => readJson(join(packages, '@iconify', 'json', 'collections.json'));

/**
 * The icons of a set, each with the slug of what it shows and other slugs for it.
 *
 * @returns `{ icon, base, others, svg() }` for each icon; aliases that turn or mirror another icon are left out
 */
export function readIcons(packages, set) {
  const file = readJson(join(packages, '@iconify', 'json', 'json', `${set}.json`));
  const aliases = Object.entries(file.aliases ?? {}).filter(
    ([, { rotate, hFlip, vFlip }]) => !rotate && !hFlip && !vFlip,
  );
  const slugs = Object.keys(file.icons).filter((icon) => !file.icons[icon].hidden);
  const bases = withoutStyles(
    [...slugs, ...aliases.map(([slug]) => slug)],
    Object.keys(file.suffixes ?? {}),
    Object.keys(file.prefixes ?? {}),
  );
  const others = new Map();
  for (const [slug] of aliases) {
    const icon = rootOf(file.aliases, slug);
    others.set(icon, [...(others.get(icon) ?? []), bases.get(slug)]);
  }
  const codes = new Map(Object.entries(file.chars ?? {}).map(([code, slug]) => [slug, code]));
  return slugs.map((icon) => ({
    icon,
    base: bases.get(icon),
    others: others.get(icon) ?? [],
    code: codes.get(icon),
    svg: () => svgOf(file, file.icons[icon]),
  }));
}

function rootOf(aliases, slug) {
  let at = slug;
  for (let link = 0; link < longestAliasChain && aliases[at]; link++) at = aliases[at].parent;
  return at;
}

/** An SVG document in black. */
export function svgOf(defaults, icon) {
  const size = (key, unless) => icon[key] ?? defaults[key] ?? unless;
  const box = [size('left', 0), size('top', 0), size('width', 16), size('height', 16)].join(' ');
  return `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="${box}" color="#000">${icon.body}</svg>`;
}

/** Icons of a set as drawings named by their slugs. */
export function iconDrawings(packages, set, kind) {
  return readIcons(packages, set).map(({ icon, base, others, svg }) => ({
    set,
    icon,
    kind,
    name: withoutNumber(plainName(base)),
    others: others.map((slug) => withoutNumber(plainName(slug))),
    tags: [],
    draw: { svg },
  }));
}
