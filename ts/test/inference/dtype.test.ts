import { cp, readFile, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  convertCheckpoint,
  loadParameterValues,
  openCheckpoint,
  openSafetensors,
  readElements,
  readTensor,
  type TensorToWrite,
  writeSafetensors,
} from '../../src/checkpoint/index.ts';
import { quantiseRows } from '../../src/checkpoint/quantise.ts';
import { Vlmo } from '../../src/inference/index.ts';
import { addon, type DType } from '../../src/runtime/addon.ts';
import type { ErrorCode } from '../../src/runtime/errors.ts';
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

  it('give the bits of matrices that were rounded at load, and are int8 by themselves', async () => {
    // The same model with the matrices of its blocks as they were.
    const { entries } = await openCheckpoint(join(converted, 'model.safetensors'));
    const exact = (await openCheckpoint(join(folder, 'model.safetensors'))).entries;
    const unrounded = await temporaryFolder();
    await cp(folder, unrounded, { recursive: true });
    const tensors: TensorToWrite[] = [];
    for (const [name, { dtype, shape, ...rest }] of entries) {
      const source = dtype === 'I8' ? exact.get(name)! : { dtype, shape, ...rest };
      tensors.push({ name, dtype: 'F32', shape, data: await readTensor(source) });
    }
    await writeSafetensors(join(unrounded, 'model.safetensors'), tensors);
    await using ahead = await Vlmo.load(converted);
    await using atLoad = await Vlmo.load(unrounded, { dtype: 'int8' });
    await using without = await Vlmo.load(folder, { dtype: 'int8' });
    expect(ahead.dtype).toBe('int8');
    const rows = async (model: Vlmo) => [
      (await model.embedImages(images)).embeddings,
      (await model.embedTexts(texts)).embeddings,
    ];
    expect(await rows(ahead)).toEqual(await rows(atLoad));
    expect(await rows(ahead)).not.toEqual(await rows(without));
  });

  it('keep the integers of rows that rounding again would change', async () => {
    const { entries, path } = await openCheckpoint(join(converted, 'model.safetensors'));
    const scaled = await temporaryFolder();
    await cp(converted, scaled, { recursive: true });
    const bytes = await readFile(path);
    const { offset, shape, scale } = entries.get('transformer.blocks.0.attn.proj.weight')!;
    // Rows of at most 126: a second rounding would take other scales.
    for (let i = 0; i < shape[0]! * shape[1]!; i++)
      bytes.writeInt8(Math.max(-126, Math.min(126, bytes.readInt8(offset + i))), offset + i);
    bytes.writeFloatLE(Math.fround(0.1), scale!.offset);
    await writeFile(join(scaled, 'model.safetensors'), bytes);
    const float32 = await temporaryFolder();
    await convertCheckpoint(scaled, float32);
    for (const target of addon().cpuInfo().targets) {
      await using kept = await Vlmo.load(scaled, { target });
      await using again = await Vlmo.load(float32, { target, dtype: 'int8' });
      const [a, b] = [(await kept.embedTexts(texts)).embeddings, (await again.embedTexts(texts)).embeddings];
      expect(a, target).not.toEqual(b);
      expect(cosine(a, b)).toBeGreaterThan(0.999);
    }
  });

  it('give what their float32 stands for when they are converted, exported or trained on', async () => {
    const { entries } = await openCheckpoint(join(converted, 'model.safetensors'));
    const float32 = await temporaryFolder();
    await convertCheckpoint(converted, float32);
    const copies = (await openCheckpoint(join(float32, 'model.safetensors'))).entries;
    const again = await temporaryFolder();
    await convertCheckpoint(float32, again, { dtype: 'int8' });
    const bytesOf = (folder: string) => readFile(join(folder, 'model.safetensors'));
    expect((await bytesOf(again)).equals(await bytesOf(converted))).toBe(true);
    const isSame = (a: Float32Array, b: Float32Array) => Buffer.from(a.buffer).equals(Buffer.from(b.buffer));
    for (const [name, entry] of entries) {
      expect(isSame(await readTensor(copies.get(name)!), await readTensor(entry)), name).toBe(true);
    }
    const values = await loadParameterValues(
      await openCheckpoint(join(converted, 'model.safetensors')),
      JSON.parse(await readFile(join(converted, 'config.json'), 'utf8')),
    );
    const name = 'transformer.blocks.0.attn.qkv.weight';
    expect(values.get(name)).toEqual(await readTensor(entries.get(name)!));
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
    expect(entries.get('pooler.dense.weight')!.dtype).toBe('BF16');
    expect(entries.get('pooler.dense.bias')!.dtype).toBe('F32');
    const original = await readTensor((await openCheckpoint(join(folder, 'model.safetensors'))).entries.get(name)!);
    const restored = await readTensor(entries.get(name)!);
    expect(cosine(original, restored)).toBeGreaterThan(0.999);
    const size = async (path: string) => (await stat(join(path, 'model.safetensors'))).size;
    expect(await size(converted)).toBeLessThan(0.4 * (await size(folder)));
  });

  it('are refused when scales do not fit', async () => {
    const path = join(await temporaryFolder(), 'model.safetensors');
    await writeSafetensors(path, [
      { name: 'w', dtype: 'I8', shape: [2, 2], data: new Int8Array(4) },
      { name: 'w.scale', dtype: 'F32', shape: [3], data: new Float32Array(3) },
    ]);
    await expectCode(() => openCheckpoint(path), 'MOME_INVALID_FILE');
  });

  const matrix = 'transformer.blocks.0.attn.qkv.weight';
  /** A copy of the converted model, with its tensors changed. */
  async function changed(change: (tensors: Map<string, TensorToWrite>) => void): Promise<string> {
    const copy = await temporaryFolder();
    await cp(converted, copy, { recursive: true });
    const tensors = new Map<string, TensorToWrite>();
    for (const [name, entry] of (await openSafetensors(join(converted, 'model.safetensors'))).entries) {
      const { dtype, shape } = entry;
      if (dtype === 'I8') tensors.set(name, { name, dtype, shape, data: new Int8Array(await readElements(entry)) });
      else tensors.set(name, { name, dtype: dtype as 'F32' | 'BF16', shape, data: await readTensor(entry) });
    }
    change(tensors);
    await writeSafetensors(join(copy, 'model.safetensors'), tensors.values());
    return copy;
  }
  const scaleOf = (tensors: Map<string, TensorToWrite>) => tensors.get(`${matrix}.scale`)! as { data: Float32Array };
  const damages: readonly [string, ErrorCode, RegExp, (tensors: Map<string, TensorToWrite>) => void][] = [
    ['no scales', 'MOME_INVALID_FILE', /scales of the rows of the 8-bit .*qkv/, (t) => t.delete(`${matrix}.scale`)],
    ['a scale that is not a number', 'MOME_NON_FINITE', /qkv/, (t) => scaleOf(t).data.fill(Number.NaN, 3, 4)],
    ['a negative scale', 'MOME_INVALID_FILE', /got -1 at row 143/, (t) => scaleOf(t).data.fill(-1, 143)],
    ['a huge scale', 'MOME_INVALID_FILE', /127, got 3.* at row 0/, (t) => scaleOf(t).data.fill(3e37, 0, 1)],
    ['-128', 'MOME_INVALID_FILE', /got -128 at index 77/, (t) => (t.get(matrix)!.data as Int8Array).fill(-128, 77, 78)],
    [
      'scales in bfloat16',
      'MOME_INVALID_FILE',
      /float32 scale for each row/,
      (t) =>
        t.set(`${matrix}.scale`, { ...(t.get(`${matrix}.scale`) as TensorToWrite & { dtype: 'F32' }), dtype: 'BF16' }),
    ],
    [
      'scales of too few rows',
      'MOME_INVALID_FILE',
      /float32 scale for each row/,
      (t) =>
        t.set(`${matrix}.scale`, { name: `${matrix}.scale`, dtype: 'F32', shape: [143], data: new Float32Array(143) }),
    ],
    [
      'a matrix of another shape',
      'MOME_INVALID_SHAPE',
      /expected transformer.blocks.0.attn.qkv.weight of shape/,
      (t) => t.set(matrix, { name: matrix, dtype: 'I8', shape: [144, 47], data: new Int8Array(144 * 47) }),
    ],
  ];
  it.each(damages)('with %s are refused by all who read them', async (_, code, message, damage) => {
    const copy = await changed(damage);
    for (const dtype of ['float32', 'bfloat16', 'int8'] as const)
      expect((await expectCode(() => Vlmo.load(copy, { dtype }), code)).message).toMatch(message);
    await expectCode(() => convertCheckpoint(copy, join(copy, 'never')), code);
  });

  it('are read when nothing is changed in them', async () => {
    await using good = await Vlmo.load(await changed(() => {}));
    expect(good.dtype).toBe('int8');
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
