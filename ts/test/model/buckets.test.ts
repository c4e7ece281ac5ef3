/** Batches whose sizes are rounded up to buckets, as a CUDA device takes them. */
import { describe, expect, it } from 'vitest';
import { imageTokensOf, presets } from '../../src/architecture/config.ts';
import { layoutBatch } from '../../src/model/batch.ts';
import { bucket } from '../../src/model/bucket.ts';
import { readBatch } from '../../src/model/reads.ts';

const config = presets.base;
const tokens = imageTokensOf(config);
const text = (length: number) => Int32Array.from({ length }, (_, i) => 100 + i);
const items = {
  texts: [text(5), text(7)],
  pairs: [
    { picture: 0, text: text(9) },
    { picture: 1, text: text(3) },
  ],
  images: [{ picture: 0 }],
};

describe('bucket', () => {
  it.each([1, 8, 64])(
    'in steps of %i holds every count, adds less than a step or an eighth, and is its own bucket',
    (step) => {
      let before = 0;
      for (let count = 1; count <= 300 * step; count++) {
        const size = bucket(count, step);
        expect(size).toBeGreaterThanOrEqual(count);
        expect(size - count).toBeLessThan(Math.max(step, count / 8));
        expect(size % step).toBe(0);
        expect(bucket(size, step)).toBe(size);
        expect(size).toBeGreaterThanOrEqual(before);
        before = size;
      }
    },
  );

  it('keeps nothing as nothing, and few sizes apart', () => {
    expect(bucket(0, 64)).toBe(0);
    const sizes = (most: number, step: number) =>
      new Set(Array.from({ length: most }, (_, i) => bucket(i + 1, step))).size;
    expect(sizes(64 * 197, 64)).toBe(45);
    expect(sizes(64, 1)).toBe(32);
    // 64 pictures fill a Hopper GPU evenly: not one more.
    expect(bucket(64, 1)).toBe(64);
  });
});

