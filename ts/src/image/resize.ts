/** The one resizing of pictures: by the native kernel that matches the original preprocessing. */
import { native } from '../runtime/addon.ts';
import type { RgbImage } from './pixels.ts';

/** Resizes the whole picture to `size` x `size`, bicubic and antialiased. `data` must stay as it is until then. */
export async function resized({ data, width, height }: RgbImage, size: number): Promise<Uint8Array> {
  if (width === size && height === size) return data;
  return native((addon) => addon.resizeBicubic(data, width, height, size, size));
}
