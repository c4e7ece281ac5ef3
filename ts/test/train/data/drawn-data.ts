/** Data sets without files for tests of what makes batches of them. */
import type { EmojiPairs } from '../../../src/train/data/emoji.ts';
import type { PairDataset } from '../../../src/train/data/pairs.ts';
import { createRandom } from '../../../src/train/random.ts';

const noise = (length: number, seed: number) => {
  const random = createRandom(seed);
  return Uint8Array.from({ length }, () => random.integer(256));
};

/** Turns a text into its character codes: no vocabulary is needed. */
export const tokenizer = {
  encode: (text: string) => Int32Array.from(text, (character) => character.codePointAt(0)!),
};

/** Twenty drawings of 12 pixels on a transparent background, with labels and tags. */
export const drawings = {
  length: 20,
  size: 12,
  channels: 4,
  image(index) {
    const pixels = noise(12 * 12 * 4, index);
    for (let at = 0; at < pixels.length; at += 4)
      for (let c = 0; c < 3; c++) pixels[at + c] = Math.min(pixels[at + c]!, pixels[at + 3]!);
    return pixels;
  },
  captions: (index) => [`thing ${index}`, 'tag'],
  group: (index) => index % 15,
  entry: (index) => ({ id: `${index}`, label: `thing ${index}`, tags: ['red', 'round', 'small'], group: 0, svg: '' }),
  style: () => 'twemoji',
  source: (index) => `drawing ${index}`,
} as const satisfies EmojiPairs;

/** Twenty pictures of 12 pixels with one to three captions. */
export const photographs: PairDataset = {
  length: 20,
  size: 12,
  channels: 3,
  image: async (index) => noise(12 * 12 * 3, 100 + index),
  captions: (index) => ['first', 'second', 'third'].slice(index % 3).map((word) => `${word} of ${index}`),
  group: (index) => index,
};
