/** One batch: its items are read, damaged ones replaced, pictures decoded and augmented, texts cut into pieces. */
import pLimit from 'p-limit';
import type { VlmoConfig } from '../../architecture/config.ts';
import type { PictureRules } from '../../image/frames.ts';
import type { PictureTransform } from '../../image/transform.ts';
import { check, type ErrorCode, MomeError } from '../../runtime/errors.ts';
import { Pace } from '../../runtime/pace.ts';
import type { Tokenizer } from '../../text/tokenizer.ts';
import type { TrainingBatch } from '../objectives/step.ts';
import { createRandom, type Random } from '../random.ts';
import { type Augmenter, type AugmentOptions, augmentOff, createAugmenter } from './augment.ts';
import { drawTransform, type NamedAugmentation } from './augment-original.ts';
import { type CaptionOptions, captionDefaults, sampleCaption } from './captions.ts';
import type { Dataset, Item, Picture } from './dataset.ts';
import type { Batch } from './pairs.ts';
import { pictureBytes } from './picture-bytes.ts';

/**
 * How pictures are changed by chance: not at all, as in the original's tasks, as in its first stage on pictures alone, or by the drawing
 * augmenter with strengths, of which those not named are off.
 */
export type Augmentation = 'none' | NamedAugmentation | Partial<AugmentOptions>;

export interface BatchOptions {
  readonly config: Pick<VlmoConfig, 'imageSize'>;
  readonly tokenizer: Pick<Tokenizer, 'encode'>;
  readonly seed: number;
  /** Unless named, none. */
  readonly augment?: Augmentation;
  /** Captions made of labels with tags. */
  readonly captions?: CaptionOptions;
  /** Side at which pictures are kept for the drawing augmenter; 1.5 times the model's unless named. */
  readonly sourceSize?: number;
  /** How files become pixels; `upright` unless named. */
  readonly pictureRules?: PictureRules;
  /** Whether the step reads pictures; unless named, where the data set has some. */
  readonly pictures?: boolean;
  /** Whether the step reads texts; true unless named. */
  readonly texts?: boolean;
  /** This process among those that share a batch; 0 of 1 unless named. It makes its part of the batch, the parts in the order of ranks. */
  readonly rank?: number;
  readonly ranks?: number;
}

/** A damaged item. */
export interface SkippedItem {
  readonly origin: string;
  readonly message: string;
}

export interface MadeBatch {
  readonly training: TrainingBatch;
  /** Where the data have them: [items, grid * grid]. */
  readonly visualTokens?: Int32Array;
  readonly origins: readonly string[];
  readonly skipped: readonly SkippedItem[];
}

/** Streams of random numbers beside that of the order, which is named by seed and epoch. */
const streams = { batch: 1, item: 2, replacement: 3, pictures: 4 };
/** Items that are tried in the place of a damaged one. */
const mostReplacements = 10;
/** Items read at the same time. */
const itemsInFlight = 16;
/** Failures that are about one item. */
const damaged: readonly ErrorCode[] = ['MOME_INVALID_FILE', 'MOME_INVALID_IMAGE', 'MOME_NOT_FOUND', 'MOME_TOO_LARGE'];

/** An item that could be read, with its pictures as bytes: [size, size, channels] each. */
interface ReadItem {
  readonly index: number;
  readonly item: Item;
  readonly pictures: readonly Uint8Array[];
}

export class BatchMaker {
  readonly #dataset: Dataset;
  readonly #options: BatchOptions;
  readonly #signal: AbortSignal;
  readonly #limit = pLimit(itemsInFlight);
  readonly #picturesPerItem: number;
  readonly #augmenter: Augmenter | undefined;
  /** The same draws at nearly no cost, for items of other processes. */
  readonly #passing: Augmenter | undefined;
  readonly #rank: number;
  readonly #ranks: number;

