/**
 * The pictures of one native run: decoded, resized, stacked; the same picture given twice is prepared once.
 */
import { setMaxListeners } from 'node:events';
import pLimit from 'p-limit';
import { lanes } from '../image/decoder-pool.ts';
import { type ImageInput, type PictureSource, shortName, takePictures, takePicturesInPieces } from '../image/input.ts';
import { prepareImage } from '../image/prepare.ts';
import type { ImageItem } from '../model/batch.ts';
import { onAbort } from '../runtime/abort.ts';
import { requireNotAborted } from '../runtime/errors.ts';

export { type ImageInput, type PictureSource, shortName, takePictures, takePicturesInPieces };

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

  /**
   * Pictures that were prepared before. The same bytes given twice are one picture of the run.
   *
   * @param prepared [S, S, 3] bytes of each input
   */
  static of(prepared: readonly Uint8Array[]): PictureSet {
    const places = new Map<Uint8Array, number>();
    for (const bytes of prepared) if (!places.has(bytes)) places.set(bytes, places.size);
    const stride = prepared[0]?.length ?? 0;
    const all = new Uint8Array(places.size * stride);
    for (const [bytes, place] of places) all.set(bytes, place * stride);
    return new PictureSet(
      prepared.map((bytes) => ({ picture: places.get(bytes)! })),
      all,
      places.size,
    );
  }

  /**
   * Nothing of the call goes on once it has failed.
   *
   * @param disposed stops it as well, for the caller to say why
   * @param named says of an error which picture it is about, by its index in `images`
   * @throws MomeError of the first picture that cannot be read, or `MOME_ABORTED`
   */
  static async prepare(
    images: readonly (ImageInput | PictureSource)[],
    size: number,
    signal?: AbortSignal,
    named: (error: unknown, index: number) => unknown = (error) => error,
    disposed?: AbortSignal,
  ): Promise<PictureSet> {
    requireNotAborted(signal, 'vlmo');
    const places = new Map<unknown, number>();
    const sources = takePictures(images);
    const items = sources.map(({ key }) => {
      const place = places.get(key) ?? places.size;
      places.set(key, place);
      return { picture: place };
    });
    const stride = 3 * size * size;
    const bytes = new Uint8Array(places.size * stride);
    const call = new AbortController();
    setMaxListeners(0, call.signal);
    const limit = pLimit(2 * lanes);
    const failed = new Promise<never>((_, reject) => {
      call.signal.addEventListener('abort', () => reject(call.signal.reason));
    });
    const ended = [signal, disposed].map((each) => onAbort(each, () => call.abort(each?.reason)));
    try {
      const prepared = [...places.values()].map((place) =>
        limit(async () => {
          call.signal.throwIfAborted();
          const index = items.findIndex(({ picture }) => picture === place);
          try {
            bytes.set(await prepareImage(sources[index]!, size, { signal: call.signal, call }), place * stride);
          } catch (error) {
            throw named(error, index);
          }
        }),
      );
      await Promise.race([Promise.all(prepared), failed]);
    } catch (error) {
      requireNotAborted(signal, 'vlmo');
      call.abort(error);
      throw error;
    } finally {
      for (const end of ended) end();
      failed.catch(() => {});
    }
    return new PictureSet(items, bytes, places.size);
  }
}
