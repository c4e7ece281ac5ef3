/** The quantised forms of exported graphs, run by ONNX Runtime and held to the float32 graph. */
import { readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { different, unlike } from '../../../bench/answers.mjs';
import { productsOf, quantiseColumns, quantiseGraphs, unsignedRange } from '../../../bench/peers/onnx-int8.mjs';
import { exportOnnx } from '../../src/export/onnx.ts';
import { decodeModel, encodeModel } from '../../src/graph/index.ts';
import { packageRoot } from '../../src/runtime/addon.ts';
import { temporaryFolder } from '../helpers.ts';
import { runOnnx } from '../onnx-runtime.ts';

describe('quantising', () => {
  it('rounds each column of a weight by its own scale', () => {
    // Two columns: the largest is 12.7 in one and 1 in the other; a column of zeros stays so.
    const { bytes, scales } = quantiseColumns(Float32Array.of(12.7, -1, 0, -6.36, 0.5, 0), 3, 127);
    expect([...bytes]).toEqual([127, -127, 0, -64, 64, 0]);
    expect(scales[0]).toBeCloseTo(0.1, 6);
    expect(scales[1]).toBeCloseTo(1 / 127, 6);
    expect([...quantiseColumns(Float32Array.of(2, -1), 1, 63).bytes]).toEqual([63, -31]);
  });

  it('gives ranges that hold zero exactly', () => {
    expect(unsignedRange(-1, 3)).toEqual({ scale: Math.fround(4 / 255), zero: 64 });
    expect(unsignedRange(1, 2.55)).toEqual({ scale: Math.fround(0.01), zero: 0 });
    expect(unsignedRange(-2.55, -1)).toEqual({ scale: Math.fround(0.01), zero: 255 });
    expect(unsignedRange(0, 0).scale).toBeGreaterThan(0);
  });

  it('tells answers apart', () => {
    expect(different([1, 2], [1, 2.001], 1e-3)).toBeUndefined();
    expect(different([1, 2], [1, 2.1], 1e-3)).toContain('differs by');
    expect(different([1], [1, 2], 1e-3)).toBeDefined();
    expect(unlike([1, 2], [2, 4], 0.999)).toBeUndefined();
    expect(unlike([1, -2], [1, 2], 0.99)).toContain('has a cosine of -0.6');
    expect(unlike([Number.NaN, 2], [1, 2], 0.99)).toBeDefined();
  });
});

describe('quantised graphs', () => {
  it('answer like the float32 graph, and a planted error in their weights is noticed', async () => {
    const ort = createRequire(join(packageRoot(), 'bench', 'package.json'))('onnxruntime-node');
    const folder = await temporaryFolder();
    const { config } = await exportOnnx(undefined, folder, { only: ['image'] });
    const size = config.imageSize;
    const pixels = Float32Array.from(
      { length: 2 * 3 * size ** 2 },
      (_, i) => Math.sin(i * 0.37) + Math.sin(i * 0.0021),
    );
    const sample = { pixels: new ort.Tensor('float32', pixels, [2, 3, size, size]) };
    const run = async (file: string) => [...(await runOnnx(join(folder, file), { pixels, size })).image_embed!.data];
    const exact = await run('image.onnx');
    const files = await quantiseGraphs(ort, folder, 'image', [sample], { weightLimit: 63 });
    expect(Object.keys(files)).toEqual(['dynamic', 'QDQ']);
    for (const file of Object.values(files)) {
      const model = decodeModel(await readFile(join(folder, file)));
      const left = productsOf(model.graph).length;
      expect(left, 'float32 products').toBe(0);
      const answer = await run(file);
      expect(unlike(answer, exact, 0.99)).toBeUndefined();
      expect(different(answer, exact, 1e-4), 'a graph that was not quantised').toBeDefined();
      // The same with the scales of one product in three ten times too large.
      let seen = 0;
      const initializer = model.graph.initializer.map((each) => {
        if (!/transposed\.scale$/.test(each.name) || ++seen % 3 > 0) return each;
        const scales = new Float32Array(Uint8Array.from(each.raw_data!).buffer).map((scale) => 10 * scale);
        return { ...each, raw_data: new Uint8Array(scales.buffer) };
      });
      const planted = { ...model, graph: { ...model.graph, initializer } };
      await writeFile(join(folder, `planted-${file}`), encodeModel(planted));
      expect(unlike(await run(`planted-${file}`), exact, 0.99)).toBeDefined();
    }
  });
});
