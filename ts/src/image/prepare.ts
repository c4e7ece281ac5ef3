/**
 * Pictures of any kind to the square of RGB bytes that a model sees.
 */
import { MomeError, requireNotAborted } from '../runtime/errors.ts';
import { decoders } from './decoder-pool.ts';
import type { DecodeRequest, PictureRules } from './frames.ts';
import { base64Hint, type ImageInput, type PictureSource, takePictures } from './input.ts';
import { type RgbImage, rgbOf } from './pixels.ts';
import { resized } from './resize.ts';
import { type PictureTransform, transformed } from './transform.ts';

export interface PrepareOptions {
  readonly signal?: AbortSignal | undefined;
  /** The call the picture belongs to: decoders are shared out evenly between clients, and between the calls of each. */
  readonly call?: object | undefined;
  readonly client?: string | undefined;
  /** Most pixels of a file, where fewer are allowed than `limits.ts` does. */
  readonly maxPixels?: number | undefined;
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
  return (await fitted(input, { size, fit: 'fill' }, options)).data;
}

/**
 * Decodes a picture and makes a square of side `size` of it as training sees it.
 *
 * @returns bytes [size, size, 3]
 * @throws MomeError as {@link prepareImage}
 */
export async function prepareTraining(
  input: ImageInput | PictureSource,
  size: number,
  {
    transform,
    rules,
    ...options
  }: PrepareOptions & { readonly transform?: PictureTransform; readonly rules?: PictureRules },
): Promise<Uint8Array> {
  return (await fitted(input, { size, ...(transform && { transform }), ...(rules && { rules }) }, options)).data;
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
  return fitted(input, { size, fit: 'inside' }, options);
}

async function fitted(
  input: ImageInput | PictureSource,
  made: Omit<DecodeRequest, 'name' | 'path'>,
  { signal, call = {}, client, maxPixels }: PrepareOptions,
): Promise<RgbImage> {
  const wanted = { ...made, ...(maxPixels !== undefined && { maxPixels }) };
  const source = takePictures([input])[0]!;
  requireNotAborted(signal, 'picture');
  try {
    const { name } = source;
    const content = source.content();
    switch (content.kind) {
      case 'pixels':
        return await finished(await rgbOf(name, content.image, signal), wanted);
      case 'pipeline':
        return await finished(await rgbOf(name, await content.run(signal), signal), wanted);
      case 'file':
        return await decoders.decode({ name, path: content.path, ...wanted }, undefined, { signal, call, client });
      case 'bytes': {
        const bytes = await content.read(signal);
        requireNotAborted(signal, 'picture');
        return await decoders.decode({ name, ...wanted }, bytes, { signal, call, client });
      }
    }
  } catch (error) {
    requireNotAborted(signal, 'picture');
    const { key } = source;
    const hint =
      typeof key === 'string' && error instanceof MomeError && error.code === 'MOME_NOT_FOUND' ? base64Hint(key) : '';
    if (hint === '' || (error as Error).message.endsWith(hint)) throw error;
    throw new MomeError('MOME_NOT_FOUND', `${(error as Error).message}${hint}`, { cause: error });
  }
}

function finished(
  picture: RgbImage,
  { size, fit, transform }: Omit<DecodeRequest, 'name' | 'path'>,
): Promise<RgbImage> {
  return transform ? transformed(picture, size, transform) : resized(picture, size, fit);
}