describe('a batch in buckets', () => {
  it('has rows of nobody before its texts, and sequences, kept rows and heads of nobody at their ends', () => {
    const { dims, inputs, counts, textCls, pairTextCls, pairImageCls, imageCls } = layoutBatch(config, items, 2, true);
    expect(dims).toEqual({
      rows: 64 + 3 * tokens,
      text_rows: 64,
      image_rows: 3 * tokens,
      text_begin: 40,
      text_only_end: 52,
      fused_end: 64 + 2 * tokens,
      image_end: 64 + 3 * tokens,
      sequences: 24,
      images: 3,
      pictures: 2,
      kept: 24,
      kept_text_end: 2,
      kept_fused_end: 4,
      kept_end: 5,
      texts: 8,
      pairs: 8,
      image_count: 8,
    });
    expect(counts).toEqual({ texts: 2, pairs: 2, image_count: 1 });
    expect([...textCls]).toEqual([40, 45]);
    expect([...pairTextCls]).toEqual([52, 61]);
    expect([...pairImageCls]).toEqual([64, 64 + tokens]);
    expect([...imageCls]).toEqual([64 + 2 * tokens]);
    expect([...inputs.sequences!.subarray(8, 12)]).toEqual([52, 9, 64, tokens]);
    expect([...inputs.sequences!.subarray(4 * 5)]).toEqual(Array(4 * 19).fill(0));
    // [PAD] at position 0, and the texts where their sequences say.
    expect([...inputs.text_ids!.subarray(0, 40)]).toEqual(Array(40).fill(0));
    expect([...inputs.text_ids!.subarray(52, 61)]).toEqual([...text(9)]);
    expect([...inputs.text_index!.subarray(59, 64)]).toEqual([7, 8, 0, 1, 2]);
    expect([...inputs.kept!]).toEqual([40, 45, 52, 61, 64 + 2 * tokens, ...Array(19).fill(0)]);
    expect([...inputs.kept_text!]).toEqual([0, 1, ...Array(6).fill(0)]);
    expect([...inputs.kept_pair!]).toEqual([2, 3, ...Array(6).fill(0)]);
    expect([...inputs.kept_image!]).toEqual([4, ...Array(7).fill(0)]);
  });

  it('has the rows that each head reads in place of CLS rows, and rounds their numbers up', () => {
    const reads = {
      embed: [1],
      match: [1],
      answer: [],
      reason: [0, 1],
      maskedTexts: [{ place: 0, positions: [2, 4] }],
      maskedPairs: [{ place: 1, positions: [1] }],
    };
    const { batch, own } = readBatch(layoutBatch(config, items, 2, true), reads, true);
    // Texts: an embedding and two masks. Pairs: a match, the two pictures of a statement, a mask.
    expect([...batch.inputs.kept!.subarray(0, 8)]).toEqual([45, 42, 44, 61, 52, 61, 62, 64 + 2 * tokens]);
    expect(batch.dims).toMatchObject({ kept: 40, kept_text_end: 3, kept_fused_end: 7, kept_end: 8, texts: 8 });
    expect(own.dims).toEqual({ matches: 8, questions: 0, views: 8, statements: 4, tokens: 8 });
    expect(batch.counts).toEqual({ texts: 1, image_count: 1, matches: 1, questions: 0, statements: 1, tokens: 3 });
    expect([...own.inputs.kept_match!]).toEqual([3, ...Array(7).fill(0)]);
    expect([...own.inputs.kept_reason!]).toEqual([4, 5, ...Array(6).fill(0)]);
    expect([...own.inputs.kept_mask!]).toEqual([1, 2, 6, ...Array(5).fill(0)]);
    expect([...batch.inputs.kept_text!]).toEqual([0, ...Array(7).fill(0)]);
    expect([...batch.inputs.kept_image!]).toEqual([7, ...Array(7).fill(0)]);
  });

  it('has images of nobody behind the last from 17 on', () => {
    const shown = Array.from({ length: 17 }, () => ({ picture: 1, type: 2 as const }));
    const { dims, inputs } = layoutBatch(config, { images: shown }, 2, true);
    expect(dims).toMatchObject({ images: 18, rows: 18 * tokens, image_end: 17 * tokens, text_rows: 0, text_begin: 0 });
    expect([...inputs.picture!]).toEqual([...Array(17).fill(1), 0]);
    expect([...inputs.type_index!]).toEqual([...Array(17).fill(2), 1]);
  });

  it('has the same sizes for other texts, and other ends alone', () => {
    const ends = new Set([
      'text_begin',
      'text_only_end',
      'fused_end',
      'image_end',
      'kept_text_end',
      'kept_fused_end',
      'kept_end',
    ]);
    const sizesOf = (texts: Int32Array[], pairs: Int32Array[]) => {
      const shown = pairs.map((pair) => ({ picture: 0, text: pair }));
      const { dims } = layoutBatch(config, { texts, pairs: shown, images: [{ picture: 0 }] }, 1, true);
      return Object.entries(dims).filter(([name]) => !ends.has(name));
    };
    const first = sizesOf([text(5), text(7)], [text(9), text(3)]);
    expect(sizesOf([text(20)], [text(1), text(40)])).toEqual(first);
    expect(sizesOf([text(20), text(3), text(2)], [text(1), text(30)])).toEqual(first);
  });

  it('is exact when not asked for', () => {
    const { dims, inputs, counts } = layoutBatch(config, items, 2);
    expect(dims).toMatchObject({
      text_rows: 24,
      text_begin: 0,
      image_end: dims.rows,
      kept_end: dims.kept,
      texts: 2,
      pairs: 2,
    });
    expect(dims).toMatchObject({ sequences: 5, kept: 5, images: 3, image_count: 1, rows: 24 + 3 * tokens });
    expect(counts).toEqual({ texts: 2, pairs: 2, image_count: 1 });
    expect(inputs.sequences).toHaveLength(20);
  });
});
