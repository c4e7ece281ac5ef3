/**
 * Emoji drawings of four artists with their Unicode names: a small image-text set that comes from npm packages alone.
 *
 * Names and tags are the English ones of CLDR (package emojibase-data). The list is the 1,914 emoji of Unicode 17 without
 * skin tone variants; the 26 regional indicator letters and the 9 skin and hair components, which stand for nothing by
 * themselves, are left out.
 */
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import pLimit from 'p-limit';
import { sharpLibrary } from '../../image/sharp.ts';
import { check, MomeError } from '../../runtime/errors.ts';
import { makeFolder, replaceFile } from '../../runtime/files.ts';
import type { PairDataset } from './pairs.ts';

/** The drawing styles. By convention the first three train and `noto` is held out for evaluation. */
export const emojiStyles = ['twemoji', 'openmoji', 'fluent-emoji-flat', 'noto'] as const;
export type EmojiStyle = (typeof emojiStyles)[number];

/** One emoji without its drawing. */
export interface EmojiName {
  /** Code points in upper-case hexadecimal, joined by `-`; the same in every style. */
  readonly id: string;
  /** CLDR short name, unique: "grinning cat with smiling eyes". */
  readonly label: string;
  /** CLDR keywords; may be empty. */
  readonly tags: readonly string[];
  /** Unicode group: 0 smileys, 1 people, 3 animals, 4 food, 5 travel, 6 activities, 7 objects, 8 symbols, 9 flags. */
  readonly group: number;
}

/** One emoji in one style. */
export interface EmojiDrawing extends EmojiName {
  /** A complete SVG document. */
  readonly svg: string;
}

/** The drawings of one style as pixels. */
export interface EmojiPictures {
  readonly style: EmojiStyle;
  readonly size: number;
  readonly drawings: readonly EmojiDrawing[];
  /** Premultiplied RGBA, [drawings, size, size, 4]. */
  readonly pixels: Uint8Array;
}

interface IconShape {
  readonly body?: unknown;
  readonly parent?: unknown;
  readonly left?: number;
  readonly top?: number;
  readonly width?: number;
  readonly height?: number;
  readonly rotate?: number;
  readonly hFlip?: boolean;
  readonly vFlip?: boolean;
}

interface IconSet extends IconShape {
  readonly icons: Readonly<Record<string, IconShape>>;
  readonly aliases?: Readonly<Record<string, IconShape>>;
}

const componentGroup = 2;
const longestAliasChain = 8;
const largestSize = 1024;
const picturesInFlight = 4;
/** Part of the cache key: raise it when the pixels made from the same SVG change. */
const cacheVersion = 'mome-emoji-pixels-1';

/**
 * The emoji list in Unicode order, without drawings.
 *
 * @returns 1,914 entries with unique labels.
 * @throws MomeError `MOME_NOT_FOUND` where emojibase-data is not installed.
 */
export function loadEmojiNames(): EmojiName[] {
  const entries = requirePackage('emojibase-data', 'en/data.json');
  check(Array.isArray(entries), 'MOME_INVALID_FILE', 'emojibase-data: expected a list of emoji, got another value');
  const names: EmojiName[] = [];
  for (const entry of entries as Partial<Record<string, unknown>>[]) {
    const { hexcode, label, tags, group } = entry;
    if (typeof group !== 'number' || group === componentGroup) continue;
    check(
      typeof hexcode === 'string' && typeof label === 'string',
      'MOME_INVALID_FILE',
      `emojibase-data: expected hexcode and label, got ${JSON.stringify(hexcode)} and ${JSON.stringify(label)}`,
    );
    names.push({ id: hexcode, label, tags: Array.isArray(tags) ? tags.map(String) : [], group });
  }
  return names;
}

/**
 * The emoji that one artist has drawn, in Unicode order. Of the 1,914: twemoji and openmoji have all, fluent-emoji-flat
 * 1,595 (no country flags, couples or families), noto 1,653 (no country flags but one).
 *
 * @throws MomeError `MOME_NOT_FOUND` where a package is not installed, with the command that installs it.
 * @example
 * const cats = loadEmoji({ style: 'noto' }).filter((emoji) => emoji.label.includes('cat'));
 */
export function loadEmoji(options: { readonly style: EmojiStyle }): EmojiDrawing[] {
  const { style } = options;
  check(
    emojiStyles.includes(style),
    'MOME_INVALID_ARGUMENT',
    `loadEmoji: expected a style of ${emojiStyles.join(', ')}, got ${JSON.stringify(style)}`,
  );
  const names = loadEmojiNames();
  const icons = requirePackage(`@iconify-json/${style}`, 'icons.json') as IconSet;
  const characters = requirePackage(`@iconify-json/${style}`, 'chars.json') as Record<string, string>;
  const iconByCode = new Map<string, string>();
  for (const [code, icon] of Object.entries(characters)) iconByCode.set(withoutVariation(code), icon);

  const drawings: EmojiDrawing[] = [];
  for (const name of names) {
    // Drawings that a package makes by mirroring another one are listed by name only.
    const svg =
      iconSvg(icons, iconByCode.get(withoutVariation(name.id))) ?? iconSvg(icons, iconNameOfLabel(name.label));
    if (svg !== undefined) drawings.push({ ...name, svg });
  }
  return drawings;
}

