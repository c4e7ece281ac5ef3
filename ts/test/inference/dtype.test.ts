import { readFile, stat, truncate, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { convertCheckpoint, openCheckpoint, readTensor, writeSafetensors } from '../../src/checkpoint/index.ts';
import { quantiseRows } from '../../src/checkpoint/quantise.ts';
import { Vlmo } from '../../src/inference/vlmo.ts';
import { addon, type DType } from '../../src/runtime/addon.ts';
import { verifyCase } from '../../src/verify/index.ts';
import { expectCode, golden, temporaryFolder, testImage, tinyModel } from '../helpers.ts';

const images = Array.from({ length: 3 }, (_, i) => testImage(i + 1, 40 + 7 * i));
const texts = ['a red square', 'blue', ''];
let folder = '';
beforeAll(async () => {
  folder = await tinyModel();
});

const cosine = (a: Float32Array, b: Float32Array) => {
  const dot = (x: Float32Array, y: Float32Array) => x.reduce((sum, value, i) => sum + value * y[i]!, 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
};

describe.each(addon().cpuInfo().targets)('on %s', (target) => {
  it.each(['bfloat16', 'int8'] as const)('%s rows do not depend on neighbours, place or threads', async (dtype) => {
    await using one = await Vlmo.load(folder, { target, dtype, threads: 1 });
    await using three = await Vlmo.load(folder, { target, dtype, threads: 3 });
    expect(one.dtype).toBe(dtype);
    const pairs = images.map((image, i) => ({ image, text: texts[i]! }));
    const together = await one.embedTexts(texts);
    const matches = await three.match([...pairs].reverse());
    for (const [i, text] of texts.entries()) {
      const alone = (await three.embedTexts([text])).embeddings;
      expect(together.embeddings.subarray(i * 48, (i + 1) * 48)).toEqual(alone);
      expect(matches[texts.length - 1 - i]).toBe((await one.match([pairs[i]!]))[0]);
    }
  });

  it.each(['bfloat16', 'int8'] as const)('%s outputs point where the recorded ones do', async (dtype) => {
    const report = await verifyCase(golden('tiny_absolute'), { target, dtype });
    expect(report).toMatchObject({ passed: true, dtype, failed: 0 });
    expect(report.checks.every(({ measure, kind }) => measure === 'cosine' && kind === 'output')).toBe(true);
    expect(report.checks.some(({ relL2 }) => relL2 > 1e-5)).toBe(true); // it did round
  });
});

describe('int8 files', () => {
  let converted = '';
  beforeAll(async () => {
    converted = await temporaryFolder();
    await convertCheckpoint(folder, converted, { dtype: 'int8' });
  });

  it('give the bits of weights that were rounded at load, and are int8 by themselves', async () => {
    await using ahead = await Vlmo.load(converted);
    await using atLoad = await Vlmo.load(folder, { dtype: 'int8' });
    expect(ahead.dtype).toBe('int8');
    expect((await ahead.embedImages(images)).embeddings).toEqual((await atLoad.embedImages(images)).embeddings);
    expect((await ahead.embedTexts(texts)).embeddings).toEqual((await atLoad.embedTexts(texts)).embeddings);
  });

  it('can be run in float32', async () => {
    await using model = await Vlmo.load(converted, { dtype: 'float32' });
    await using exact = await Vlmo.load(folder);
    const [a, b] = [await model.embedImages(images), await exact.embedImages(images)];
    expect(cosine(a.embeddings, b.embeddings)).toBeGreaterThan(0.999);
  });

  it('hold scales beside the matrices of the blocks, and nothing else in 8 bits', async () => {
    const { entries } = await openCheckpoint(join(converted, 'model.safetensors'));
    const name = 'transformer.blocks.0.attn.qkv.weight';
    expect(entries.get(name)).toMatchObject({ dtype: 'I8', scale: { dtype: 'F32', shape: [144] } });
    expect(entries.has(`${name}.scale`)).toBe(false);
    expect(entries.get('pooler.dense.weight')!.dtype).toBe('F32');
    const original = await readTensor((await openCheckpoint(join(folder, 'model.safetensors'))).entries.get(name)!);
    const restored = await readTensor(entries.get(name)!);
    expect(cosine(original, restored)).toBeGreaterThan(0.999);
    const size = async (path: string) => (await stat(join(path, 'model.safetensors'))).size;
    expect(await size(converted)).toBeLessThan(0.6 * (await size(folder)));
  });

  it('are refused when scales do not fit', async () => {
    const path = join(await temporaryFolder(), 'model.safetensors');
    await writeSafetensors(path, [
      { name: 'w', dtype: 'I8', shape: [2, 2], data: new Int8Array(4) },
      { name: 'w.scale', dtype: 'F32', shape: [3], data: new Float32Array(3) },
    ]);
    await expectCode(() => openCheckpoint(path), 'MOME_INVALID_FILE');
  });
});

describe('quantiseRows', () => {
  it('stays within half a step, and changes nothing the second time', async () => {
    const numbers = fc.array(fc.float({ noNaN: true, noDefaultInfinity: true, min: -(2 ** 60), max: 2 ** 60 }), {
      minLength: 1,
      maxLength: 40,
    });
    await fc.assert(
      fc.asyncProperty(numbers, async (values) => {
        const data = Float32Array.from(values);
        const { values: q, scales } = await quantiseRows(data, 1);
        const scale = scales[0]!;
        const restored = Float32Array.from(q, (value) => value * scale);
        // Below the smallest normal number a scale cannot be held exactly.
        if (scale > 2 ** -110) {
          for (const [i, value] of data.entries())
            expect(Math.abs(value - restored[i]!)).toBeLessThanOrEqual(0.5001 * scale);
          expect(await quantiseRows(restored, 1)).toEqual({ values: q, scales });
        }
      }),
    );
  });

  it('rounds ties to even, as the kernels do', async () => {
    expect([...(await quantiseRows(Float32Array.of(127, 0.5, 1.5, -2.5), 1)).values]).toEqual([127, 0, 2, -2]);
    expect((await quantiseRows(Float32Array.of(1, Number.NaN), 1)).scales[0]).toBeNaN();
  });
});

describe('loading', () => {
  it('refuses a type it does not know', async () => {
    await expectCode(() => Vlmo.load(folder, { dtype: 'float16' as DType }), 'MOME_INVALID_ARGUMENT');
  });

  it('gives each type a fingerprint of its own: an index of one is not searched with another', async () => {
    await using float32 = await Vlmo.load(folder);
    await using int8 = await Vlmo.load(folder, { dtype: 'int8' });
    expect(int8.fingerprint).not.toBe(float32.fingerprint);
  });

  it('gives an error, not other numbers, when the file changes before its weights are read', async () => {
    const copy = await temporaryFolder();
    await convertCheckpoint(folder, copy);
    const path = join(copy, 'model.safetensors');
    const { length } = await readFile(path);
    await using touched = await Vlmo.load(copy);
    await utimes(path, 1, 1);
    await expectCode(() => touched.embedImages(images), 'MOME_IO');
    await using cut = await Vlmo.load(copy);
    await truncate(path, length / 2);
    await expectCode(() => cut.embedImages(images), 'MOME_IO');
  });
});
