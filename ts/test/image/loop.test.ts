import sharp from 'sharp';
import { describe, it } from 'vitest';
import type { ImageInput } from '../../src/image/input.ts';
import { PictureSet } from '../../src/inference/pictures.ts';
import { expectShortTurns } from '../loop-gap.ts';

describe('the event loop stays free', () => {
  it.each<[string, () => Promise<ImageInput>]>([
    ['the bytes of a large file', async () => noisy()],
    ['a large data: URL', async () => `data:image/jpeg;base64,${(await noisy()).toString('base64')}`],
    ['a large Blob', async () => new Blob([await noisy()])],
    ['floats', async () => ({ data: new Float32Array(3 * 4000 * 4000).fill(0.5), width: 4000, height: 4000 })],
    ['pixels with alpha', async () => ({ data: new Uint8Array(4 * 4000 * 4000).fill(9), width: 4000, height: 4000 })],
  ])('for %s', async (_, make) => {
    const input = await make();
    await PictureSet.prepare([new Blob([await small()])], 48);
    await expectShortTurns(() => PictureSet.prepare([input], 48));
  });
});

/** A JPEG of about 20 MiB. */
const noisy = () =>
  sharp({
    create: {
      width: 4000,
      height: 4000,
      channels: 3,
      background: '#888',
      noise: { type: 'gaussian', mean: 128, sigma: 60 },
    },
  })
    .jpeg({ quality: 97 })
    .toBuffer();
const small = () =>
  sharp({ create: { width: 8, height: 8, channels: 3, background: '#888' } })
    .png()
    .toBuffer();
