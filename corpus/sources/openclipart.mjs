/** Drawings of Debian's packages openclipart-svg (words) and openclipart-png (pixels). */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { groupBy } from '../files.mjs';
import { plainName } from '../names.mjs';

/** Themes of icons, shapes by the hundred, and what is no drawing of a thing. */
const bulk =
  /(?:-theme\/|\/shapes\/|\/games\/cards\/|\/logos\/|flags?[/_]|\/special\/|\/unsorted\/|\/led\/|\/diagrams\/)/;
const noWords =
  /^(?:unsorted|clip ?art|image|media|png|svg|public domain|externalsource|openclipart.*|hash.*|0x.*|\d+)$/;

/**
 * The title and keywords of a drawing's metadata.
 *
 * @returns undefined for another licence than the public domain, or without a title in words
 */
export function readMetadata(svg) {
  const metadata = /<metadata[\s\S]*?<\/metadata>/.exec(svg)?.[0] ?? '';
  const licence = /<(?:cc:)?license\s+rdf:resource="([^"]*)"/i.exec(metadata)?.[1] ?? '';
  if (!/PublicDomain/i.test(licence)) return undefined;
  const work = metadata.replace(/<(cc:)?Agent[\s\S]*?<\/(cc:)?Agent>/g, '');
  const text = (value) =>
    value
      .replace(/<[^>]*>/g, '')
      .replace(/&amp;/g, '&')
      .replace(/&[a-z#0-9]+;/g, ' ')
      .trim();
  const title = text(/<dc:title>([\s\S]*?)<\/dc:title>/.exec(work)?.[1] ?? '');
  const authors = [...metadata.matchAll(/<(?:cc:)?Agent[^>]*>\s*<dc:title>([\s\S]*?)<\/dc:title>/g)].map(([, name]) =>
    plainName(text(name)),
  );
  const keywords = [...work.matchAll(/<rdf:li>([\s\S]*?)<\/rdf:li>/g)].map(([, word]) => text(word));
  const words = keywords
    .filter((word) => !/HASH\(/.test(word))
    .map(plainName)
    .filter((word) => word.length > 1 && word.length < 40 && !noWords.test(word) && !authors.includes(word));
  const name = plainName(title)
    .replace(/ (?:\d{1,2}|architetto francesc.*|rev|r|bw|b and w)$/, '')
    .replace(/ \d{1,2}$/, '');
  if (!/[a-z]{3}/.test(name) || name.length > 60 || /HASH|0x/i.test(title)) return undefined;
  return { name, tags: [...new Set(words)].filter((word) => word !== name) };
}

/** A title that more drawings share says nothing about one of them. */
const mostOfTitle = 8;

/** @param debian folder with usr/share of the packages */
export function clipart(debian) {
  const root = join(debian, 'usr', 'share', 'openclipart');
  const files = readdirSync(join(root, 'svg'), { recursive: true }).filter((file) => file.endsWith('.svg'));
  const drawings = files.sort().flatMap((file) => {
    const picture = join(root, 'png', file.replace(/\.svg$/, '.png'));
    if (bulk.test(`/${file}`) || !existsSync(picture)) return [];
    const words = readMetadata(readFileSync(join(root, 'svg', file), 'utf8'));
    if (!words || words.tags.length === 0) return [];
    return [
      {
        set: 'openclipart',
        icon: file.replace(/\.svg$/, ''),
        kind: 'clipart',
        others: [],
        ...words,
        draw: { file: picture },
      },
    ];
  });
  const titles = groupBy(drawings, ({ name }) => name);
  return drawings.filter(({ name }) => titles.get(name).length <= mostOfTitle);
}