/**
 * Draws an SVG document on white.
 *
 * @param size side of the square in pixels, 1 to 1024; the drawing keeps its proportions and stands in the middle.
 * @returns RGB, [size, size, 3].
 * @throws MomeError `MOME_INVALID_IMAGE` for a file that is no SVG document, `MOME_INVALID_ARGUMENT` for a bad size.
 */
export async function rasterise(svg: string, size: number): Promise<Uint8Array> {
  return flattenOnWhite(await rasteriseRgba(svg, size));
}

/** Like {@link rasterise}, with a transparent background: premultiplied RGBA, [size, size, 4]. */
export async function rasteriseRgba(svg: string, size: number): Promise<Uint8Array> {
  checkSize('rasterise', size);
  try {
    // The loader scales the vectors themselves to the size asked for, so there is no density to choose.
    const data = await sharpLibrary()(Buffer.from(svg), { limitInputPixels: 1 << 26 })
      .resize(size, size, { fit: 'contain', background: { r: 0, g: 0, b: 0, alpha: 0 } })
      .toColourspace('srgb')
      .ensureAlpha()
      .raw()
      .toBuffer();
    return premultiply(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  } catch (error) {
    throw new MomeError('MOME_INVALID_IMAGE', `rasterise: expected an SVG document, got ${svg.slice(0, 60)}`, {
      cause: error,
    });
  }
}

/** Lays premultiplied RGBA pixels on white: [..., 4] to [..., 3]. */
export function flattenOnWhite(rgba: Uint8Array): Uint8Array {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    const white = 255 - rgba[from + 3]!;
    rgb[to] = rgba[from]! + white;
    rgb[to + 1] = rgba[from + 1]! + white;
    rgb[to + 2] = rgba[from + 2]! + white;
  }
  return rgb;
}

/**
 * All drawings of a style as pixels, from the cache where it has them. A cache file holds one (style, size) and is named by a
 * hash of the drawings, so a package update makes a new one.
 *
 * @param options.size side in pixels, 1 to 1024. Training draws from a larger size than it shows: 96 for 64.
 * @param options.cacheDir folder, made if missing; nothing is cached without it.
 * @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_ARGUMENT`, `MOME_ABORTED`; `MOME_IO` where the cache cannot be written.
 */
export async function loadEmojiPictures(options: {
  readonly style: EmojiStyle;
  readonly size: number;
  readonly cacheDir?: string;
  readonly signal?: AbortSignal;
}): Promise<EmojiPictures> {
  const { style, size, cacheDir, signal } = options;
  checkSize('loadEmojiPictures', size);
  const drawings = loadEmoji({ style });
  const pictureBytes = size * size * 4;
  const file = cacheDir === undefined ? undefined : path.join(cacheDir, cacheName(style, size, drawings));
  if (file !== undefined) {
    const cached = await readFile(file).catch(() => undefined);
    if (cached?.length === drawings.length * pictureBytes) {
      return { style, size, drawings, pixels: new Uint8Array(cached.buffer, cached.byteOffset, cached.byteLength) };
    }
  }
  const pixels = new Uint8Array(drawings.length * pictureBytes);
  const limit = pLimit(picturesInFlight);
  await Promise.all(
    drawings.map((drawing, index) =>
      limit(async () => {
        check(!signal?.aborted, 'MOME_ABORTED', 'loadEmojiPictures: aborted');
        pixels.set(await rasteriseRgba(drawing.svg, size), index * pictureBytes);
      }),
    ),
  );
  if (file !== undefined) await writeWhole(file, pixels);
  return { style, size, drawings, pixels };
}

/**
 * The drawings of several styles as one image-text set: RGBA pictures, the label as first caption and the tags behind it, and
 * one group per emoji, so that the same emoji of two artists are positives of each other.
 */
export interface EmojiPairs extends PairDataset {
  readonly channels: 4;
  image(index: number): Uint8Array;
  /** Argument of {@link sampleCaption}. */
  entry(index: number): EmojiDrawing;
  style(index: number): EmojiStyle;
}

