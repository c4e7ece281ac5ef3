/**
 * Lays out a ragged batch: which rows each sequence takes, in the modality-sorted order the encoder expects.
 */

import { imageTokensOf, type VlmoConfig } from '../architecture/config.ts';
import type { RunSizes } from '../graph/index.ts';
import { MomeError } from '../runtime/errors.ts';
import { bucket, imageStep, sequenceStep, textRowStep } from './bucket.ts';
import type { BatchArrays, BatchSizes, countDims, keptDims, Reader } from './contract.ts';

/** A text as word pieces with CLS and SEP: 1 to `maxTextLength` ids. */
export type TokenIds = Int32Array;

/** A picture of the batch and its token type (1, or 2 for the second picture of a pair). */
export interface ImageItem {
  readonly picture: number;
  readonly type?: 1 | 2;
}

/** The items of a batch: any mix of the three kinds of sequence. */
export interface BatchItems {
  /** Text-only sequences. */
  readonly texts?: readonly TokenIds[];
  /** Fused sequences. */
  readonly pairs?: readonly (ImageItem & { readonly text: TokenIds })[];
  /** Image-only sequences. */
  readonly images?: readonly ImageItem[];
}

/** Sizes and index inputs of a run; `R` names what reads kept rows. */
export interface BatchInputs<R extends Reader = never> {
  readonly dims: BatchSizes;
  readonly inputs: BatchArrays & KeptArrays<R>;
}

type KeptArrays<R extends Reader> = { readonly [K in R as `kept_${K}`]: Int32Array };

/** Sizes, index inputs and row positions of a laid-out batch. Its CLS rows are kept; `keepRows` chooses others. */
export interface Batch extends BatchInputs<'text' | 'pair' | 'image'> {
  readonly dims: BatchSizes & RunSizes<keyof typeof countDims>;
  /** Rows of `kept_text`, `kept_pair` and `kept_image` that are sequences, by the dimension that counts all: the first ones. */
  readonly counts: RunSizes<keyof typeof countDims>;
  /** CLS row of each text-only sequence. */
  readonly textCls: Int32Array;
  /** Text CLS row of each fused sequence: its text rows follow. */
  readonly pairTextCls: Int32Array;
  /** Image CLS row of each fused sequence. */
  readonly pairImageCls: Int32Array;
  /** CLS row of each image-only sequence. */
  readonly imageCls: Int32Array;
  /** Sum over sequences of tokens squared, which the cost of attention is proportional to. */
  readonly scorePairs: number;
}

/**
 * @param pictures number of distinct pictures whose pixels the run gives
 * @param inBuckets whether sizes are rounded up, so that a device meets them again. The rows added belong to no sequence and no expert:
 *   text rows lie before the first text, images behind the last; padded index entries point at row 0
 * @throws MomeError `MOME_INVALID_ARGUMENT` for a text that is empty or too long, or a picture out of range
 */
export function layoutBatch(config: VlmoConfig, items: BatchItems, pictures: number, inBuckets = false): Batch {
  const { texts = [], pairs = [], images = [] } = items;
  const tokens = imageTokensOf(config);
  const rounded = (count: number, step: number) => (inBuckets ? bucket(count, step) : count);
  let usedTextRows = 0;
  for (let i = 0; i < texts.length; i++) usedTextRows += checkedLength(config, texts[i]!, i);
  const textOnlyRows = usedTextRows;
  for (let i = 0; i < pairs.length; i++) usedTextRows += checkedLength(config, pairs[i]!.text, texts.length + i);
  const textRows = rounded(usedTextRows, textRowStep);
  const textBegin = textRows - usedTextRows;
  const shownCount = pairs.length + images.length;
  const imageCount = rounded(shownCount, imageStep);
  const fusedEnd = textRows + pairs.length * tokens;
  const imageEnd = textRows + shownCount * tokens;
  const rows = textRows + imageCount * tokens;
  const roundedCount = (count: number) => rounded(count, sequenceStep);
  const sequenceCount = roundedCount(texts.length) + roundedCount(pairs.length) + roundedCount(images.length);

  const ids = new Int32Array(textRows);
  const index = new Int32Array(textRows);
  const sequences = new Int32Array(4 * sequenceCount);
  const picture = new Int32Array(imageCount);
  const typeIndex = new Int32Array(imageCount);
  for (let i = 0; i < imageCount; i++) {
    const item = i < pairs.length ? pairs[i] : images[i - pairs.length];
    picture[i] = item?.picture ?? 0;
    typeIndex[i] = item?.type ?? 1;
    if (picture[i]! >= 0 && picture[i]! < pictures) continue;
    const message = `batch: expected picture of image ${i} in [0, ${pictures}), got ${picture[i]}`;
    throw new MomeError('MOME_INVALID_ARGUMENT', message);
  }
  const textCls = new Int32Array(texts.length);
  const pairTextCls = new Int32Array(pairs.length);
  const pairImageCls = new Int32Array(pairs.length);
  const imageCls = new Int32Array(images.length);

  let row = textBegin;
  let sequence = 0;
  let scorePairs = 0;
  const placeText = (text: TokenIds): number => {
    ids.set(text, row);
    for (let i = 0; i < text.length; i++) index[row + i] = i;
    row += text.length;
    return row - text.length;
  };
  const place = (textBegin: number, textLength: number, imageBegin: number, imageLength: number): void => {
    const at = 4 * sequence++;
    sequences[at] = textBegin;
    sequences[at + 1] = textLength;
    sequences[at + 2] = imageBegin;
    sequences[at + 3] = imageLength;
    scorePairs += (textLength + imageLength) ** 2;
  };
  for (let i = 0; i < texts.length; i++) {
    textCls[i] = placeText(texts[i]!);
    place(textCls[i]!, texts[i]!.length, 0, 0);
  }
  for (let i = 0; i < pairs.length; i++) {
    const { text } = pairs[i]!;
    pairTextCls[i] = placeText(text);
    pairImageCls[i] = textRows + i * tokens;
    place(pairTextCls[i]!, text.length, pairImageCls[i]!, tokens);
  }
  for (let i = 0; i < images.length; i++) {
    imageCls[i] = fusedEnd + i * tokens;
    place(0, 0, imageCls[i]!, tokens);
  }
  const kept = keepRows(
    { texts: { text: textCls }, pairs: { pair: pairTextCls }, images: { image: imageCls } },
    roundedCount,
  );
  return {
    dims: {
      rows,
      text_rows: textRows,
      image_rows: rows - textRows,
      text_begin: textBegin,
      text_only_end: textBegin + textOnlyRows,
      fused_end: fusedEnd,
      image_end: imageEnd,
      sequences: sequenceCount,
      images: imageCount,
      pictures,
      ...kept.dims,
      texts: roundedCount(texts.length),
      pairs: roundedCount(pairs.length),
      image_count: roundedCount(images.length),
    },
    inputs: {
      text_ids: ids,
      text_index: index,
      sequences,
      picture,
      type_index: typeIndex,
      ...kept.inputs,
    },
    counts: { texts: texts.length, pairs: pairs.length, image_count: images.length },
    textCls,
    pairTextCls,
    pairImageCls,
    imageCls,
    scorePairs,
  };
}

