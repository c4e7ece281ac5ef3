/**
 * Pictures of any kind to the square of RGB bytes that a model sees.
 */
import { requireNotAborted } from '../runtime/errors.ts';
import { decoders } from './decoder-pool.ts';
import type { Fit } from './frames.ts';
import { type ImageInput, type PictureSource, takePictures } from './input.ts';
import { type RgbImage, rgbOf } from './pixels.ts';
import { resized } from './resize.ts';

export interface PrepareOptions {
  readonly signal?: AbortSignal | undefined;
  /** The call the picture belongs to: decoders are shared out evenly between calls. */
  readonly call?: object | undefined;
}

/**
 * Decodes a picture and resizes the whole of it to `size` x `size`, bicubic and antialiased, as the original does. Files are decoded in
 * processes of their own, within the limits of `limits.ts`; pixels are resized here, off the event loop.
 *
 * @returns bytes [size, size, 3]
 * @throws MomeError `MOME_NOT_FOUND`, `MOME_IO`, `MOME_INVALID_IMAGE`, `MOME_TOO_LARGE`, `MOME_NON_FINITE`, `MOME_INVALID_ARGUMENT`,
 *   `MOME_ABORTED`
 */
export async function prepareImage(
  input: ImageInput | PictureSource,
  size: number,
  options: PrepareOptions = {},
): Promise<Uint8Array> {
  return (await fitted(input, size, 'fill', options)).data;
}

/**
 * Decodes a picture and makes it as small as a square of side `size` asks, in its own proportions.
 *
 * @throws MomeError as {@link prepareImage}
 */
export async function prepareThumbnail(
  input: ImageInput | PictureSource,
  size: number,
  options: PrepareOptions = {},
): Promise<RgbImage> {
  return fitted(input, size, 'inside', options);
}

async function fitted(
  input: ImageInput | PictureSource,
  size: number,
  fit: Fit,
  { signal, call = {} }: PrepareOptions,
): Promise<RgbImage> {
  const source = takePictures([input])[0]!;
  requireNotAborted(signal, 'picture');
  try {
    const { name } = source;
    const content = source.content();
    switch (content.kind) {
      case 'pixels':
        return await resized(await rgbOf(name, content.image, signal), size, fit);
      case 'file':
        return await decoders.decode({ name, path: content.path, size, fit }, undefined, { signal, call });
      case 'bytes': {
        const bytes = await content.read(signal);
        requireNotAborted(signal, 'picture');
        return await decoders.decode({ name, size, fit }, bytes, { signal, call });
      }
    }
  } catch (error) {
    requireNotAborted(signal, 'picture');
    throw error;
  }
}
