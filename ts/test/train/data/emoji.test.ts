import { mkdtemp, readdir, readFile, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { duplicateLabels, evaluationCaption } from '../../../src/train/data/captions.ts';
import {
  type EmojiStyle,
  emojiStyles,
  flattenOnWhite,
  loadEmoji,
  loadEmojiNames,
  loadEmojiPairs,
  loadEmojiPictures,
  rasterise,
  rasteriseRgba,
} from '../../../src/train/data/emoji.ts';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'mome-emoji-'));
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

const ink = (rgb: Uint8Array) => rgb.reduce((sum, value) => sum + 255 - value, 0);

describe('loadEmoji', () => {
  it('lists every emoji once, without skin tones and components', () => {
    const names = loadEmojiNames();
    expect(names.length).toBe(1914);
    expect(new Set(names.map((name) => name.id)).size).toBe(names.length);
    expect(names.some((name) => /skin tone|regional indicator/.test(name.label))).toBe(false);
    expect(duplicateLabels(names)).toEqual([]);
    expect(evaluationCaption(names[0]!)).toBe('grinning face');
  });

  it.each([
    ['twemoji', 1914],
    ['openmoji', 1914],
    ['fluent-emoji-flat', 1595],
    ['noto', 1653],
  ] as const)('covers %s', (style, count) => {
    const drawings = loadEmoji({ style });
    expect(drawings.length).toBe(count);
    for (const { svg } of drawings) expect(svg).toMatch(/^<svg .*<\/svg>$/s);
  });

  it('joins the drawing to its name, and follows mirrored aliases', async () => {
    for (const style of emojiStyles) {
      const byLabel = new Map(loadEmoji({ style }).map((drawing) => [drawing.label, drawing.svg]));
      const red = await rasteriseRgba(byLabel.get('red circle')!, 16);
      const middle = (8 * 16 + 8) * 4;
      expect(red[middle]! - red[middle + 1]!).toBeGreaterThan(80);
      const right = await rasterise(byLabel.get('backhand index pointing right')!, 32);
      const left = await rasterise(byLabel.get('backhand index pointing left')!, 32);
      let [straight, mirrored] = [0, 0];
      for (let at = 0; at < right.length; at++) {
        const pixel = Math.floor(at / 3);
        const other = ((pixel - (pixel % 32) + 31 - (pixel % 32)) * 3 + (at % 3)) | 0;
        straight += Math.abs(right[at]! - left[at]!);
        mirrored += Math.abs(right[at]! - left[other]!);
      }
      expect(mirrored).toBeLessThan(straight);
    }
  });

  it('refuses an unknown style', () => {
    expect(() => loadEmoji({ style: 'other' as EmojiStyle })).toThrow(
      expect.objectContaining({ code: 'MOME_INVALID_ARGUMENT' }),
    );
  });
});

describe('rasterise', () => {
  const square = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 4"><path fill="#f00" d="M0 0h2v4H0z"/></svg>';

  it('draws on white, and keeps transparency premultiplied', async () => {
    const rgb = await rasterise(square, 8);
    expect([...rgb.subarray(0, 3)]).toEqual([255, 0, 0]);
    expect([...rgb.subarray(7 * 3, 8 * 3)]).toEqual([255, 255, 255]);
    const half = await rasteriseRgba(square.replace('d=', 'fill-opacity="0.5" d='), 8);
    expect(half[0]).toBe(half[3]);
    expect(Math.abs(half[3]! - 128)).toBeLessThanOrEqual(1);
    expect(flattenOnWhite(half)[0]).toBe(255);
  });

  it('keeps proportions', async () => {
    const wide = square.replace('0 0 4 4', '0 0 4 2').replace('h2v4H0', 'h4v2H0');
    const rgba = await rasteriseRgba(wide, 8);
    expect(rgba[3]).toBe(0);
    expect(rgba[(4 * 8 + 4) * 4 + 3]).toBe(255);
  });

  it('gives coded errors', async () => {
    await expect(rasterise('not a drawing', 8)).rejects.toMatchObject({ code: 'MOME_INVALID_IMAGE' });
    await expect(rasterise(square, 0)).rejects.toMatchObject({ code: 'MOME_INVALID_ARGUMENT' });
  });
});

describe('loadEmojiPictures', () => {
  it('caches one file per style and size, and makes a damaged one again', async () => {
    const first = await loadEmojiPictures({ style: 'openmoji', size: 8, cacheDir: folder });
    const files = await readdir(folder);
    expect(files.length).toBe(1);
    const file = path.join(folder, files[0]!);
    const again = await loadEmojiPictures({ style: 'openmoji', size: 8, cacheDir: folder });
    expect(Buffer.compare(again.pixels, first.pixels)).toBe(0);
    await truncate(file, 1000);
    const repaired = await loadEmojiPictures({ style: 'openmoji', size: 8, cacheDir: folder });
    expect(Buffer.compare(repaired.pixels, first.pixels)).toBe(0);
    expect((await readFile(file)).length).toBe(first.pixels.length);
    expect(await readdir(folder)).toEqual(files);
    const blank = first.drawings.filter((_, at) => {
      return ink(flattenOnWhite(first.pixels.subarray(at * 256, (at + 1) * 256))) === 0;
    });
    expect(blank).toEqual([]);
  });

  it('stops when told to', async () => {
    const options = { style: 'twemoji', size: 8, signal: AbortSignal.abort() } as const;
    await expect(loadEmojiPictures(options)).rejects.toMatchObject({ code: 'MOME_ABORTED' });
  });

  it('groups the same emoji of several styles', async () => {
    const pairs = await loadEmojiPairs({ styles: ['openmoji', 'fluent-emoji-flat'], size: 8, cacheDir: folder });
    expect(pairs.length).toBe(1914 + 1595);
    const partner = (index: number) => {
      for (let at = 1914; at < pairs.length; at++) if (pairs.group(at) === pairs.group(index)) return at;
      return -1;
    };
    expect(pairs.entry(partner(40)).id).toBe(pairs.entry(40).id);
    expect(pairs.style(partner(40))).toBe('fluent-emoji-flat');
    expect(pairs.captions(0)[0]).toBe('grinning face');
    expect(pairs.image(3000).length).toBe(256);
    expect(() => pairs.image(99999)).toThrow(expect.objectContaining({ code: 'MOME_INVALID_ARGUMENT' }));
  });
});
