/** Data sets of any task as training reads them, and the ones that are made of others. */
import { createHash, type Hash } from 'node:crypto';
import { check } from '../../runtime/errors.ts';
import { Pace } from '../../runtime/pace.ts';
import type { AnswerTargets } from '../objectives/step.ts';
import type { Labelled } from './captions.ts';
import type { EmojiPairs } from './emoji.ts';
import type { PairDataset } from './pairs.ts';

/** A picture of an item: a file, the bytes of one, or pixels whose size the data set tells. */
export type Picture =
  | { readonly file: string }
  | { readonly encoded: Uint8Array }
  /** [size, size, channels] as {@link Dataset.pixels} says. May be shared memory: read only. */
  | { readonly pixels: Uint8Array };

/** One item as a task reads it. */
export interface Item {
  /** None for text alone, two for statements about two pictures, else one. */
  readonly pictures: readonly Picture[];
  /** Captions, one question, one statement, or one line of text. Empty for pictures alone. */
  readonly texts: readonly string[];
  /** A label with tags that captions are made of, instead of one of `texts`. */
  readonly labelled?: Labelled;
  /** Answers to a question, as places in a list of answers, and how right each is. */
  readonly answers?: AnswerTargets;
  /** Whether a statement is true. */
  readonly truth?: boolean;
  /** Visual tokens of the whole picture, [grid * grid]. */
  readonly visualTokens?: Int32Array;
  /** Items of one group are positives of each other. Below the length of the data set. */
  readonly group: number;
}

/** Items in a fixed order. Nothing but an index is in memory where the data are large. */
export interface Dataset {
  readonly length: number;
  readonly picturesPerItem: 0 | 1 | 2;
  /** Set where pictures are pixels already. Three channels: RGB. Four: premultiplied RGBA, whose background is the reader's choice. */
  readonly pixels?: { readonly size: number; readonly channels: 3 | 4 };
  /** First items of parts that lie together in a file, ascending from 0, such as record batches. Shuffling keeps to some of them at a time. */
  readonly chunkStarts?: Uint32Array;
  /** Most chunks that are shuffled together, where each is read as a whole and kept meanwhile. */
  readonly chunkWindow?: number;
  /**
   * @throws MomeError `MOME_INVALID_ARGUMENT` for an index beyond the last; `MOME_INVALID_FILE`, `MOME_NOT_FOUND` or `MOME_TOO_LARGE` for a
   *   damaged item, which a loader skips
   * @param withPictures false: `pictures` may be empty, where reading them takes time
   */
  item(index: number, withPictures?: boolean): Promise<Item>;
  /** Names an item in messages, such as "coco.arrow: row 12". */
  origin(index: number): string;
  /** The texts of one item after the other, without its pictures. */
  itemTexts(): AsyncIterable<readonly string[]>;
  /** A hash that changes with the data: names, texts, and sizes of files. Pixels are not read. */
  fingerprint(): Promise<string>;
  /** Closes files. Calling it again does nothing. */
  close(): void;
}

/** All texts of a data set, such as for learning a vocabulary. */
export async function* textsOf(dataset: Pick<Dataset, 'itemTexts'>): AsyncGenerator<string, void> {
  for await (const texts of dataset.itemTexts()) yield* texts;
}

/** Pairs whose captions are in memory, as a {@link Dataset}. */
export function datasetOfPairs(pairs: PairDataset | EmojiPairs): Dataset {
  return {
    length: pairs.length,
    picturesPerItem: 1,
    pixels: { size: pairs.size, channels: pairs.channels },
    async item(index, withPictures = true) {
      const pictures = withPictures ? [{ pixels: await pairs.image(index) }] : [];
      const texts = pairs.captions(index);
      const group = pairs.group(index);
      return { pictures, texts, group, ...('entry' in pairs && { labelled: pairs.entry(index) }) };
    },
    origin: (index) => pairs.source?.(index) ?? `item ${index}`,
    async *itemTexts() {
      for (let index = 0; index < pairs.length; index++) yield pairs.captions(index);
    },
    async fingerprint() {
      const hash = createHash('sha256').update(`${pairs.length} ${pairs.size} ${pairs.channels}`);
      const pace = new Pace();
      for (let index = 0; index < pairs.length; index++) {
        hash.update(JSON.stringify([pairs.source?.(index), pairs.group(index), ...pairs.captions(index)]));
        await pace.rest();
      }
      return hash.digest('hex');
    },
    close() {},
  };
}

/** Adds the texts of a data set to a hash. */
export async function hashTexts(hash: Hash, dataset: Pick<Dataset, 'itemTexts'>): Promise<void> {
  const pace = new Pace();
  for await (const texts of dataset.itemTexts()) {
    hash.update(JSON.stringify(texts));
    await pace.rest();
  }
}

