/** A picture of a data set, of any kind, as the bytes that a model sees. */
import { prepareTraining } from '../../image/prepare.ts';
import type { Dataset, Picture } from './dataset.ts';
import { flattenOnWhite } from './emoji.ts';

/**
 * @param kept what pictures that are pixels already have
 * @returns [size, size, 3]
 * @throws MomeError as `prepareImage`
 */
export async function pictureBytes(
  picture: Picture,
  kept: Dataset['pixels'],
  size: number,
  options: Parameters<typeof prepareTraining>[2] = {},
): Promise<Uint8Array> {
  if ('file' in picture) return prepareTraining(picture.file, size, options);
  if ('encoded' in picture) return prepareTraining(picture.encoded, size, options);
  const { size: side, channels } = kept!;
  const data = channels === 4 ? flattenOnWhite(picture.pixels) : picture.pixels;
  if (side === size && !options.transform) return data;
  return prepareTraining({ data, width: side, height: side, channels: 3 }, size, options);
}
