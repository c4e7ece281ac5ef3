/**
 * Draws emoji, raw and augmented, on one PNG to look at.
 *
 *   node scripts/emoji/contact-sheet.mjs [--out sheet.png] [--filter word] [--count 12] [--augmented 4] [--size 64]
 *     [--strength 1] [--seed 1] [--cache .cache/emoji]
 *
 * One row per emoji: for each style the plain picture, then `--augmented` augmented ones. `--strength` scales every effect of
 * the training defaults. Also prints how many emoji each style covers.
 */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import sharp from 'sharp';
import {
  augmentDefaults,
  createAugmenter,
  createRandom,
  emojiStyles,
  loadEmojiNames,
  loadEmojiPictures,
} from '../../dist/train.mjs';

const { values } = parseArgs({
  options: {
    out: { type: 'string', default: 'contact-sheet.png' },
    filter: { type: 'string', default: '' },
    count: { type: 'string', default: '12' },
    augmented: { type: 'string', default: '4' },
    size: { type: 'string', default: '64' },
    strength: { type: 'string', default: '1' },
    seed: { type: 'string', default: '1' },
    cache: { type: 'string', default: path.join('.cache', 'emoji') },
  },
});
const size = Number(values.size);
const augmented = Number(values.augmented);
const sourceSize = Math.ceil(size * 1.5);
const options = Object.fromEntries(
  Object.entries(augmentDefaults).map(([name, strength]) => [
    name,
    name === 'rotation' ? strength * Number(values.strength) : Math.min(1, strength * Number(values.strength)),
  ]),
);

const sets = [];
for (const style of emojiStyles) {
  const start = performance.now();
  const set = await loadEmojiPictures({ style, size: sourceSize, cacheDir: values.cache });
  const seconds = ((performance.now() - start) / 1000).toFixed(2);
  console.log(`${style}: ${set.drawings.length} drawings at ${sourceSize} px in ${seconds} s`);
  sets.push({ ...set, indexById: new Map(set.drawings.map((drawing, index) => [drawing.id, index])) });
}
const names = loadEmojiNames();
console.log(`${names.length} emoji in all`);

const matching = names.filter((name) => name.label.includes(values.filter));
const rows = createRandom(Number(values.seed)).shuffle(matching).slice(0, Number(values.count));
const columns = emojiStyles.length * (1 + augmented);
const gap = 2;
const cell = size + gap;
const plain = createAugmenter({ sourceSize, size, channels: 4 });
const augmenter = createAugmenter({ sourceSize, size, channels: 4, options });
const tiles = [];
rows.forEach((name, row) => {
  console.log(`row ${row + 1}: ${name.label} (${name.tags.join(', ')})`);
  sets.forEach((set, styleAt) => {
    const index = set.indexById.get(name.id);
    if (index === undefined) return;
    const source = set.pixels.subarray(index * sourceSize ** 2 * 4, (index + 1) * sourceSize ** 2 * 4);
    for (let copy = 0; copy <= augmented; copy++) {
      const tile = Buffer.alloc(size * size * 3);
      const random = createRandom(Number(values.seed), row, styleAt, copy);
      (copy === 0 ? plain : augmenter).apply(source, random, tile);
      tiles.push({
        input: tile,
        raw: { width: size, height: size, channels: 3 },
        left: (styleAt * (1 + augmented) + copy) * cell,
        top: row * cell,
      });
    }
  });
});
await mkdir(path.dirname(path.resolve(values.out)), { recursive: true });
await sharp({ create: { width: columns * cell, height: rows.length * cell, channels: 3, background: '#c0c8d8' } })
  .composite(tiles)
  .png()
  .toFile(values.out);
console.log(`written: ${values.out}`);