  constructor(dataset: Dataset, options: BatchOptions, signal: AbortSignal) {
    const { config, augment = 'none', rank = 0, ranks = 1, pictures = dataset.picturesPerItem > 0 } = options;
    this.#dataset = dataset;
    this.#options = options;
    this.#signal = signal;
    this.#rank = rank;
    this.#ranks = ranks;
    check(
      Number.isInteger(ranks) && ranks >= 1 && Number.isInteger(rank) && rank >= 0 && rank < ranks,
      'MOME_INVALID_ARGUMENT',
      `data: expected a rank below the number of ranks, got ${rank} of ${ranks}`,
    );
    check(
      !pictures || dataset.picturesPerItem > 0,
      'MOME_INVALID_CONFIG',
      'data: expected data with pictures, got text alone',
    );
    this.#picturesPerItem = pictures ? dataset.picturesPerItem : 0;
    if (typeof augment === 'object') {
      const sourceSize = dataset.pixels?.size ?? options.sourceSize ?? Math.round(1.5 * config.imageSize);
      const channels = dataset.pixels?.channels ?? 3;
      const settings = { channels, options: { ...augmentOff, ...augment } };
      this.#augmenter = createAugmenter({ ...settings, sourceSize, size: config.imageSize });
      this.#passing = createAugmenter({ ...settings, sourceSize: 1, size: 1 });
    }
  }

