/**
 * The CUDA path end to end, on a GPU or on the emulation of one that the native tests build; and what happens without either.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { configFromArch, imageTokensOf } from '../../src/architecture/config.ts';
import { Vlmo } from '../../src/inference/index.ts';
import { layoutBatch } from '../../src/model/batch.ts';
import { fusionOutputs } from '../../src/model/functions.ts';
import { packageRoot } from '../../src/runtime/addon.ts';
import { cudaInfo, resolveDevice } from '../../src/runtime/device.ts';
import { Engine } from '../../src/runtime/engine.ts';
import { readCaseConfig } from '../../src/verify/case-files.ts';
import { verifyCase } from '../../src/verify/index.ts';
import { ModelCase } from '../../src/verify/model-case.ts';
import { expectCode, golden, testImage, tinyModel } from '../helpers.ts';

const emulation = join(packageRoot(), 'build', 'emulation', 'mome_cuda_emulation.so');
// Read when a CUDA device is first asked for. A library named from outside, on a machine with a GPU, goes first.
if (process.env.MOME_CUDA_LIBRARY === undefined && existsSync(emulation)) process.env.MOME_CUDA_LIBRARY = emulation;

const cosine = (a: Float32Array, b: Float32Array): number => a.reduce((sum, value, i) => sum + value * b[i]!, 0);

describe('a CUDA device', () => {
  let folder = '';
  beforeAll(async () => {
    expect(cudaInfo().devices.length, `a device or its emulation: ${cudaInfo().reason}`).toBeGreaterThan(0);
    folder = await tinyModel();
  });

  for (const name of ['tiny_absolute', 'tiny_relative']) {
    for (const dtype of ['float32', 'bfloat16'] as const) {
      it(`passes ${name} in ${dtype}`, async () => {
        const report = await verifyCase(golden(name), { device: 'cuda', dtype });
        expect(report.checks.filter(({ passed }) => !passed)).toEqual([]);
        expect(report).toMatchObject({ device: 'cuda:0', target: 'cuda', dtype, passed: true });
        expect(report.compared).toBeGreaterThan(10);
      });
    }
  }

  it('embeds as the processor does, and the same alone, in a batch and from a recording', async () => {
    await using cpu = await Vlmo.load(folder, { device: 'cpu' });
    await using gpu = await Vlmo.load(folder, { device: 'cuda', dtype: 'bfloat16' });
    const texts = ['a red square', 'circles on white', 'a picture of a blue circle , whitish .'];
    const { width } = cpu.config;
    const rowsOf = ({ embeddings }: { embeddings: Float32Array }) =>
      texts.map((_, i) => embeddings.slice(i * width, (i + 1) * width));
    const expected = rowsOf(await cpu.embedTexts(texts));
    const first = rowsOf(await gpu.embedTexts(texts));
    for (const [i, row] of first.entries()) expect(cosine(row, expected[i]!)).toBeGreaterThan(0.999);
    // The second call of a shape is recorded, later ones replay; other texts of other lengths go through the same recording.
    for (let call = 0; call < 3; call++) expect(rowsOf(await gpu.embedTexts(texts))).toEqual(first);
    const turned = rowsOf(await gpu.embedTexts([texts[1]!, texts[2]!, texts[0]!]));
    expect(turned).toEqual([first[1], first[2], first[0]]);
    for (const [i, text] of texts.entries()) expect((await gpu.embedTexts([text])).embeddings).toEqual(first[i]);
  });

  it('gives the same for a mixed call as for the three calls apart', async () => {
    await using gpu = await Vlmo.load(folder, { device: 'cuda', dtype: 'bfloat16' });
    const image = testImage(3);
    const texts = ['a red circle', 'a blue square on white'];
    const pairs = texts.map((text) => ({ image, text }));
    const mixed = await gpu.mixed({ images: [image], texts, pairs });
    expect(mixed.images.embeddings).toEqual((await gpu.embedImages([image])).embeddings);
    expect(mixed.texts.embeddings).toEqual((await gpu.embedTexts(texts)).embeddings);
    expect(mixed.pairs).toEqual(await gpu.match(pairs));
  });

  it('gives the same to the items of a call whose sizes are rounded up, and in a call of other sizes', async () => {
    await using cpu = await Vlmo.load(folder, { device: 'cpu' });
    await using gpu = await Vlmo.load(folder, { device: 'cuda', dtype: 'bfloat16' });
    const { width } = cpu.config;
    const images = Array.from({ length: 15 }, (_, i) => testImage(i));
    const texts = ['a red circle', 'green', 'a blue square on white'];
    const pairs = ['a blue circle', 'a picture of a red , white square .'].map((text) => ({ image: images[0]!, text }));
    // 17 images are rounded up to 18; the second call moves every range and has 17 again; the third replays what the second recorded.
    const calls = [
      { images, texts, pairs },
      { images: images.slice(1), texts: texts.slice(1), pairs: [...pairs, pairs[0]!] },
      { images, texts, pairs },
    ];
    const results: Awaited<ReturnType<Vlmo['mixed']>>[] = [];
    for (const call of calls) results.push(await gpu.mixed(call));
    const [first, second, third] = results;
    expect(third).toEqual(first);
    expect(second!.images.embeddings).toEqual(first!.images.embeddings.subarray(width));
    expect(second!.texts.embeddings).toEqual(first!.texts.embeddings.subarray(width));
    expect([...second!.pairs]).toEqual([...first!.pairs, first!.pairs[0]]);
    expect((await gpu.embedImages(images.slice(3, 4))).embeddings).toEqual(
      first!.images.embeddings.slice(3 * width, 4 * width),
    );
    const expected = await cpu.mixed(calls[0]!);
    for (const part of ['images', 'texts'] as const) {
      expect(first![part].embeddings).toHaveLength(expected[part].embeddings.length);
      for (let at = 0; at < expected[part].embeddings.length; at += width) {
        const [ours, theirs] = [first![part], expected[part]].map((each) => each.embeddings.subarray(at, at + width));
        expect(cosine(ours!, theirs!)).toBeGreaterThan(0.999);
      }
    }
    for (const [i, probability] of expected.pairs.entries()) expect(first!.pairs[i]).toBeCloseTo(probability, 2);
  });

  it('gives every row of every sequence the same bits when sizes are rounded up', async () => {
    const config = configFromArch((await readCaseConfig(golden('tiny_relative'))).arch);
    const device = { kind: 'cuda', index: 0 } as const;
    const open = (where: typeof device | { readonly kind: 'cpu' }) =>
      ModelCase.open(golden('tiny_relative'), join(golden('tiny_relative'), 'weights.pt'), config, { device: where });
    const [gpu, cpu] = [await open(device), await open({ kind: 'cpu' })];
    try {
      const { texts, batch } = gpu;
      const items = {
        texts: texts.slice(1),
        pairs: texts.slice(0, 3).map((text, picture) => ({ text, picture })),
        images: Array.from({ length: 14 }, (_, i) => ({ picture: i % batch })),
      };
      const rowsOf = async (model: ModelCase, inBuckets: boolean) => {
        const layout = layoutBatch(config, items, batch, inBuckets);
        const pairCls = Int32Array.from({ length: layout.dims.pairs }, (_, i) => layout.pairTextCls[i] ?? 0);
        const { hidden } = await model.run(fusionOutputs, layout, { inputs: { pair_cls: pairCls } });
        const rows = (begins: Int32Array, length: (i: number) => number) =>
          [...begins].map((begin, i) => hidden.slice(begin * config.width, (begin + length(i)) * config.width));
        return [
          ...rows(layout.textCls, (i) => items.texts[i]!.length),
          ...rows(layout.pairTextCls, (i) => items.pairs[i]!.text.length),
          ...rows(layout.pairImageCls, () => imageTokensOf(config)),
          ...rows(layout.imageCls, () => imageTokensOf(config)),
        ];
      };
      const exact = await rowsOf(gpu, false);
      expect(await rowsOf(gpu, true)).toEqual(exact);
      for (const [i, row] of (await rowsOf(cpu, false)).entries()) {
        for (const [j, value] of row.entries()) expect(Math.abs(exact[i]![j]! - value)).toBeLessThan(1e-4);
      }
    } finally {
      gpu.dispose();
      cpu.dispose();
    }
  });

  it('replays one recording for calls of one bucket', () => {
    const calls = [
      [['a red square', 'green'], 2],
      [['a blue circle on white', 'a', 'red', 'square'], 1],
      [['a picture of a red , white square .'], 3],
      [['a', 'a red square on a blue square'], 2],
    ] as const;
    const script = `import { Vlmo } from ${JSON.stringify(join(packageRoot(), 'dist', 'index.mjs'))};
      const model = await Vlmo.load(${JSON.stringify(folder)}, { device: 'cuda' });
      const image = (value) => ({ data: new Uint8Array(3 * 64 * 64).fill(value), width: 64, height: 64, channels: 3 });
      const all = [image(1), image(2), image(3), image(4)];
      for (const [texts, pairs] of ${JSON.stringify(calls)}) await model.mixed({
        texts,
        images: all.slice(pairs),
        pairs: all.slice(0, pairs).map((image) => ({ image, text: 'a red square' })),
      });
      for (const count of [3, 2]) {
        await model.match(all.map((_, i) => ({ image: all[i % count], text: 'red' })));
      }
      await model.dispose();`;
    const { stderr, status } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      encoding: 'utf8',
      env: { ...process.env, MOME_TRACE: 'recordings' },
    });
    expect(status, stderr).toBe(0);
    expect([...stderr.matchAll(/^run: (\w+), (\d) kept$/gm)].map(([, what, kept]) => `${what} ${kept}`)).toEqual([
      'launched 1',
      'recorded 1',
      'replayed 1',
      'replayed 1',
      // Another function, and fewer distinct pictures.
      'launched 2',
      'recorded 2',
    ]);
  });

  it('answers, reasons and fills masks as the processor does', async () => {
    await using cpu = await Vlmo.load(folder, { device: 'cpu' });
    await using gpu = await Vlmo.load(folder, { device: 'cuda' });
    const [image, other] = [testImage(1), testImage(2)];
    const scores = async (model: Vlmo) => {
      const [answers, reason, fused, alone] = [
        await model.answer(image, 'red ?', { k: 3 }),
        await model.reason([image, other], 'a red square'),
        await model.fillMask(image, 'a [MASK] square [MASK]', { k: 3 }),
        await model.fillMask(null, 'a [MASK] square', { k: 3 }),
      ];
      return [
        ...answers.map(({ answer, score }) => [answer, score] as const),
        ['true', reason.probability] as const,
        ...[...fused, ...alone].flatMap(({ position, candidates }) =>
          candidates.map(({ token, score }) => [`${position} ${token}`, score] as const),
        ),
      ];
    };
    const [ours, theirs] = [await scores(gpu), await scores(cpu)];
    expect(ours.map(([name]) => name)).toEqual(theirs.map(([name]) => name));
    for (const [i, [, score]] of ours.entries()) expect(score).toBeCloseTo(theirs[i]![1], 4);
  });

  it('gives the same when calls overlap', async () => {
    await using gpu = await Vlmo.load(folder, { device: 'cuda', dtype: 'bfloat16' });
    const texts = ['a red circle', 'a blue square on white', 'green', 'a picture of a red , white square .'];
    const image = testImage(5);
    const calls = [
      ...texts.map((_, i) => () => gpu.embedTexts(texts.slice(i))),
      () => gpu.embedImages([image]),
      () => gpu.embedImages([image, testImage(6)]),
    ];
    const apart: unknown[] = [];
    for (const call of calls) apart.push(await call());
    for (let round = 0; round < 3; round++) expect(await Promise.all(calls.map((call) => call()))).toEqual(apart);
  });

  it('reports memory that does not suffice, and others go on', async () => {
    await using gpu = await Vlmo.load(folder, { device: 'cuda', memoryLimit: 100_000 });
    await expectCode(() => gpu.embedTexts(['a red square']), 'MOME_OUT_OF_MEMORY');
    await using other = await Vlmo.load(folder, { device: 'cuda', dtype: 'bfloat16' });
    expect((await other.embedTexts(['a red square'])).count).toBe(1);
  });

  it('is aborted and disposed of like any engine', async () => {
    const gpu = await Vlmo.load(folder, { device: 'cuda', dtype: 'bfloat16' });
    await expectCode(() => gpu.embedTexts(['a'], { signal: AbortSignal.abort() }), 'MOME_ABORTED');
    const running = gpu.embedTexts(['a red square']).catch((error: unknown) => error);
    await gpu.dispose();
    await running;
    await expectCode(() => gpu.embedTexts(['a']), 'MOME_DISPOSED');
  });

  it('profiles every op', async () => {
    await using gpu = await Vlmo.load(folder, { device: 'cuda', dtype: 'bfloat16' });
    const profile = await gpu.profile({ texts: ['a red square', 'a circle'] });
    expect(profile.ops.map(({ op }) => op)).toContain('expert_ffn');
  });
});

describe('choosing a device', () => {
  it('refuses names that are none, devices that are not there and weights they do not read', async () => {
    await expectCode(() => resolveDevice('gpu'), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => resolveDevice('cuda:x'), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => resolveDevice('cuda', { dtype: 'int8' }), 'MOME_UNSUPPORTED');
    await expectCode(() => resolveDevice('cuda', { target: 'avx2' }), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => new Engine({ device: { kind: 'cuda', index: 999 } }), 'MOME_DEVICE_UNAVAILABLE');
    expect(resolveDevice('cuda:3')).toEqual({ kind: 'cuda', index: 3 });
    expect(resolveDevice('cpu')).toEqual({ kind: 'cpu' });
    expect(resolveDevice('auto', { dtype: 'int8' })).toEqual({ kind: 'cpu' });
    expect(resolveDevice('auto', { target: 'ref' })).toEqual({ kind: 'cpu' });
  });

  it('says why there is no device', () => {
    const script = `import { Vlmo } from ${JSON.stringify(join(packageRoot(), 'dist', 'index.mjs'))};
      await Vlmo.load(undefined, { device: 'cuda' }).catch(({ code, message }) => console.log(code, message));
      const model = await Vlmo.load();
      console.log(model.device);
      await model.dispose();`;
    const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      encoding: 'utf8',
      env: { ...process.env, MOME_CUDA_LIBRARY: '/nowhere/mome_cuda.so' },
    });
    expect(stdout).toMatch(/MOME_DEVICE_UNAVAILABLE .*no CUDA library: .*nowhere/);
    expect(stdout.trim().split('\n').at(-1)).toBe('cpu');
  });
});
