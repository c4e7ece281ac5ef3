/**
 * Pictures, texts and pairs as callers give them, copied when a call begins: what happens to a caller's lists and buffers afterwards
 * changes nothing.
 */
import { describe, isObject, takeFields, takeList, takeTexts } from '../runtime/arguments.ts';
import { MomeError } from '../runtime/errors.ts';
import { forEachPaced } from '../runtime/pace.ts';
import { type ImageInput, type PictureSource, takePictures, takePicturesInPieces } from './pictures.ts';

/** A picture and a text that may belong to it. */
export interface Pair<Image = ImageInput> {
  readonly image: Image;
  readonly text: string;
}

/** What a mixed call takes: any number of each. */
export interface MixedItems {
  readonly images?: readonly ImageInput[];
  readonly texts?: readonly string[];
  readonly pairs?: readonly Pair[];
}

/** Pictures, texts and pairs of one call, no longer the caller's. */
export interface TakenItems {
  readonly images: readonly PictureSource[];
  readonly texts: readonly string[];
  readonly pairs: readonly Pair<PictureSource>[];
}

export const noItems: TakenItems = { images: [], texts: [], pairs: [] };

/** @throws MomeError `MOME_INVALID_ARGUMENT` unless `value` is an array of pictures */
export function takeImages(
  where: string,
  value: unknown,
  items = 'pictures',
  kind = 'picture',
): readonly PictureSource[] {
  return takePictures(takeList(where, value, items, kind));
}

/** `takeImages` of a list of any length, in pieces: it is the caller's no more when the promise is there. */
export async function takeManyImages(where: string, value: unknown): Promise<readonly PictureSource[]> {
  return takePicturesInPieces(takeList(where, value, 'pictures', 'picture'));
}

/** @throws MomeError `MOME_INVALID_ARGUMENT` unless `value` is an array of pictures with their texts */
export async function takePairs(where: string, value: unknown): Promise<TakenItems['pairs']> {
  const pairs = pairsIn(where, value);
  const images = await takePicturesInPieces(pairs.map(({ image }) => image));
  return joinedPairs(pairs, images);
}

/** @throws MomeError `MOME_INVALID_ARGUMENT` unless each kind that is there is a list of such items */
export async function takeMixed(where: string, value: MixedItems): Promise<TakenItems> {
  const names = { images: any, texts: any, pairs: any };
  const given = { images: [], texts: [], pairs: [], ...takeFields<MixedItems>(where, 'items', value, names) };
  const shown = takeList(where, given.images, 'images', 'picture');
  const texts = takeTexts(where, given.texts);
  const pairs = pairsIn(where, given.pairs);
  const images = await takePicturesInPieces([...shown, ...pairs.map(({ image }) => image)]);
  return {
    images: images.slice(0, shown.length),
    texts,
    pairs: await joinedPairs(pairs, images.slice(shown.length)),
  };
}

/** Texts of pairs with their pictures, in pieces. */
async function joinedPairs(
  pairs: readonly Pair<unknown>[],
  images: readonly PictureSource[],
): Promise<Pair<PictureSource>[]> {
  const joined: Pair<PictureSource>[] = [];
  await forEachPaced(pairs, ({ text }, index) => joined.push({ image: images[index]!, text }));
  return joined;
}

/** @throws MomeError `MOME_INVALID_ARGUMENT` for nothing in place of a picture */
export function takePicture(where: string, value: unknown, kind = 'picture', index?: number): PictureSource {
  if (value !== undefined && value !== null) return takePictures([value])[0]!;
  const name = index === undefined ? kind : `${kind} ${index}`;
  const message = `${where}: ${name}: expected a picture, got ${describe(value)}`;
  throw new MomeError('MOME_INVALID_ARGUMENT', message, { kind, ...(index !== undefined && { index }) });
}

const any = { expected: 'a list', accepts: () => true };

/** The fields of pairs, each read once. */
function pairsIn(where: string, value: unknown): Pair<unknown>[] {
  return takeList(where, value, 'pairs { image, text }', 'pair').map((pair, index) => {
    const { image, text } = isObject(pair) ? (pair as Partial<Pair>) : {};
    if (image !== undefined && image !== null && typeof text === 'string') return { image, text };
    const keys = isObject(pair) ? Object.keys(pair).slice(0, 5).join(', ') : '';
    const got =
      image === undefined || image === null
        ? isObject(pair)
          ? `{ ${keys} }`
          : describe(pair)
        : `${describe(text)} as its text`;
    const message = `${where}: pair ${index}: expected { image, text }, got ${got}`;
    throw new MomeError('MOME_INVALID_ARGUMENT', message, { kind: 'pair', index });
  });
}