  /** @throws MomeError for failures that are not about one item, and where no replacement of a damaged one is found */
  async make(batch: Batch): Promise<MadeBatch> {
    const { indices } = batch;
    check(
      indices.length % this.#ranks === 0,
      'MOME_INVALID_ARGUMENT',
      `data: expected a batch that ${this.#ranks} processes share evenly, got one of ${indices.length}`,
    );
    const part = indices.length / this.#ranks;
    const [begin, end] = [this.#rank * part, (this.#rank + 1) * part];
    // The drawing augmenter draws from one stream for the whole batch, so the items before its part are passed by.
    const first = this.#augmenter ? 0 : begin;
    const wanted = indices.subarray(first, end);
    const skipped = Array.from(wanted, (): SkippedItem[] => []);
    const read = await Promise.all(
      Array.from(wanted, (index, i) =>
        this.#limit(() => this.#read(index, batch.epoch, first + i >= begin, skipped[i]!)),
      ),
    );
    const training = await this.#assemble(batch, read, begin - first);
    const own = read.slice(begin - first);
    const tokens = own.flatMap(({ item }) => item.visualTokens ?? []);
    return {
      training,
      ...(tokens.length > 0 && { visualTokens: joinedTokens(tokens, own.length) }),
      origins: own.map(({ index }) => this.#dataset.origin(index)),
      skipped: skipped.slice(begin - first).flat(),
    };
  }

  /** @param passed how many of the first items belong to other processes */
  async #assemble(batch: Batch, read: readonly ReadItem[], passed: number): Promise<TrainingBatch> {
    const { config, seed, texts: withTexts = true, captions = captionDefaults, tokenizer } = this.#options;
    const perPicture = 3 * config.imageSize ** 2;
    const perItem = this.#picturesPerItem * perPicture;
    const own = read.slice(passed);
    const bytes = new Uint8Array(own.length * perItem);
    const texts: Int32Array[] = [];
    const shared = createRandom(seed, batch.epoch, batch.step, streams.batch);
    const pace = new Pace();
    for (const [place, { index, item, pictures }] of read.entries()) {
      const random = this.#augmenter ? shared : createRandom(seed, batch.epoch, index, streams.item);
      const at = (place - passed) * perItem;
      for (const [i, picture] of pictures.entries()) {
        if (this.#augmenter) this.#draw(picture, random, bytes, at + i * perPicture);
        else bytes.set(picture, at + i * perPicture);
      }
      const text = withTexts ? captionOf(item, random, captions) : '';
      if (withTexts && place >= passed) texts.push(tokenizer.encode(text));
      await pace.rest();
    }
    return {
      texts,
      // Groups are of pairs: pictures alone have none.
      ...(withTexts && { groups: Int32Array.from(own, ({ item }) => item.group) }),
      ...(perItem > 0 && { bytes }),
      ...(own.every(({ item }) => item.answers) && { answers: own.map(({ item }) => item.answers!) }),
      ...(own.every(({ item }) => item.truth !== undefined) && {
        truth: Int32Array.from(own, ({ item }) => Number(item.truth)),
      }),
    };
  }

  /** @param at below 0 for an item of another process, whose draws are made and dropped */
  #draw(picture: Uint8Array, random: Random, bytes: Uint8Array, at: number): void {
    if (at >= 0) this.#augmenter!.apply(picture, random, bytes, at);
    else this.#passing!.apply(new Uint8Array(this.#passing!.channels), random, new Uint8Array(3));
  }

  /** Reads an item, or the first of its replacements that can be read. */
  async #read(index: number, epoch: number, own: boolean, skipped: SkippedItem[]): Promise<ReadItem> {
    let at = index;
    const random = createRandom(this.#options.seed, epoch, index, streams.replacement);
    for (let attempt = 0; ; attempt++) {
      try {
        this.#signal.throwIfAborted();
        return await this.#readOne(at, epoch, own);
      } catch (error) {
        if (!(error instanceof MomeError) || !damaged.includes(error.code)) throw error;
        const origin = this.#dataset.origin(at);
        const message = error.message.startsWith(origin) ? error.message : `${origin}: ${error.message}`;
        skipped.push({ origin, message });
        check(
          attempt < mostReplacements,
          'MOME_INVALID_FILE',
          `data: expected an undamaged item among ${mostReplacements + 1}, got none; the last: ${message}`,
        );
        at = random.integer(this.#dataset.length);
      }
    }
  }

  async #readOne(index: number, epoch: number, own: boolean): Promise<ReadItem> {
    const item = await this.#dataset.item(index, own && this.#picturesPerItem > 0);
    check(
      this.#options.texts === false || item.texts.length > 0 || item.labelled !== undefined,
      'MOME_INVALID_FILE',
      `${this.#dataset.origin(index)}: expected a text, got none`,
    );
    if (!own) return { index, item, pictures: Array(this.#picturesPerItem).fill(new Uint8Array(0)) };
    const { augment = 'none', seed } = this.#options;
    check(
      augment === 'none' || item.visualTokens === undefined || this.#picturesPerItem === 0,
      'MOME_INVALID_CONFIG',
      `${this.#dataset.origin(index)}: expected no augmentation of pictures whose visual tokens are in the data, got ${JSON.stringify(augment)}`,
    );
    const random = createRandom(seed, epoch, index, streams.pictures);
    const pictures = await Promise.all(
      item.pictures
        .slice(0, this.#picturesPerItem)
        .map((picture) =>
          this.#picture(
            picture,
            typeof augment === 'string' && augment !== 'none' ? drawTransform(augment, random) : undefined,
          ),
        ),
    );
    check(
      pictures.length === this.#picturesPerItem,
      'MOME_INVALID_FILE',
      `${this.#dataset.origin(index)}: expected ${this.#picturesPerItem} pictures, got ${pictures.length}`,
    );
    return { index, item, pictures };
  }

  async #picture(picture: Picture, transform: PictureTransform | undefined): Promise<Uint8Array> {
    const { config, pictureRules: rules } = this.#options;
    const size = this.#augmenter?.sourceSize ?? config.imageSize;
    const options = { signal: this.#signal, call: this, ...(transform && { transform }), ...(rules && { rules }) };
    if (this.#augmenter && 'pixels' in picture) return picture.pixels;
    return pictureBytes(picture, this.#dataset.pixels, size, options);
  }
}

function captionOf(item: Item, random: Random, captions: CaptionOptions): string {
  return item.labelled ? sampleCaption(item.labelled, random, captions) : random.pick(item.texts);
}

/** @throws MomeError `MOME_INVALID_FILE` unless each item has as many as the first */
function joinedTokens(tokens: readonly Int32Array[], items: number): Int32Array {
  const each = tokens[0]!.length;
  check(
    tokens.length === items && tokens.every(({ length }) => length === each),
    'MOME_INVALID_FILE',
    `data: expected ${each} visual tokens for each of ${items} items, got other numbers`,
  );
  const all = new Int32Array(items * each);
  for (const [i, part] of tokens.entries()) all.set(part, i * each);
  return all;
}
