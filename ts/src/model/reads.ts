/** What `together` reads of a batch: for each head the rows of its own sequences. */
import { type Batch, keepRows } from './batch.ts';
import { bucket, sequenceStep } from './bucket.ts';
import type { OwnArguments, together } from './functions.ts';

/** Word pieces of one sequence that are filled in: its place among its kind, and theirs in its text. */
export interface Masked {
  readonly place: number;
  readonly positions: readonly number[];
}

/** Sequences of a batch by the head that reads them: places among its texts, or among its pairs. All images are embedded. */
export interface Reads {
  /** Texts. */
  readonly embed: readonly number[];
  /** Pairs. */
  readonly match: readonly number[];
  readonly answer: readonly number[];
  /** Pairs, two of each statement. */
  readonly reason: readonly number[];
  readonly maskedTexts: readonly Masked[];
  readonly maskedPairs: readonly Masked[];
}

/** The rows of a batch that are read, and how many there are: those that round a size up do not count. */
export interface ReadBatch extends Omit<Batch, 'counts'> {
  readonly counts: Readonly<
    Record<'texts' | 'image_count' | 'matches' | 'questions' | 'statements' | 'tokens', number>
  >;
}

/**
 * @param inBuckets as of `layoutBatch`
 * @returns the batch with the rows that are read in place of its CLS rows, and what `together` takes besides
 */
export function readBatch(
  batch: Batch,
  reads: Reads,
  inBuckets = false,
): { readonly batch: ReadBatch; readonly own: OwnArguments<ReturnType<typeof together>> } {
  const rowsOf = (cls: Int32Array, places: readonly number[]) => Int32Array.from(places, (place) => cls[place]!);
  const maskRows = (cls: Int32Array, masked: readonly Masked[]) =>
    Int32Array.from(masked.flatMap(({ place, positions }) => positions.map((position) => cls[place]! + position)));
  const { textCls, pairTextCls, imageCls } = batch;
  const kept = keepRows(
    {
      texts: { text: rowsOf(textCls, reads.embed), mask: maskRows(textCls, reads.maskedTexts) },
      pairs: {
        match: rowsOf(pairTextCls, reads.match),
        answer: rowsOf(pairTextCls, reads.answer),
        reason: rowsOf(pairTextCls, reads.reason),
        mask: maskRows(pairTextCls, reads.maskedPairs),
      },
      images: { image: imageCls },
    },
    inBuckets ? (count) => bucket(count, sequenceStep) : undefined,
  );
  const { kept_match, kept_answer, kept_reason, kept_mask } = kept.inputs;
  return {
    batch: {
      ...batch,
      dims: { ...batch.dims, ...kept.dims, texts: kept.inputs.kept_text.length },
      inputs: { ...batch.inputs, ...kept.inputs },
      counts: {
        texts: reads.embed.length,
        image_count: imageCls.length,
        matches: reads.match.length,
        questions: reads.answer.length,
        statements: reads.reason.length / 2,
        tokens: [...reads.maskedTexts, ...reads.maskedPairs].reduce((sum, { positions }) => sum + positions.length, 0),
      },
    },
    own: {
      dims: {
        matches: kept_match.length,
        questions: kept_answer.length,
        views: kept_reason.length,
        statements: kept_reason.length / 2,
        tokens: kept_mask.length,
      },
      inputs: { kept_match, kept_answer, kept_reason, kept_mask },
    },
  };
}
