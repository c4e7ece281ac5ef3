/**
 * The pictures of one native run: decoded, resized, stacked; the same picture given twice is prepared once.
 */
import { availableParallelism } from 'node:os';
import pLimit from 'p-limit';
import { type ImageInput, prepareImage } from '../image/decode.ts';
import type { ImageItem } from '../model/batch.ts';
import { requireNotAborted } from '../runtime/errors.ts';

export type { ImageInput };

/** Pictures decoded at the same time. */
const limit = pLimit(Math.max(2, availableParallelism()));

/** Distinct pictures and, for each input, which one it is. */
export class PictureSet {
  static readonly empty = new PictureSet([], new Uint8Array(0), 0);

  /** Input i shows picture `items[i].picture`. */
  readonly items: readonly ImageItem[];
  /** [count, S, S, 3] bytes. */
  readonly bytes: Uint8Array;
  readonly count: number;

  private constructor(items: readonly ImageItem[], bytes: Uint8Array, count: number) {
    this.items = items;
    this.bytes = bytes;
    this.count = count;
  }

  /** @throws MomeError of the first picture that cannot be read, or `MOME_ABORTED` */
  static async prepare(images: readonly ImageInput[], size: number, signal?: AbortSignal): Promise<PictureSet> {
    const places = new Map<ImageInput, number>();
    const items = images.map((image) => {
      const place = places.get(image) ?? places.size;
      places.set(image, place);
      return { picture: place };
    });
    const stride = 3 * size * size;
    const bytes = new Uint8Array(places.size * stride);
    await Promise.all(
      [...places].map(([image, place]) =>
        limit(async () => {
          requireNotAborted(signal, 'vlmo');
          bytes.set(await prepareImage(image, size), place * stride);
        }),
      ),
    );
    return new PictureSet(items, bytes, places.size);
  }
}
