/**
 * Lays out a ragged batch: which rows each sequence takes, in the modality-sorted order the encoder expects.
 */
import { check } from '../runtime/errors.ts';
import { imageTokensOf, type VlmoConfig } from './config.ts';

/** A text as word pieces with CLS and SEP: 1 to `maxTextLength` ids. */
export type TokenIds = Int32Array;

/** A picture of the batch and its token type (1, or 2 for the second picture of a pair). */
export interface ImageItem {
  readonly picture: number;
  readonly type?: 1 | 2;
}

/** What a batch holds: any mix of the three kinds of sequence. */
export interface BatchItems {
  /** Text-only sequences. */
  readonly texts?: readonly TokenIds[];
  /** Fused sequences. */
  readonly pairs?: readonly (ImageItem & { readonly text: TokenIds })[];
  /** Image-only sequences. */
  readonly images?: readonly ImageItem[];
}

/** Sizes and index inputs of a run. */
export interface BatchInputs {
  readonly dims: Readonly<Record<string, number>>;
  readonly inputs: Readonly<Record<string, Int32Array>>;
}

/** Sizes, index inputs and row positions of a laid-out batch. What is kept are its CLS rows: `keepRows` chooses others. */
export interface Batch extends BatchInputs {
  /** CLS row of each text-only sequence. */
  readonly textCls: Int32Array;
  /** Text CLS row of each fused sequence: its text rows follow. */
  readonly pairTextCls: Int32Array;
  /** Image CLS row of each fused sequence. */
  readonly pairImageCls: Int32Array;
  /** CLS row of each image-only sequence. */
  readonly imageCls: Int32Array;
  /** Sum over sequences of tokens squared: what attention costs. */
  readonly scorePairs: number;
}

/**
 * What the text rows of a part are rounded up to on a CUDA device: texts of other lengths then make the same launches, which are
 * recorded once. The rows added belong to no sequence.
 */
export const deviceRowStep = 64;

/**
 * @param pictures number of distinct pictures whose pixels the run gives
 * @param rowStep each part's text rows are rounded up to a multiple of it
 * @throws MomeError `MOME_INVALID_ARGUMENT` for a text that is empty or too long, or a picture out of range
 */
export function layoutBatch(config: VlmoConfig, items: BatchItems, pictures: number, rowStep = 1): Batch {
  const { texts = [], pairs = [], images = [] } = items;
  for (const [i, text] of [...texts, ...pairs.map((pair) => pair.text)].entries()) {
    check(
      text.length >= 1 && text.length <= config.maxTextLength,
      'MOME_INVALID_ARGUMENT',
      `batch: expected text ${i} to have 1 to ${config.maxTextLength} tokens, got ${text.length}`,
    );
  }
  const tokens = imageTokensOf(config);
  const stepped = (count: number) => Math.ceil(count / rowStep) * rowStep;
  const textOnlyEnd = stepped(total(texts));
  const textRows = textOnlyEnd + stepped(total(pairs.map((pair) => pair.text)));
  const fusedEnd = textRows + pairs.length * tokens;
  const rows = fusedEnd + images.length * tokens;
  const sequenceCount = texts.length + pairs.length + images.length;

  const ids = new Int32Array(textRows);
  const index = new Int32Array(textRows);
  const sequences = new Int32Array(4 * sequenceCount);
  const shown = [...pairs, ...images];
  const picture = Int32Array.from(shown, (item) => item.picture);
  const typeIndex = Int32Array.from(shown, (item) => item.type ?? 1);
  for (const [i, shows] of picture.entries()) {
    check(
      shows >= 0 && shows < pictures,
      'MOME_INVALID_ARGUMENT',
      `batch: expected picture of image ${i} in [0, ${pictures}), got ${shows}`,
    );
  }
  const textCls = new Int32Array(texts.length);
  const pairTextCls = new Int32Array(pairs.length);
  const pairImageCls = new Int32Array(pairs.length);
  const imageCls = new Int32Array(images.length);

  let row = 0;
  let sequence = 0;
  let scorePairs = 0;
  const placeText = (text: TokenIds): number => {
    ids.set(text, row);
    for (let i = 0; i < text.length; i++) index[row + i] = i;
    row += text.length;
    return row - text.length;
  };
  const place = (textBegin: number, textLength: number, imageBegin: number, imageLength: number): void => {
    sequences.set([textBegin, textLength, imageBegin, imageLength], 4 * sequence++);
    scorePairs += (textLength + imageLength) ** 2;
  };
  for (const [i, text] of texts.entries()) {
    textCls[i] = placeText(text);
    place(textCls[i]!, text.length, 0, 0);
  }
  row = textOnlyEnd;
  for (const [i, pair] of pairs.entries()) {
    pairTextCls[i] = placeText(pair.text);
    pairImageCls[i] = textRows + i * tokens;
    place(pairTextCls[i]!, pair.text.length, pairImageCls[i]!, tokens);
  }
  for (let i = 0; i < images.length; i++) {
    imageCls[i] = fusedEnd + i * tokens;
    place(0, 0, imageCls[i]!, tokens);
  }
  const kept = keepRows({ texts: { text: textCls }, pairs: { pair: pairTextCls }, images: { image: imageCls } });
  return {
    dims: {
      rows,
      text_rows: textRows,
      image_rows: rows - textRows,
      text_only_end: textOnlyEnd,
      fused_end: fusedEnd,
      sequences: sequenceCount,
      images: shown.length,
      pictures,
      ...kept.dims,
    },
    inputs: {
      text_ids: ids,
      text_index: index,
      sequences,
      picture,
      type_index: typeIndex,
      ...kept.inputs,
    },
    textCls,
    pairTextCls,
    pairImageCls,
    imageCls,
    scorePairs,
  };
}

/** Rows of one kind of sequence by the name of what reads them. */
type Readers = Readonly<Record<string, Int32Array>>;

/**
 * The rows that are read after the encoder, so that its last block can leave out all others: input `kept`, and for each reader the
 * places of its rows among them, `kept_<reader>`.
 */
export function keepRows(parts: {
  readonly texts?: Readers;
  readonly pairs?: Readers;
  readonly images?: Readers;
}): BatchInputs {
  const inputs: Record<string, Int32Array> = {};
  const rows: number[] = [];
  const keep = (readers: Readers = {}): number => {
    for (const [reader, own] of Object.entries(readers)) {
      inputs[`kept_${reader}`] = Int32Array.from(own, (_, i) => rows.length + i);
      for (const row of own) rows.push(row);
    }
    return rows.length;
  };
  const [textEnd, fusedEnd, end] = [keep(parts.texts), keep(parts.pairs), keep(parts.images)];
  return {
    dims: { kept: end, kept_text_end: textEnd, kept_fused_end: fusedEnd },
    inputs: { ...inputs, kept: Int32Array.from(rows) },
  };
}

function total(texts: readonly TokenIds[]): number {
  return texts.reduce((sum, text) => sum + text.length, 0);
}