/**
 * The same data with an item for each text, as the original reads captions: a picture stands in it once for each of its captions. Texts are
 * counted once, without reading pictures.
 */
export async function everyText(dataset: Dataset): Promise<Dataset> {
  const starts = new Uint32Array(dataset.length + 1);
  let counted = 0;
  for await (const texts of dataset.itemTexts()) {
    starts[counted + 1] = starts[counted]! + texts.length;
    counted++;
  }
  check(
    counted === dataset.length,
    'MOME_INTERNAL',
    `everyText: expected texts of ${dataset.length} items, got ${counted}`,
  );
  const length = starts[dataset.length]!;
  const place = (index: number): readonly [item: number, text: number] => {
    check(
      Number.isInteger(index) && index >= 0 && index < length,
      'MOME_INVALID_ARGUMENT',
      `everyText: expected an index below ${length}, got ${index}`,
    );
    const item = lastAtMost(starts, index);
    return [item, index - starts[item]!];
  };
  const { chunkStarts, chunkWindow, pixels } = dataset;
  return {
    length,
    picturesPerItem: dataset.picturesPerItem,
    ...(pixels && { pixels }),
    ...(chunkStarts && { chunkStarts: chunkStarts.map((first) => starts[first]!) }),
    ...(chunkWindow !== undefined && { chunkWindow }),
    async item(index, withPictures) {
      const [at, text] = place(index);
      const { labelled: _, ...item } = await dataset.item(at, withPictures);
      return { ...item, texts: item.texts.slice(text, text + 1) };
    },
    origin: (index) => `${dataset.origin(place(index)[0])}, text ${place(index)[1] + 1}`,
    async *itemTexts() {
      for await (const texts of dataset.itemTexts()) for (const text of texts) yield [text];
    },
    fingerprint: async () => `${await dataset.fingerprint()} text by text`,
    close: () => dataset.close(),
  };
}

/** Index of the last of ascending `starts` that is at most `value`; of equal ones the last. */
export function lastAtMost(starts: ArrayLike<number>, value: number): number {
  let low = 0;
  let high = starts.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (starts[middle]! <= value) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** Several data sets one behind the other. Groups of different ones are different. */
export function joined(parts: readonly Dataset[]): Dataset {
  const [first] = parts;
  check(first, 'MOME_INVALID_ARGUMENT', 'joined: expected at least one data set, got none');
  if (parts.length === 1) return first;
  const starts = new Uint32Array(parts.length);
  let length = 0;
  for (const [i, part] of parts.entries()) {
    check(
      part.picturesPerItem === first.picturesPerItem &&
        part.pixels?.size === first.pixels?.size &&
        part.pixels?.channels === first.pixels?.channels,
      'MOME_INVALID_ARGUMENT',
      `joined: expected data sets with ${first.picturesPerItem} pictures an item, got one with ${part.picturesPerItem}`,
    );
    starts[i] = length;
    length += part.length;
  }
  check(length < 2 ** 32, 'MOME_TOO_LARGE', `joined: expected fewer than 2^32 items, got ${length}`);
  const place = (index: number): readonly [part: number, index: number] => {
    check(
      Number.isInteger(index) && index >= 0 && index < length,
      'MOME_INVALID_ARGUMENT',
      `data: expected an index below ${length}, got ${index}`,
    );
    const part = lastAtMost(starts, index);
    return [part, index - starts[part]!];
  };
  const windows = parts.flatMap(({ chunkWindow }) => chunkWindow ?? []);
  const chunked = parts.some(({ chunkStarts }) => chunkStarts);
  const chunkStarts = parts.flatMap((part, i) =>
    part.length === 0 ? [] : Array.from(part.chunkStarts ?? [0], (at) => at + starts[i]!),
  );
  return {
    length,
    picturesPerItem: first.picturesPerItem,
    ...(first.pixels && { pixels: first.pixels }),
    ...(chunked && { chunkStarts: Uint32Array.from(chunkStarts) }),
    ...(windows.length > 0 && { chunkWindow: Math.min(...windows) }),
    async item(index, withPictures) {
      const [part, at] = place(index);
      const item = await parts[part]!.item(at, withPictures);
      // Groups of a part are small numbers; those of different parts must not meet.
      return { ...item, group: item.group + starts[part]! };
    },
    origin(index) {
      const [part, at] = place(index);
      return parts[part]!.origin(at);
    },
    async *itemTexts() {
      for (const part of parts) yield* part.itemTexts();
    },
    async fingerprint() {
      const hash = createHash('sha256');
      for (const part of parts) hash.update(await part.fingerprint());
      return hash.digest('hex');
    },
    close() {
      for (const part of parts) part.close();
    },
  };
}
