/** Emoji of all sets, with the names and keywords of CLDR and emojilib. Variants of skin tone are recolourings and are left out. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { readJson } from '../files.mjs';
import { plainName } from '../names.mjs';
import { readIcons } from './iconify.mjs';

/** The sets in colour, then those in black. */
export const emojiSets = {
  colour: ['twemoji', 'emojione', 'streamline-emojis', 'fluent-emoji-flat', 'fluent-emoji', 'fxemoji', 'noto'],
  mono: ['emojione-monotone', 'fluent-emoji-high-contrast'],
};
/** Skin and hair by themselves. */
const componentGroup = 2;

const glued = (text) => plainName(text).replace(/ /g, '');
const withoutVariation = (code) => code.toUpperCase().replace(/-FE0F/g, '');

/**
 * Emoji without variants: `{ id, label, tags }` by their code points and by their names without spaces.
 *
 * @param packages folder of npm packages
 */
export function readEmojiNames(packages) {
  const library = readJson(join(packages, 'emojilib', 'dist', 'emoji-en-US.json'));
  const cldr = readJson(join(packages, 'cldr-annotations-full', 'annotations', 'en', 'annotations.json')).annotations
    .annotations;
  const byCode = new Map();
  const byName = new Map();
  for (const entry of readJson(join(packages, 'emojibase-data', 'en', 'data.json'))) {
    const { hexcode, label, tags = [], group, emoji } = entry;
    if (group === undefined || group === componentGroup) continue;
    const bare = emoji.replace(/\uFE0F/g, '');
    const words = [
      ...tags,
      ...(cldr[emoji]?.default ?? cldr[bare]?.default ?? []),
      ...(library[emoji] ?? library[bare] ?? []),
    ];
    const name = plainName(label);
    const own = [...new Set(words.map(plainName))].filter((word) => word.length > 1 && word !== name);
    const known = { id: hexcode, label: label.toLowerCase().replace(/[“”]/g, ''), tags: own };
    byCode.set(withoutVariation(hexcode), known);
    for (const each of [label, ...(library[emoji] ?? []).slice(0, 1)])
      if (!byName.has(glued(each))) byName.set(glued(each), known);
  }
  return { byCode, byName };
}

/** The drawings of a set of `@iconify/json`; those whose name is no emoji's keep their own. */
export function emojiDrawings(packages, set, { byCode, byName }) {
  const kind = emojiSets.mono.includes(set) ? 'mono' : 'emoji';
  const drawings = [];
  for (const { icon, base, code, svg } of readIcons(packages, set)) {
    const known = (code && byCode.get(withoutVariation(code))) ?? byName.get(glued(base)) ?? byName.get(glued(icon));
    const plain = plainName(icon).replace(/ \d$/, '');
    const own = set === 'streamline-emojis' ? { label: plain, tags: [] } : undefined;
    const found = known ?? byName.get(glued(plain)) ?? own;
    if (!found) continue;
    drawings.push(drawingOf(set, icon, kind, found, { svg }));
  }
  return drawings;
}

/** The shaded emoji of `@lobehub/fluent-emoji-3d`. */
export function shadedEmoji(packages, { byCode }) {
  const folder = join(packages, '@lobehub', 'fluent-emoji-3d', 'assets');
  return readdirSync(folder).flatMap((file) => {
    const known = byCode.get(withoutVariation(file.replace(/\.webp$/, '')));
    return known
      ? [drawingOf('fluent-emoji-3d', file.replace(/\.webp$/, ''), 'emoji', known, { file: join(folder, file) })]
      : [];
  });
}

function drawingOf(set, icon, kind, { label, tags }, draw) {
  const name = label.startsWith('flag: ') ? `flag of ${label.slice(6)}` : label.replace(/[:,] /g, ' ');
  return { set, icon, kind, name, others: [], tags, draw };
}