/** The sizes and inputs of a run that say which rows are kept. */
export interface KeptRows<R extends Reader> {
  readonly dims: RunSizes<keyof typeof keptDims>;
  readonly inputs: Pick<BatchArrays, 'kept'> & KeptArrays<R>;
}

/** Rows of one kind of sequence by the name of their reader. */
type Readers<R extends Reader> = { readonly [K in R]: Int32Array };

/**
 * The rows that are read after the encoder, so that its last block can leave out all others: input `kept`, and for each reader the
 * places of its rows among them, `kept_<reader>`. A reader of several kinds of sequences has those of texts first, then of pairs.
 *
 * @param rounded rounds up the number of a reader's rows; padded entries point at row 0 of the batch and place 0
 */
export function keepRows<T extends Reader = never, P extends Reader = never, I extends Reader = never>(
  parts: { readonly texts?: Readers<T>; readonly pairs?: Readers<P>; readonly images?: Readers<I> },
  rounded: (count: number) => number = (count) => count,
): KeptRows<T | P | I> {
  const places = new Map<string, number[]>();
  const rows: number[] = [];
  const keep = (readers: Readonly<Record<string, Int32Array>> = {}): number => {
    for (const reader in readers) {
      const own = places.get(reader) ?? [];
      places.set(reader, own);
      for (const row of readers[reader]!) own.push(rows.push(row) - 1);
    }
    return rows.length;
  };
  const textEnd = keep(parts.texts);
  const fusedEnd = keep(parts.pairs);
  const end = keep(parts.images);
  let count = 0;
  const inputs: Record<string, Int32Array> = {};
  for (const [reader, own] of places) {
    const padded = new Int32Array(rounded(own.length));
    padded.set(own);
    inputs[`kept_${reader}`] = padded;
    count += padded.length;
  }
  const kept = new Int32Array(count);
  kept.set(rows);
  return {
    dims: { kept: count, kept_text_end: textEnd, kept_fused_end: fusedEnd, kept_end: end },
    inputs: { ...(inputs as KeptArrays<T | P | I>), kept },
  };
}

/**
 * Outputs without the rows that round their size up.
 *
 * @param outputRows the dimension that counts the rows of each output
 */
export function withoutSurplus<O extends Readonly<Record<string, Float32Array>>>(
  {
    counts,
    dims,
  }: { readonly counts: Readonly<Record<string, number>>; readonly dims: Readonly<Record<string, number>> },
  outputRows: Readonly<Record<string, string>>,
  outputs: O,
): O {
  const cut = (values: Float32Array, counter: string | undefined): Float32Array => {
    const [count, all] = counter === undefined ? [] : [counts[counter], dims[counter]];
    if (count === undefined || all === undefined || count === all) return values;
    return values.slice(0, (values.length / all) * count);
  };
  const whole = Object.entries(outputs).map(([name, values]) => [name, cut(values, outputRows[name])]);
  return Object.fromEntries(whole) as O;
}

function checkedLength({ maxTextLength }: VlmoConfig, { length }: TokenIds, i: number): number {
  if (length >= 1 && length <= maxTextLength) return length;
  const message = `batch: expected text ${i} to have 1 to ${maxTextLength} tokens, got ${length}`;
  throw new MomeError('MOME_INVALID_ARGUMENT', message);
}
