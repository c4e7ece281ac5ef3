/** Small copies of pictures for pages. */
import { type PrepareOptions, prepareThumbnail } from '../image/prepare.ts';
import { sharpLibrary } from '../image/sharp.ts';
import type { ImageInput } from '../inference/index.ts';

/**
 * A picture as WebP, upright and in its own proportions, at most `side` pixels wide and high. The file is decoded as those of requests
 * are: in a process of its own, within limits.
 *
 * @throws MomeError as `prepareThumbnail`
 */
export async function thumbnailOf(image: ImageInput, side: number, options: PrepareOptions = {}): Promise<Buffer> {
  const { data, width, height } = await prepareThumbnail(image, side, options);
  return sharpLibrary()(data, { raw: { width, height, channels: 3 } })
    .webp({ quality: 80 })
    .toBuffer();
}
