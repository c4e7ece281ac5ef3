/** The one resizing of pictures: by the native kernel that matches the original preprocessing. */
import { native } from '../runtime/addon.ts';
import type { Fit } from './frames.ts';
import type { RgbImage } from './pixels.ts';

/**
 * Resizes the whole picture, bicubic and antialiased, to `size` x `size`, or with `fit` `inside` to its own proportions inside that square.
 * `data` must stay as it is until then.
 */
export async function resized(picture: RgbImage, size: number, fit: Fit = 'fill'): Promise<RgbImage> {
  const { data, width, height } = picture;
  const scale = size / Math.max(width, height);
  const side = (length: number) => (fit === 'fill' ? size : Math.max(1, Math.round(length * scale)));
  const [targetWidth, targetHeight] = [side(width), side(height)];
  if (width === targetWidth && height === targetHeight) return picture;
  const resizing = native((addon) => addon.resizeBicubic(data, width, height, targetWidth, targetHeight));
  return { data: await resizing, width: targetWidth, height: targetHeight };
}