/** @param options.styles at least one; items stand style by style, each in Unicode order. See {@link loadEmojiPictures}. */
export async function loadEmojiPairs(options: {
  readonly styles: readonly EmojiStyle[];
  readonly size: number;
  readonly cacheDir?: string;
  readonly signal?: AbortSignal;
}): Promise<EmojiPairs> {
  const { styles, ...rest } = options;
  check(
    styles.length > 0 && new Set(styles).size === styles.length,
    'MOME_INVALID_ARGUMENT',
    `loadEmojiPairs: expected different styles, at least one, got [${styles.join(', ')}]`,
  );
  const items: { readonly drawing: EmojiDrawing; readonly style: EmojiStyle; readonly pixels: Uint8Array }[] = [];
  const sets = await Promise.all(styles.map((style) => loadEmojiPictures({ style, ...rest })));
  for (const { style, drawings, pixels, size } of sets) {
    const bytes = size * size * 4;
    drawings.forEach((drawing, at) => {
      items.push({ drawing, style, pixels: pixels.subarray(at * bytes, (at + 1) * bytes) });
    });
  }
  const groupById = new Map(loadEmojiNames().map((name, group) => [name.id, group]));
  const item = (index: number) => {
    const found = items[index];
    check(found, 'MOME_INVALID_ARGUMENT', `emoji pairs: expected an index below ${items.length}, got ${index}`);
    return found;
  };
  return {
    length: items.length,
    size: options.size,
    channels: 4,
    image: (index) => item(index).pixels,
    captions: (index) => [item(index).drawing.label, ...item(index).drawing.tags],
    group: (index) => groupById.get(item(index).drawing.id)!,
    entry: (index) => item(index).drawing,
    style: (index) => item(index).style,
    source: (index) => `${item(index).style}/${item(index).drawing.id}`,
  };
}

function checkSize(where: string, size: number): void {
  check(
    Number.isInteger(size) && size >= 1 && size <= largestSize,
    'MOME_INVALID_ARGUMENT',
    `${where}: expected a size in [1, ${largestSize}], got ${size}`,
  );
}

/** Reads a file of an installed package, looked for beside this library first and then beside the program that runs. */
function requirePackage(name: string, file: string): unknown {
  const causes: unknown[] = [];
  for (const from of [import.meta.url, path.join(process.cwd(), 'package.json')]) {
    try {
      return createRequire(from)(`${name}/${file}`);
    } catch (error) {
      causes.push(error);
    }
  }
  throw new MomeError('MOME_NOT_FOUND', `emoji: expected the package ${name}, got none; run: npm install ${name}`, {
    cause: causes[0],
  });
}

/** Emoji with and without the variation selector U+FE0F are the same picture. */
function withoutVariation(code: string): string {
  return code
    .toLowerCase()
    .split('-')
    .filter((point) => point !== 'fe0f')
    .join('-');
}

function iconNameOfLabel(label: string): string {
  return label
    .toLowerCase()
    .normalize('NFD')
    .replace(/\p{M}|[’'“”.,()!*:]/gu, '')
    .replace(/[^a-z0-9]+/g, '-');
}

/** Follows aliases to the icon and writes the document, or undefined where the set has no such icon. */
function iconSvg(set: IconSet, name: string | undefined): string | undefined {
  let icon = name;
  let rotate = 0;
  let hFlip = false;
  let vFlip = false;
  for (let depth = 0; icon !== undefined && depth < longestAliasChain; depth++) {
    const shape = ownValue(set.icons, icon) ?? (set.aliases && ownValue(set.aliases, icon));
    if (shape === undefined) return undefined;
    rotate += shape.rotate ?? 0;
    hFlip = hFlip !== (shape.hFlip ?? false);
    vFlip = vFlip !== (shape.vFlip ?? false);
    if (typeof shape.body === 'string') {
      const left = shape.left ?? set.left ?? 0;
      const top = shape.top ?? set.top ?? 0;
      const width = shape.width ?? set.width ?? 16;
      const height = shape.height ?? set.height ?? 16;
      const middle = `${left + width / 2} ${top + height / 2}`;
      const turned = rotate % 4 !== 0 || hFlip || vFlip;
      const body = turned
        ? `<g transform="translate(${middle}) rotate(${(rotate % 4) * 90}) scale(${hFlip ? -1 : 1} ${vFlip ? -1 : 1}) ` +
          `translate(${-(left + width / 2)} ${-(top + height / 2)})">${shape.body}</g>`
        : shape.body;
      return (
        `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="${width}" ` +
        `height="${height}" viewBox="${left} ${top} ${width} ${height}">${body}</svg>`
      );
    }
    icon = typeof shape.parent === 'string' ? shape.parent : undefined;
  }
  return undefined;
}

function ownValue<T>(record: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(record, key) ? record[key] : undefined;
}

function premultiply(rgba: Uint8Array): Uint8Array {
  for (let at = 0; at < rgba.length; at += 4) {
    const alpha = rgba[at + 3]!;
    if (alpha === 255) continue;
    for (let channel = at; channel < at + 3; channel++) rgba[channel] = Math.round((rgba[channel]! * alpha) / 255);
  }
  return rgba;
}

function cacheName(style: EmojiStyle, size: number, drawings: readonly EmojiDrawing[]): string {
  const hash = createHash('sha256').update(cacheVersion).update(sharpLibrary().versions.vips);
  for (const drawing of drawings) hash.update(drawing.id).update(drawing.svg);
  return `emoji-${style}-${size}-${hash.digest('hex').slice(0, 16)}.rgba`;
}

/** Makes the folder of the cache and writes the file as a whole. */
async function writeWhole(file: string, bytes: Uint8Array): Promise<void> {
  await makeFolder(path.dirname(file));
  await replaceFile(file, (temporary) => writeFile(temporary, bytes));
}
