/**
 * Several CUDA devices, some too old, some lost, on the emulation of them; with two GPUs the first tests run on those.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Vlmo } from '../../src/inference/index.ts';
import { packageRoot } from '../../src/runtime/addon.ts';
import { cudaInfo, resolveDevice } from '../../src/runtime/device.ts';
import { type DoctorCheck, diagnose } from '../../src/runtime/doctor.ts';
import { expectCode, testImage, tinyModel } from '../helpers.ts';

const emulation = join(packageRoot(), 'build', 'emulation', 'mome_cuda_emulation.so');
// Read when a CUDA device is first asked for. A library named from outside, on a machine with GPUs, goes first.
if (process.env.MOME_CUDA_LIBRARY === undefined && existsSync(emulation)) process.env.MOME_CUDA_LIBRARY = emulation;
const emulated = process.env.MOME_CUDA_LIBRARY?.includes('emulation') ?? false;

/** Makes the emulation have these devices, by compute capability times ten. */
function emulate(...capabilities: number[]): void {
  process.env.MOME_EMULATION_DEVICES = String(capabilities.length);
  process.env.MOME_EMULATION_CAPABILITY = capabilities.join();
}

/** What `mome doctor` says of the devices. */
const onDevices = (checks: readonly DoctorCheck[]) => checks.filter(({ name }) => name.startsWith('cuda'));

let folder = '';
beforeAll(async () => {
  folder = await tinyModel();
});
afterEach(() => {
  for (const name of ['DEVICES', 'CAPABILITY', 'FAIL_AFTER']) delete process.env[`MOME_EMULATION_${name}`];
});

emulate(90, 90);
describe.runIf(cudaInfo().devices.length > 1)('two devices', () => {
  beforeEach(() => emulate(90, 90));
  const texts = ['a red square', 'circles on white'];

  it('run the same model with the same results', async () => {
    await using first = await Vlmo.load(folder, { device: 'cuda:0', dtype: 'bfloat16' });
    const expected = await first.embedTexts(texts);
    await using second = await Vlmo.load(folder, { device: 'cuda:1', dtype: 'bfloat16' });
    expect([first.device, second.device]).toEqual(['cuda:0', 'cuda:1']);
    for (let call = 0; call < 3; call++) expect(await second.embedTexts(texts)).toEqual(expected);
  });

  it('run at the same time', async () => {
    const devices = ['cuda:0', 'cuda:1'] as const;
    const models = await Promise.all(devices.map((device) => Vlmo.load(folder, { device, dtype: 'bfloat16' })));
    const calls = [
      (model: Vlmo) => model.embedTexts(texts),
      (model: Vlmo) => model.embedImages([testImage(1)]),
      (model: Vlmo) => model.embedTexts(texts.slice(1)),
    ];
    const expected: unknown[] = [];
    for (const call of calls) expected.push(await call(models[0]!));
    for (let round = 0; round < 3; round++) {
      const results = models.map((model) => Promise.all(calls.map((call) => call(model))));
      expect(await Promise.all(results)).toEqual([expected, expected]);
    }
    await models[0]!.dispose();
    expect(await calls[0]!(models[1]!)).toEqual(expected[0]);
    await models[1]!.dispose();
  });
});

describe.runIf(emulated)('devices that are too old', () => {
  const old = 'compute capability 7.5, 8.0 is needed';

  it('leave models to the processor', async () => {
    emulate(75);
    expect(cudaInfo().devices).toMatchObject([{ capability: 7.5, unfit: old }]);
    await using model = await Vlmo.load(folder);
    expect(model.device).toBe('cpu');
    expect((await model.embedTexts(['a red square'])).count).toBe(1);
    const error = await expectCode(() => Vlmo.load(folder, { device: 'cuda:0' }), 'MOME_DEVICE_UNAVAILABLE');
    expect(error.message).toContain(old);
    const { ok, checks } = await diagnose();
    expect(onDevices(checks)).toEqual([
      { name: 'cuda:0', ok: true, detail: `emulation on this processor: models run on the CPU: ${old}` },
    ]);
    expect(ok).toBe(true);
  });

  it('are passed over where another fits', async () => {
    emulate(75, 80);
    expect(cudaInfo().devices).toMatchObject([{ unfit: old }, { capability: 8, unfit: '' }]);
    await using model = await Vlmo.load(folder, { dtype: 'bfloat16' });
    expect(model.device).toBe('cuda:1');
    expect((await model.embedTexts(['a red square'])).count).toBe(1);
    await expectCode(() => Vlmo.load(folder, { device: 'cuda' }), 'MOME_DEVICE_UNAVAILABLE');
    const { ok, checks } = await diagnose();
    expect(onDevices(checks)).toMatchObject([
      { name: 'cuda:0', ok: true, detail: `emulation on this processor: models run on cuda:1: ${old}` },
      { name: 'cuda:1', ok: true, detail: expect.stringMatching(/capability 8\.0, .*: runs$/) },
    ]);
    expect(ok).toBe(true);
  });

  it('are told from devices that are not there', async () => {
    emulate(90, 75, 80);
    expect(resolveDevice()).toEqual({ kind: 'cuda', index: 0 });
    const error = await expectCode(() => Vlmo.load(folder, { device: 'cuda:3' }), 'MOME_DEVICE_UNAVAILABLE');
    expect(error.message).toContain('below 3');
    emulate();
    expect(resolveDevice()).toEqual({ kind: 'cpu' });
  });
});

// Last: in this process cuda:0 stays lost.
describe.runIf(emulated)('a device that is lost', () => {
  it('fails for every model on it, and other devices go on', async () => {
    emulate(90, 90);
    const load = (device: 'cpu' | `cuda:${number}`) => Vlmo.load(folder, { device });
    const call = (model: Vlmo) => model.embedTexts(['a red square']);
    await using beside = await load('cuda:0');
    await using running = await load('cuda:1');
    const expected = await call(running);
    expect(await call(beside)).toEqual(expected);

    process.env.MOME_EMULATION_FAIL_AFTER = '5';
    await using lost = await load('cuda:0');
    delete process.env.MOME_EMULATION_FAIL_AFTER;
    const underWay = call(running);
    for (const model of [lost, lost, beside]) await expectCode(() => call(model), 'MOME_DEVICE_UNAVAILABLE');
    await expectCode(() => load('cuda:0'), 'MOME_DEVICE_UNAVAILABLE');
    await expectCode(() => Vlmo.load(folder), 'MOME_DEVICE_UNAVAILABLE');

    expect(await underWay).toEqual(expected);
    expect(await call(running)).toEqual(expected);
    await using fresh = await load('cuda:1');
    expect(await call(fresh)).toEqual(expected);
    await using cpu = await load('cpu');
    expect((await call(cpu)).count).toBe(1);
    const { ok, checks } = await diagnose();
    expect(onDevices(checks)).toMatchObject([
      { name: 'cuda:0', ok: false },
      { name: 'cuda:1', ok: true },
    ]);
    expect(ok).toBe(false);
  });
});
