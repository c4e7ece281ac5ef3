/** Drawings that scenes are composed of: emoji of the installed packages, or those of the built corpus. */
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { RecordBatchReader } from 'apache-arrow';
import sharp from 'sharp';
import { loadEmojiPictures } from '../../dist/train.mjs';
import { thingOf } from './kinds.mjs';

/** Kinds of the corpus whose drawings have colours of their own. */
const coloured = new Set(['emoji', 'colour', 'clipart']);
/** Fewest visible pixels of a drawing, as a share of its square: thinner ones cannot be seen in a scene. */
const fewestVisible = 0.12;

/** @returns what `composeScene` takes, of emoji in some styles */
export async function emojiDrawings(styles, side = 72) {
  const found = [];
  for (const style of styles) {
    const { drawings, pixels } = await loadEmojiPictures({ style, size: side });
    const bytes = side * side * 4;
    for (const [at, { label }] of drawings.entries()) {
      const rgba = pixels.subarray(at * bytes, (at + 1) * bytes);
      add(found, { name: label, isEmoji: true, rgba, side, origin: `${style}:${label}` });
    }
  }
  return found;
}

/** The coloured training drawings of the corpus, read batch by batch. @param file `train/pairs.arrow` */
export async function trainingDrawings(file) {
  const found = [];
  const handle = await open(file);
  const reader = await RecordBatchReader.from(handle);
  await reader.open();
  for await (const batch of reader) {
    for (const row of batch) {
      if (!coloured.has(row.kind)) continue;
      const rgba = Uint8Array.from(row.pixels);
      const side = Math.round(Math.sqrt(rgba.length / 4));
      add(found, { name: row.name, isEmoji: row.kind === 'emoji', rgba, side, origin: row.origin });
    }
  }
  await reader.return();
  await handle.close().catch(() => {});
  return found;
}

/** The coloured drawings of folders of the corpus such as `test/noto`. */
export async function folderDrawings(folders) {
  const found = [];
  for (const folder of folders) {
    const lines = (await readFile(join(folder, 'captions.jsonl'), 'utf8')).trim().split('\n');
    for (const { image, caption, kind, origin } of lines.map((line) => JSON.parse(line))) {
      if (!coloured.has(kind) || thingOf(caption, kind === 'emoji') === undefined) continue;
      const { data, info } = await sharp(join(folder, image)).ensureAlpha().raw().toBuffer({ resolveWithObject: true });
      add(found, { name: caption, isEmoji: kind === 'emoji', rgba: premultiplied(data), side: info.width, origin });
    }
  }
  return found;
}

function add(found, { name, isEmoji, rgba, side, origin }) {
  const thing = thingOf(name, isEmoji);
  if (thing === undefined) return;
  let visible = 0;
  for (let at = 3; at < rgba.length; at += 4) if (rgba[at] >= 128) visible++;
  if (visible >= fewestVisible * side * side) found.push({ thing, rgba, side, origin });
}

function premultiplied(rgba) {
  const result = Uint8Array.from(rgba);
  for (let at = 0; at < result.length; at += 4)
    for (let channel = 0; channel < 3; channel++)
      result[at + channel] = Math.round((result[at + channel] * result[at + 3]) / 255);
  return result;
}
