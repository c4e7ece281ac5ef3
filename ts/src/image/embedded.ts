/** Pictures inside drawings: they count as the drawing's own pixels, however small they are shown. */
import sharp from 'sharp';
import { check } from '../runtime/errors.ts';
import { dataUrlBytes } from './data-url.ts';
import { formatOf } from './file-kind.ts';
import { maxPixels } from './limits.ts';
import { requireSize } from './pixels.ts';

/** Drawings within drawings that are looked into. */
const mostDepth = 4;

/**
 * Pixels of all pictures in the `data:` URLs of a drawing, and of the drawings among them. What is no picture counts nothing.
 *
 * @throws MomeError `MOME_TOO_LARGE` where they are more than a picture may have
 */
export async function embeddedPixels(name: string, drawing: Uint8Array, most = maxPixels, depth = 0): Promise<number> {
  const text = Buffer.from(drawing.buffer, drawing.byteOffset, drawing.byteLength).toString('latin1');
  requirePlainDeclarations(name, text);
  const seen = new Map<string, number>();
  let total = 0;
  for (const { 0: start, 1: quote, index } of text.matchAll(startOfUrl)) {
    const end = text.indexOf(quote === '(' ? ')' : quote!, index + start.length);
    const url = unescaped(text.slice(index + 1, end < 0 ? undefined : end)).trim();
    const pixels = seen.get(url) ?? (await pixelsOf(name, url, most, depth));
    seen.set(url, pixels);
    total += pixels;
    check(
      total <= most,
      'MOME_TOO_LARGE',
      `${name}: expected at most ${most} pixels, got a drawing with pictures of ${total} in it`,
    );
  }
  return total;
}

/**
 * Entities and default attributes that a drawing declares could hold pictures, or parts of their URLs, and be used many times. Drawing programs
 * declare short names of namespaces in this way, which are web addresses.
 *
 * @throws MomeError `MOME_INVALID_IMAGE` for any other entity, and for a default of `href`
 */
function requirePlainDeclarations(name: string, text: string): void {
  for (const { index } of text.matchAll(/<!ENTITY/g)) {
    namespaceEntity.lastIndex = index;
    check(
      namespaceEntity.test(text),
      'MOME_INVALID_IMAGE',
      `${name}: expected a drawing whose entities are web addresses, got another one in its document type; save it without`,
    );
  }
  check(
    !/<!ATTLIST[^<]*href/i.test(text),
    'MOME_INVALID_IMAGE',
    `${name}: expected a drawing whose document type gives no default to href, got one; save it without`,
  );
}

/** No character of the value can end an attribute or stand for another one. */
const namespaceEntity = /<!ENTITY\s+[\w.-]+\s+(["'])https?:\/\/[\w./:#~-]*\1\s*>/y;

async function pixelsOf(name: string, url: string, most: number, depth: number): Promise<number> {
  const bytes = await dataUrlBytes(name, url).catch(() => new Uint8Array(0));
  const format = formatOf(bytes);
  if (format === undefined || bytes.length === 0) return 0;
  if (format === 'SVG') {
    check(
      depth < mostDepth,
      'MOME_TOO_LARGE',
      `${name}: expected at most ${mostDepth} drawings within each other, got more`,
    );
    return embeddedPixels(name, bytes, most, depth + 1);
  }
  const header = await sharp(bytes, { limitInputPixels: false, pages: 1 })
    .metadata()
    .catch(() => undefined);
  if (!header) return 0;
  requireSize(`${name}, picture in it`, header.width, header.height, most);
  return header.width * header.height;
}

/** A character of a URL's scheme, also written as XML may: by its number. */
const written = (character: string): string => {
  const codes = [character, character.toUpperCase()].map((each) => each.charCodeAt(0));
  return `(?:${character}|&#(?:${codes.map((code) => `0*${code}|x0*${code.toString(16)}`).join('|')});)`;
};
const startOfUrl = new RegExp(
  `(["'(])(?:\\s|&#(?:9|10|13|32|x[9ad]|x20);)*${[...'data:'].map(written).join('')}`,
  'gi',
);

/** XML's way to write characters of an attribute. */
function unescaped(text: string): string {
  if (!text.includes('&')) return text;
  return text.replace(/&#(?:x([\da-f]{1,6})|(\d{1,7}));/gi, (all, hex?: string, decimal?: string) => {
    const code = hex === undefined ? Number(decimal) : Number.parseInt(hex, 16);
    return code <= 0x10ffff ? String.fromCodePoint(code) : all;
  });
}
