import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { golden, temporaryFolder } from '../helpers.ts';

const python = '/usr/bin/python3';
const hasTorch = spawnSync(python, ['-c', 'import torch']).status === 0;
const recorded = fileURLToPath(new URL('../train/reference', import.meta.url));

/** Runs a script of `scripts/reference`. */
async function run(script: string, ...args: readonly string[]): Promise<{ code: number | null; output: string }> {
  const path = fileURLToPath(new URL(`../../../scripts/reference/${script}`, import.meta.url));
  const child = spawn(python, ['-B', path, ...args], { env: { ...process.env, OMP_NUM_THREADS: '1' } });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += data));
  const [code] = await once(child, 'close');
  return { code, output };
}

/** A copy of a folder in which one number of each of these tensors is off by a thousandth. */
async function changed(from: string, tensors: Readonly<Record<string, string>>): Promise<string> {
  const folder = join(await temporaryFolder(), 'changed');
  await cp(from, folder, { recursive: true });
  for (const [file, tensor] of Object.entries(tensors)) {
    const bytes = await readFile(join(folder, file));
    const headerEnd = 8 + Number(bytes.readBigUInt64LE());
    const header = JSON.parse(bytes.subarray(8, headerEnd).toString());
    const at = headerEnd + header[tensor].data_offsets[0] + 12;
    bytes.writeFloatLE(bytes.readFloatLE(at) + 1e-3, at);
    await writeFile(join(folder, file), bytes);
  }
  return folder;
}

it.runIf(hasTorch)('the PyTorch model has the numbers of the original code, and notices others', async () => {
  const tensors = {
    'grads.safetensors': 'vqa/pooler.dense.bias',
    'training.safetensors': 'final/nlvr2_classifier.0.bias',
  };
  const planted = await changed(golden('tiny_absolute'), tensors);
  const { code, output } = await run('check_original.py', golden('tiny_relative'), golden('tiny_absolute'), planted);
  expect(output).toMatch(/tiny_relative: 9\d\d tensors compared, 0 beyond/);
  expect(output).toMatch(/tiny_absolute: 7\d\d tensors compared, 0 beyond/);
  expect(code).toBe(1);
  for (const tensor of Object.values(tensors))
    expect(output.match(new RegExp(`FAILED \\w+ ${tensor}:`, 'g'))).not.toBe(null);
});

it.runIf(hasTorch)('the recorded files are what the script gives, and others are noticed', async () => {
  const folder = await changed(recorded, { 'absolute/vqa.safetensors': 'final/pooler.dense.bias' });
  const { code, output } = await run('record.py', '--check', '--folder', folder);
  expect(code).toBe(1);
  const others = output.split('\n').filter((line) => line && !line.endsWith(': the same'));
  expect(others).toEqual(['absolute/vqa.safetensors: other values of final/pooler.dense.bias']);
});

it.runIf(hasTorch)('the PyTorch of the benches has the losses of this one', async () => {
  const { code, output } = await run('check_peer.py');
  expect(output.match(/, off by/g)).toHaveLength(5);
  expect(code).toBe(0);
});
