/**
 * Pictures, texts and pairs in one call: what each item is called in errors, and how a large call is cut into runs.
 */
import type { TokenIds } from '../model/batch.ts';
import { addon } from '../runtime/addon.ts';
import type { ErrorItem } from '../runtime/errors.ts';
import { Pace } from '../runtime/pace.ts';
import type { TakenItems } from './arguments.ts';
import type { Embeddings } from './embeddings.ts';
import type { PictureSource } from './pictures.ts';

/** What a mixed call gives, in the order of the items. */
export interface MixedResults {
  readonly images: Embeddings;
  readonly texts: Embeddings;
  /** [pairs] what `match` gives. */
  readonly pairs: Float32Array;
}

/** A mixed call with texts as ids. */
export interface TokenizedItems {
  readonly images: readonly PictureSource[];
  readonly texts: readonly TokenIds[];
  readonly pairs: readonly { readonly image: PictureSource; readonly text: TokenIds }[];
}

/** Which item of the caller an entry of a list stands for; of a pair, which half. */
export type Naming = (list: keyof TakenItems, index: number, half: 'image' | 'text') => ErrorItem;

const kindOf = { images: 'picture', texts: 'text', pairs: 'pair' } as const;

export const ownNames: Naming = (list, index) => ({ kind: kindOf[list], index });

/** The smallest function that does these items: a model without a matching head can embed, and the reverse. */
export function functionOf({ images, texts, pairs }: TokenizedItems): 'embed' | 'match' | 'mixed' {
  if (pairs.length === 0) return 'embed';
  return images.length + texts.length === 0 ? 'match' : 'mixed';
}

/** Most token rows one native run takes on a processor: enough to be compute-bound, and so few that latency stays bounded. */
const processorRows = 1600;
/** A CUDA device takes 64 pictures of 197 tokens, which fill the multiprocessors of a Hopper GPU evenly. */
const deviceRows = 64 * 197;

/**
 * Most token rows one native run takes, unless a single item has more; about so many in a mixed run. On a processor so few that its
 * last-level cache keeps the q, k and v of a block, `run_bytes` at most, until attention has read them.
 */
export function rowsPerRun(onDevice: boolean, width: number): number {
  if (onDevice) return deviceRows;
  const { run_bytes } = addon().blocking().fields;
  return Math.min(processorRows, Math.floor(run_bytes! / (3 * 4 * width)));
}

/** Numbers of pictures, texts and pairs. */
export type Counts = Readonly<Record<keyof TokenizedItems, number>>;

/** One run's part of a call, [first, end) of each kind. */
export interface Part {
  readonly first: Counts;
  readonly end: Counts;
}

/**
 * Cuts a call into runs of at most `rowsPerRun` token rows, or of a single item that has more. Items are taken so that each kind comes
 * to its end at the same time: every run holds an even share of each.
 */
export async function cut(items: TokenizedItems, imageTokens: number, rowsPerRun: number): Promise<readonly Part[]> {
  const rowsOf = {
    images: () => imageTokens,
    texts: (index: number) => items.texts[index]!.length,
    pairs: (index: number) => imageTokens + items.pairs[index]!.text.length,
  };
  const names = ['images', 'texts', 'pairs'] as const;
  const end = { images: 0, texts: 0, pairs: 0 };
  const parts: Part[] = [];
  const pace = new Pace();
  let first: Counts = { ...end };
  let rows = 0;
  for (let left = items.images.length + items.texts.length + items.pairs.length; left > 0; left--) {
    const progress = (name: keyof Counts) =>
      end[name] < items[name].length ? (end[name] + 0.5) / items[name].length : 1;
    const name = names.reduce((least, each) => (progress(each) < progress(least) ? each : least));
    const own = rowsOf[name](end[name]);
    if (rows > 0 && rows + own > rowsPerRun) {
      parts.push({ first, end: { ...end } });
      first = { ...end };
      rows = 0;
      await pace.rest();
    }
    rows += own;
    end[name]++;
  }
  if (rows > 0) parts.push({ first, end });
  return parts;
}

/** The items of one part. */
export function itemsOf({ images, texts, pairs }: TokenizedItems, { first, end }: Part): TokenizedItems {
  return {
    images: images.slice(first.images, end.images),
    texts: texts.slice(first.texts, end.texts),
    pairs: pairs.slice(first.pairs, end.pairs),
  };
}
