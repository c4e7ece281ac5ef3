/**
 * The pictures of one native run: decoded, resized, stacked; the same picture given twice is prepared once.
 */
import { availableParallelism } from 'node:os';
import { types } from 'node:util';
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

  /**
   * @param named says of an error which picture it is about, by its index in `images`
   * @throws MomeError of the first picture that cannot be read, or `MOME_ABORTED`
   */
  static async prepare(
    images: readonly ImageInput[],
    size: number,
    signal: AbortSignal | undefined,
    named: (error: unknown, index: number) => unknown,
  ): Promise<PictureSet> {
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
          try {
            bytes.set(await prepareImage(image, size), place * stride);
          } catch (error) {
            throw named(error, images.indexOf(image));
          }
        }),
      ),
    );
    return new PictureSet(items, bytes, places.size);
  }
}

/** A picture that a call has taken over from its caller. */
export type PictureSource = ImageInput;

/**
 * Takes pictures over from the caller of a call: what is done to buffers and pixels afterwards changes nothing. One that is given twice is
 * still known as the same.
 */
export function takePictures(inputs: readonly unknown[]): readonly PictureSource[] {
  const taken = new Map<unknown, PictureSource>();
  return inputs.map((input) => {
    const source = taken.get(input) ?? copyOf(input as ImageInput);
    taken.set(input, source);
    return source;
  });
}

function copyOf(input: ImageInput): PictureSource {
  if (input instanceof URL) return new URL(input);
  if (types.isArrayBuffer(input)) return input.slice(0);
  if (types.isUint8Array(input)) return new Uint8Array(input);
  if (typeof input !== 'object' || input === null || !('data' in input)) return input;
  const { data, width, height, channels } = input;
  return { data: types.isTypedArray(data) ? data.slice() : data, width, height, channels };
}

/** A picture as messages show it: the end of its path, the beginning of a `data:` URL, the class and size of anything else. */
export function shortName(input: ImageInput): string {
  if (input instanceof URL || typeof input === 'string') {
    const text = String(input);
    const isShort = text.length <= shownCharacters;
    const shown = isShort
      ? text
      : text.startsWith('data:')
        ? `${text.slice(0, 37)}...`
        : `...${text.slice(3 - shownCharacters)}`;
    return JSON.stringify(shown).slice(1, -1);
  }
  if (types.isArrayBuffer(input) || types.isUint8Array(input)) return `${input.byteLength} bytes`;
  return typeof input === 'object' && 'width' in input ? `${input.width} x ${input.height} pixels` : typeof input;
}

/** Most characters of a name in a message. */
const shownCharacters = 80;
