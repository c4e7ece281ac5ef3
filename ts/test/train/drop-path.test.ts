import { describe, expect, it } from 'vitest';
import { presets } from '../../src/architecture/config.ts';
import { keepRows, layoutBatch } from '../../src/model/batch.ts';
import { drawDropPath, dropPathRows } from '../../src/train/drop-path.ts';

describe('drop path', () => {
  it('scales all rows of a sequence alike, and in the last block the kept rows of each', () => {
    const config = { ...presets.base, imageSize: 32, layers: 3, firstVlLayer: 2 };
    const text = (length: number) => Int32Array.from({ length }, (_, i) => i);
    const pairs = [3, 4, 2].map((length) => ({ text: text(length), picture: 0 }));
    const layout = layoutBatch(config, { pairs }, 1);
    const { pairTextCls, pairImageCls } = layout;
    const read = Int32Array.of(pairTextCls[2]! + 1, pairTextCls[0]! + 2, pairTextCls[1]!);
    const kept = keepRows({ pairs: { mlm: read } });
    const batch = { dims: { ...layout.dims, ...kept.dims }, inputs: { ...layout.inputs, ...kept.inputs } };
    // Of each branch the second sequence is dropped.
    let draws = 0;
    const random = { chance: () => draws++ % 3 !== 1 };
    const scales = dropPathRows(
      config,
      batch,
      drawDropPath(config, [true, true, true], 0.5, ['block', 'branch'], random),
    );
    expect(Object.keys(scales)).toHaveLength(2 * 3 + 2);
    const middle = scales['drop_path.block.1.attention']!;
    expect(middle).toHaveLength(layout.dims.rows!);
    const rowsOf = (i: number) => [pairTextCls[i]!, pairTextCls[i]! + 1, pairImageCls[i]!, pairImageCls[i]! + 4];
    for (const i of [0, 1, 2]) for (const row of rowsOf(i)) expect(middle[row]).toBeCloseTo(i === 1 ? 0 : 1 / 0.75);
    for (const name of ['block.2.attention', 'block.2.ffn', 'branch.2.attention', 'branch.2.ffn'] as const)
      expect([...scales[`drop_path.${name}`]!]).toEqual([2, 2, 0]);
  });

  it('drops the experts of a fused sequence apart where it is asked to, below the first VL layer', () => {
    const config = { ...presets.base, imageSize: 32, layers: 3, firstVlLayer: 2 };
    const text = Int32Array.of(1, 2);
    const layout = layoutBatch(config, { texts: [text], pairs: [{ text, picture: 0 }], images: [{ picture: 0 }] }, 1);
    // Every second draw drops.
    let draws = 0;
    const random = { chance: () => draws++ % 2 === 0 };
    const scales = dropPathRows(
      config,
      layout,
      drawDropPath(config, [false, true, false], 0.5, ['block'], random, true),
    );
    const [alone, fusedText, fusedImage, image] = [
      layout.textCls[0]!,
      layout.pairTextCls[0]!,
      layout.pairImageCls[0]!,
      layout.imageCls[0]!,
    ];
    const of = (name: `drop_path.block.${number}.${'attention' | 'ffn'}`) =>
      [alone, fusedText, fusedImage, image].map((row) => scales[name]![row]! > 0);
    // Three draws for three sequences in attention, and four for the four parts below the first VL layer.
    expect(of('drop_path.block.0.attention')).toEqual([true, false, false, true]);
    expect(of('drop_path.block.0.ffn')).toEqual([false, true, false, true]);
    expect(of('drop_path.block.1.attention')).toEqual([false, true, true, false]);
    expect(of('drop_path.block.1.ffn')).toEqual([true, false, true, false]);
    expect(draws).toBe(3 + 4 + 3 + 4 + 3 + 3);
  });
});
