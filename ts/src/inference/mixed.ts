/**
 * Pictures, texts and pairs in one call, and how a large call is cut into runs.
 */

import type { BatchItems, TokenIds } from '../model/batch.ts';
import { check } from '../runtime/errors.ts';
import { isObject, requireList, requirePairs } from './arguments.ts';
import { type ImageInput, PictureSet } from './pictures.ts';
import type { Embeddings } from './results.ts';

/** What a mixed call takes: any number of each. */
export interface MixedItems {
  readonly images?: readonly ImageInput[];
  readonly texts?: readonly string[];
  readonly pairs?: readonly { readonly image: ImageInput; readonly text: string }[];
}

/** What it gives, in the order of the items. */
export interface MixedResults {
  readonly images: Embeddings;
  readonly texts: Embeddings;
  /** [pairs] probabilities of image-text matching. */
  readonly pairs: Float32Array;
}

/** The same with texts as ids. */
export interface TokenizedItems {
  readonly images: readonly ImageInput[];
  readonly texts: readonly TokenIds[];
  readonly pairs: readonly { readonly image: ImageInput; readonly text: TokenIds }[];
}

/** @throws MomeError `MOME_INVALID_ARGUMENT` unless each kind that is there is a list of such items */
export function requireMixed(items: MixedItems): void {
  check(isObject(items), 'MOME_INVALID_ARGUMENT', 'mixed: expected { images, texts, pairs }, each of them optional');
  const { images = [], texts = [], pairs = [] } = items;
  requireList(images, 'mixed', 'images');
  requireList(texts, 'mixed', 'texts');
  requirePairs(pairs, 'mixed');
}

/** The smallest function that does these items: a model without a matching head can embed, and the reverse. */
export function functionOf({ images, texts, pairs }: TokenizedItems): 'embed' | 'match' | 'mixed' {
  if (pairs.length === 0) return 'embed';
  return images.length + texts.length === 0 ? 'match' : 'mixed';
}

type Counts = Readonly<Record<keyof TokenizedItems, number>>;

/** Token rows of the items. */
export function rowsOf({ images, texts, pairs }: TokenizedItems, imageTokens: number): number {
  const ids = [...texts, ...pairs.map(({ text }) => text)];
  return (images.length + pairs.length) * imageTokens + ids.reduce((sum, { length }) => sum + length, 0);
}

/** Part `part` of `parts`: an even share of each kind, and which of each those are. */
export function partOf(
  { images, texts, pairs }: TokenizedItems,
  part: number,
  parts: number,
): { readonly items: TokenizedItems; readonly first: Counts; readonly end: Counts } {
  const counts = (at: number): Counts => {
    const share = (count: number) => Math.floor((count * at) / parts);
    return { images: share(images.length), texts: share(texts.length), pairs: share(pairs.length) };
  };
  const [first, end] = [counts(part), counts(part + 1)];
  return {
    items: {
      images: images.slice(first.images, end.images),
      texts: texts.slice(first.texts, end.texts),
      pairs: pairs.slice(first.pairs, end.pairs),
    },
    first,
    end,
  };
}

/** The sequences of one run and its pictures, prepared. */
export async function prepareMixed(
  { images, texts, pairs }: TokenizedItems,
  imageSize: number,
  signal?: AbortSignal,
): Promise<{ readonly batch: BatchItems; readonly pictures: PictureSet }> {
  const shown = [...images, ...pairs.map(({ image }) => image)];
  const pictures = await PictureSet.prepare(shown, imageSize, signal);
  const batch: BatchItems = {
    texts,
    images: pictures.items.slice(0, images.length),
    pairs: pairs.map(({ text }, i) => ({ text, picture: pictures.items[images.length + i]!.picture })),
  };
  return { batch, pictures };
}
