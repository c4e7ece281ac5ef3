/**
 * Pictures, texts and pairs as callers give them, copied when a call begins: what happens to a caller's lists and buffers afterwards
 * changes nothing.
 */
import { describe, isObject, takeFields, takeList, takeTexts } from '../runtime/arguments.ts';
import { aboutItem, type ErrorItem, MomeError } from '../runtime/errors.ts';
import { type ImageInput, keepImage } from './pictures.ts';

export interface Pair {
  readonly image: ImageInput;
  readonly text: string;
}

/** What a mixed call takes: any number of each. */
export interface MixedItems {
  readonly images?: readonly ImageInput[];
  readonly texts?: readonly string[];
  readonly pairs?: readonly Pair[];
}

/** Pictures, texts and pairs of one call, no longer the caller's. */
export type TakenItems = Required<MixedItems>;

/** Copies the pictures of a call; one that is given twice is copied once, so that it is still known as the same. */
export class PictureTaker {
  readonly #copies = new Map<unknown, ImageInput>();
  readonly #where: string;

  constructor(where: string) {
    this.#where = where;
  }

  /** @throws MomeError `MOME_INVALID_ARGUMENT` for a buffer that was transferred already */
  one(value: unknown, about: ErrorItem = { kind: 'picture' }): ImageInput {
    if (!isObject(value)) return value as ImageInput; // a path, or a value that decoding refuses
    const known = this.#copies.get(value);
    if (known !== undefined) return known;
    try {
      const copy = keepImage(value as ImageInput);
      this.#copies.set(value, copy);
      return copy;
    } catch (error) {
      const failure = new MomeError('MOME_INVALID_ARGUMENT', 'image: expected a picture that can be read', {
        cause: error,
      });
      throw aboutItem(failure, this.#where, about);
    }
  }

  /** @throws MomeError `MOME_INVALID_ARGUMENT` unless `value` is an array of pictures */
  list(value: unknown, items = 'pictures', kind = 'picture'): ImageInput[] {
    return takeList(this.#where, value, items, kind).map((image, index) => this.one(image, { kind, index }));
  }

  /** @throws MomeError `MOME_INVALID_ARGUMENT` unless `value` is an array of pictures with their texts */
  pairs(value: unknown): Pair[] {
    return takeList(this.#where, value, 'pairs { image, text }', 'pair').map((pair, index) => {
      const { image, text } = isObject(pair) ? (pair as Partial<Pair>) : {};
      const about = { kind: 'pair', index };
      if (image !== undefined && image !== null && typeof text === 'string')
        return { image: this.one(image, about), text };
      const got = isObject(pair) ? `{ ${Object.keys(pair).slice(0, 5).join(', ')} }` : describe(pair);
      const wrong = image === undefined || image === null ? got : `text: ${describe(text)}`;
      const message = `${this.#where}: pair ${index}: expected { image, text }, got ${wrong}`;
      throw new MomeError('MOME_INVALID_ARGUMENT', message, about);
    });
  }
}

const any = { expected: 'a list', accepts: () => true };

/** @throws MomeError `MOME_INVALID_ARGUMENT` unless each kind that is there is a list of such items */
export function takeMixed(where: string, value: MixedItems): TakenItems {
  const names = { images: any, texts: any, pairs: any };
  const { images = [], texts = [], pairs = [] } = takeFields<MixedItems>(where, 'items', value, names);
  const pictures = new PictureTaker(where);
  return {
    images: pictures.list(images, 'images'),
    texts: takeTexts(where, texts),
    pairs: pictures.pairs(pairs),
  };
}

/** @throws MomeError `MOME_INVALID_ARGUMENT` for nothing in place of a picture */
export function takePicture(where: string, value: unknown): ImageInput {
  if (value !== undefined && value !== null) return new PictureTaker(where).one(value);
  const message = `${where}: picture: expected a picture, got ${describe(value)}`;
  throw new MomeError('MOME_INVALID_ARGUMENT', message, { kind: 'picture' });
}
