/**
 * The CUDA path end to end, on a GPU or on the emulation of one that the native tests build; and what happens without either.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Vlmo } from '../../src/model/vlmo.ts';
import { packageRoot } from '../../src/runtime/addon.ts';
import { cudaInfo, resolveDevice } from '../../src/runtime/device.ts';
import { Engine } from '../../src/runtime/engine.ts';
import { verifyCase } from '../../src/verify/index.ts';
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
  afterEach(() => {
    delete process.env.MOME_EMULATION_FAIL_AFTER;
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

  it.runIf(process.env.MOME_CUDA_LIBRARY?.includes('emulation'))(
    'reports a device that is lost, and others go on',
    async () => {
      process.env.MOME_EMULATION_FAIL_AFTER = '5';
      await using lost = await Vlmo.load(folder, { device: 'cuda', dtype: 'bfloat16' });
      delete process.env.MOME_EMULATION_FAIL_AFTER;
      await expectCode(() => lost.embedTexts(['a red square']), 'MOME_DEVICE_UNAVAILABLE');
      await expectCode(() => lost.embedTexts(['a red square']), 'MOME_DEVICE_UNAVAILABLE');
      await using other = await Vlmo.load(folder, { device: 'cuda', dtype: 'bfloat16' });
      expect((await other.embedTexts(['a red square'])).count).toBe(1);
    },
  );

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
