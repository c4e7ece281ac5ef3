import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openSafetensors, readTensor, writeSafetensors } from '../../src/checkpoint/index.ts';
import { addon } from '../../src/runtime/addon.ts';
import { compare, verifyCase } from '../../src/verify/index.ts';
import { expectCode, golden, soonAborted, temporaryFolder } from '../helpers.ts';

const counts = {
  tiny_relative: 895,
  tiny_absolute: 695,
  resize_relative: 7,
  resize_absolute: 7,
  beit_to_stage2: 49,
  preprocess: 4,
};

describe.each(addon().cpuInfo().targets)('reference cases on %s', (target) => {
  it.each(Object.entries(counts))('%s', async (name, compared) => {
    const report = await verifyCase(golden(name), { target });
    expect(report.checks.filter(({ passed }) => !passed)).toEqual([]);
    expect(report).toMatchObject({ passed: true, compared, failed: 0, target });
  });
});

interface Stored {
  readonly name: string;
  readonly dtype: 'F32';
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** A copy of a reference case whose `file` holds what `change` makes of its tensors. */
async function changedCase(name: string, file: string, change: (tensors: Stored[]) => void): Promise<string> {
  const folder = await temporaryFolder();
  await cp(golden(name), folder, { recursive: true });
  const { entries } = await openSafetensors(join(folder, file));
  const tensors: Stored[] = [];
  for (const entry of entries.values())
    tensors.push({ name: entry.name, dtype: 'F32', shape: entry.shape, data: await readTensor(entry) });
  change(tensors);
  await writeSafetensors(join(folder, file), tensors);
  return folder;
}

describe('a planted error', () => {
  it.each([
    ['outputs.safetensors', 'dual/text_embed', 7],
    ['outputs.safetensors', 'loss/itm', 0],
    ['grads.safetensors', 'itc/transformer.blocks.0.attn.qkv.weight', 5000],
    ['training.safetensors', 'final/transformer.norm.bias', 3],
  ])('in %s, %s is named', async (file, tensor, index) => {
    const folder = await changedCase('tiny_relative', file, (tensors) => {
      tensors.find(({ name }) => name === tensor)!.data[index]! += 0.01;
    });
    const { passed, checks } = await verifyCase(folder);
    expect(passed).toBe(false);
    const failed = checks.filter((each) => !each.passed);
    expect(failed).toHaveLength(1);
    expect(failed[0]!.name).toContain(tensor);
    expect(failed[0]!.worst.index).toBe(index);
  });

  it('in a parameter without a gradient is named, however small it is', async () => {
    const name = 'final/nlvr2_classifier.0.weight';
    const folder = await changedCase('tiny_relative', 'training.safetensors', (tensors) => {
      const { data } = tensors.find((each) => each.name === name)!;
      data[5]! *= 1 + 2 ** -23;
    });
    const { checks } = await verifyCase(folder);
    const failed = checks.filter((each) => !each.passed);
    expect(failed).toMatchObject([{ name: `training/${name}`, bound: 0, worst: { index: 5 } }]);
  });

  it('in a picture is named', async () => {
    const folder = await temporaryFolder();
    await cp(golden('preprocess'), folder, { recursive: true });
    const config = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8'));
    config.images[0].file = 'image3.png';
    config.images[3].file = 'image0.jpg';
    await writeFile(join(folder, 'config.json'), JSON.stringify(config));
    await cp(golden('preprocess/image0.jpg'), join(folder, 'image3.png'));
    await cp(golden('preprocess/image3.png'), join(folder, 'image0.jpg'));
    const report = await verifyCase(folder);
    expect(report.failed).toBe(2);
  });

  it('in a picture nobody names is refused', async () => {
    const folder = await changedCase('preprocess', 'resized.safetensors', (tensors) => {
      tensors.push({ name: 'unheard_of.png', dtype: 'F32', shape: [1], data: Float32Array.of(1) });
    });
    const { message } = await expectCode(() => verifyCase(folder), 'MOME_INVALID_FILE');
    expect(message).toContain('unheard_of.png');
  });

  it('in an unknown output is refused', async () => {
    const folder = await temporaryFolder();
    await cp(golden('resize_absolute'), folder, { recursive: true });
    await writeSafetensors(join(folder, 'outputs.safetensors'), [
      { name: 'dual/unheard_of', dtype: 'F32', shape: [1], data: Float32Array.of(1) },
    ]);
    await cp(golden('tiny_absolute'), join(folder, '..', 'tiny_absolute'), { recursive: true, force: true });
    await expectCode(() => verifyCase(folder), 'MOME_INVALID_FILE');
  });

  it.each(
    (['float32', 'bfloat16', 'int8'] as const).flatMap((dtype) => [
      ['outputs.safetensors', 'loss/unheard_of', dtype] as const,
      ['grads.safetensors', 'itc/unheard_of', dtype] as const,
      ['training.safetensors', 'final/unheard_of', dtype] as const,
    ]),
  )('in %s, %s beside known names is refused in %s', async (file, unheardOf, dtype) => {
    const folder = await changedCase('tiny_absolute', file, (tensors) => {
      tensors.push({ name: unheardOf, dtype: 'F32', shape: [1], data: Float32Array.of(1) });
    });
    const { message } = await expectCode(() => verifyCase(folder, { dtype }), 'MOME_INVALID_FILE');
    expect(message).toContain(unheardOf);
  });
});

describe('what is not compared', () => {
  it('is nothing in float32', async () => {
    expect((await verifyCase(golden('tiny_relative'))).skipped).toEqual([]);
  });

  it.each(['bfloat16', 'int8'] as const)('is listed in %s with how much the case has of it', async (dtype) => {
    const has = async (file: string, prefix = '') => {
      const { entries } = await openSafetensors(join(golden('tiny_relative'), file));
      return [...entries.keys()].filter((name) => name.startsWith(prefix)).length;
    };
    const { checks, skipped } = await verifyCase(golden('tiny_relative'), { dtype });
    const reason = 'compared in float32 on the processor alone';
    expect(skipped).toEqual([
      { kind: 'loss', tensors: await has('outputs.safetensors', 'loss/'), reason },
      { kind: 'gradient', tensors: await has('grads.safetensors'), reason },
      { kind: 'training', tensors: await has('training.safetensors'), reason },
    ]);
    const whole = await verifyCase(golden('tiny_relative'));
    const outputs = (of: typeof checks) => of.filter(({ kind }) => kind === 'output').map(({ name }) => name);
    expect(outputs(checks)).toEqual(outputs(whole.checks));
    expect(checks).toHaveLength(outputs(checks).length);
  });
});

describe('compare', () => {
  it('fails on a value that is not finite', () => {
    expect(compare('x', 'output', [1, Number.NaN], [1, 2], 1e-3)).toMatchObject({ passed: false, worst: { index: 1 } });
    expect(compare('x', 'output', [Number.POSITIVE_INFINITY], [2], 1e-3).passed).toBe(false);
  });
  it('holds a zero reference to an absolute bound', () => {
    expect(compare('x', 'gradient', [1e-8, 0], [0, 0], 1e-4).passed).toBe(true);
    expect(compare('x', 'gradient', [1e-3, 0], [0, 0], 1e-4).passed).toBe(false);
  });
  it('refuses other lengths', () => expectCode(() => compare('x', 'output', [1], [1, 2], 1), 'MOME_INVALID_SHAPE'));
});

describe('a signal', () => {
  it.each(['tiny_relative', 'resize_relative', 'beit_to_stage2', 'preprocess'])('stops %s', async (name) => {
    await expectCode(() => verifyCase(golden(name), { signal: AbortSignal.abort() }), 'MOME_ABORTED');
    await expectCode(() => verifyCase(golden(name), { signal: soonAborted() }), 'MOME_ABORTED');
  });
});
