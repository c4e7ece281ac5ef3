/** Batches whose text rows are rounded up, as a CUDA device takes them. */
import { expect, it } from 'vitest';
import { layoutBatch } from '../../src/model/batch.ts';
import { imageTokensOf, presets } from '../../src/model/config.ts';

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

it('begins every part at a multiple of the step, with rows of no sequence behind its texts', () => {
  const { dims, inputs, textCls, pairTextCls, pairImageCls, imageCls } = layoutBatch(config, items, 2, 64);
  expect(dims).toMatchObject({
    text_only_end: 64,
    text_rows: 128,
    fused_end: 128 + 2 * tokens,
    rows: 128 + 3 * tokens,
  });
  expect([...textCls]).toEqual([0, 5]);
  expect([...pairTextCls]).toEqual([64, 73]);
  expect([...pairImageCls]).toEqual([128, 128 + tokens]);
  expect([...imageCls]).toEqual([128 + 2 * tokens]);
  expect([...inputs.sequences!.subarray(8, 12)]).toEqual([64, 9, 128, tokens]);
  // [PAD] at position 0, and the texts where their sequences say.
  expect([...inputs.text_ids!.subarray(12, 64)]).toEqual(Array(52).fill(0));
  expect([...inputs.text_ids!.subarray(64, 73)]).toEqual([...text(9)]);
  expect([...inputs.text_index!.subarray(73, 80)]).toEqual([0, 1, 2, 0, 0, 0, 0]);
});

it('has the same sizes for texts of other lengths, and none where there are no texts', () => {
  const other = layoutBatch(config, { ...items, texts: [text(20), text(1)] }, 2, 64);
  expect(other.dims).toEqual(layoutBatch(config, items, 2, 64).dims);
  expect(layoutBatch(config, { images: [{ picture: 0 }] }, 1, 64).dims.text_rows).toBe(0);
  expect(layoutBatch(config, items, 2).dims.text_rows).toBe(24);
});
