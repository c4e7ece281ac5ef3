/** The CUDA section of docs/performance.md, on made-up records of scripts/gpu/run.py. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { cudaSection, notWritten, opNames } from '../../../bench/cuda-report.mjs';
import { packageRoot } from '../../src/runtime/addon.ts';
import { temporaryFolder } from '../helpers.ts';

const seconds = (median: number) => ({ fastest: 0.9 * median, median, slowest: 1.2 * median, runs: 20 });
const counted = (float32: number, bfloat16: number, failed = 0) => ({
  float32: { compared: float32, failed: 0 },
  bfloat16: { compared: bfloat16, failed },
});

/** A record as run.py writes it, of which everything is right. */
const record = () => ({
  table: 'cuda',
  emulation: false,
  date: '2026-01-02T03:04:05+00:00',
  passed: true,
  verdicts: { build: true, kernels: true, golden: true, sanitizer: false } as Record<string, boolean>,
  stages: {
    machine: { name: 'Test GPU', driver_version: '570.1', nvcc: 'cuda 13', commit: 'abc', torch: null },
    ceilings: { teraflops: seconds(790), terabytesPerSecond: seconds(4.3) },
    kernels: {
      failed: {} as Record<string, string>,
      ops: { qkv: counted(12, 340), attention: counted(6, 8), tanh: counted(1, 1) } as Record<string, object>,
    },
    golden: { compared: 14, failed: [] as object[], plantedErrorsNoticed: 12 },
    model: {
      clocks: {
        samples: 9,
        'clocks.sm': [1410, 1695, 1980],
        throttleReasons: { '0x0000000000000001': 7, '0x0000000000000004': 2 },
      },
      passed: true,
      'images 64': {
        mome: { ...seconds(0.008), nanosecondsByOp: { qkv: 1_500_000 } },
        'mome again': seconds(0.004),
        'mome overlapped': { ...seconds(0.005), overlappedPerSecond: 18000 },
        'torch eager': seconds(0.016),
        'torch.compile': { ...seconds(0.006), mode: 'compile-default' },
      } as Record<string, object>,
      'texts 1': { mome: { error: 'no end' }, 'torch eager': seconds(0.002) },
    },
    ops: { torch: { qkv: seconds(0.0001) }, mome: { qkv: { ...seconds(0.00008), teraflops: 550 } } },
    mixed: { together: seconds(0.01), apart: [seconds(0.005), seconds(0.004), seconds(0.003)] },
  },
  bounds: [
    { name: 'images 64, per second', value: 16000, bound: 8000, met: true },
    { name: 'qkv, share of cuBLAS', value: null as number | null, bound: 0.7, met: false },
  ],
});

async function sectionOf(records: Readonly<Record<string, object>>): Promise<string[]> {
  const folder = await temporaryFolder();
  for (const [name, content] of Object.entries(records)) {
    await writeFile(join(folder, `${name}.json`), JSON.stringify(content));
  }
  return cudaSection(folder).split('\n');
}
const rowOf = (lines: readonly string[], op: string) => lines.find((line) => line.startsWith(`| \`${op}\``));

describe('the CUDA section', () => {
  it.each([
    ['no record', {}],
    ['a rehearsal on the emulation alone', { cuda: { ...record(), emulation: true }, model: { table: 'model' } }],
  ])('says of every kernel that it has never run: %s', async (_, records) => {
    const lines = await sectionOf(records);
    expect(lines[0]).toBe('No run on a GPU is recorded.');
    const rows = lines.filter((line) => line.startsWith('| `'));
    expect(rows).toHaveLength(opNames().length);
    expect(rows.filter((row) => row.includes('| never run | never run |'))).toHaveLength(
      rows.length - notWritten.length,
    );
    expect(lines.join('\n')).not.toMatch(/right|met|passed/);
  });

  it('shows what was recorded', async () => {
    const lines = await sectionOf({ 'cuda-test': record() });
    const text = lines.join('\n');
    expect(lines[0]).toBe('### Test GPU');
    expect(text).toContain(
      '`bench/results/cuda-test.json`, 2026-01-02, commit abc; driver 570.1, nvcc cuda 13, PyTorch absent.',
    );
    expect(text).toContain('790 TFLOP/s');
    expect(text).toContain('model 1410, 1695, 1980, 0x4 in 2 of 9.');
    // The better of the measurements around the peers'.
    expect(lines).toContain(
      '| images 64 | 3.6, 4, 4.8 | 16000 | 18000 | 14.4, 16, 19.2; 4.00 x | 5.4, 6, 7.2; 1.50 x (not tuned) |',
    );
    expect(lines).toContain('| texts 1 | **failed** |  |  | 1.8, 2, 2.4 | not measured |');
    expect(text).toContain('in one call take 10 ms, in three calls 12 ms: 1.20 x');
    expect(lines).toContain('| images 64, per second | 16000 | at least 8000 | met |');
    expect(lines).toContain('| qkv, share of cuBLAS | not measured | at least 0.7 | **not met** |');
    expect(rowOf(lines, 'qkv')).toBe('| `qkv` | 12 right | 340 right | 1.5 | 0.08 | 550 | 1.25 x |');
    expect(rowOf(lines, 'tanh')).toBe('| `tanh` | 1 right | 1 right |  |  |  |  |');
    expect(rowOf(lines, 'linear')).toBe('| `linear` | never run | never run |  |  |  |  |');
    expect(lines).toContain('| kernels | passed |');
    expect(lines).toContain('| sanitizer | **failed** |');
  });

  it('notices planted errors, whatever the record says of itself', async () => {
    const wrong = record();
    wrong.stages.kernels.ops.qkv = counted(12, 340, 3);
    wrong.stages.golden.failed.push({ name: 'tiny_relative dual/hidden bfloat16' });
    wrong.bounds[0]!.value = 7999;
    const lines = await sectionOf({ 'cuda-a': record(), 'cuda-b': wrong });
    const second = lines.slice(lines.lastIndexOf('### Test GPU'));
    expect(rowOf(lines, 'qkv')).toContain('| 340 right |');
    expect(rowOf(second, 'qkv')).toContain('| **3 of 340 wrong** |');
    expect(second).toContain('| kernels | **failed** |');
    expect(second).toContain('| golden | **failed** |');
    expect(second).toContain('| images 64, per second | 7999 | at least 8000 | **not met** |');
  });

  it('takes nothing compared, or no planted error noticed, for no proof', async () => {
    const empty = record();
    empty.stages.kernels.ops = {};
    empty.stages.golden.plantedErrorsNoticed = 0;
    const lines = await sectionOf({ empty });
    expect(lines).toContain('| kernels | **failed** |');
    expect(lines).toContain('| golden | **failed** |');
  });

  it('shows a record that was cut off early', async () => {
    const { table, emulation, date } = record();
    const lines = await sectionOf({ early: { table, emulation, date, verdicts: { build: true }, stages: {} } });
    expect(lines[0]).toBe('### unknown GPU');
    expect(lines).toContain('| build | passed |');
    expect(lines).toContain('| golden | never run |');
    expect(rowOf(lines, 'qkv')).toContain('| never run | never run |');
  });

  it('calls not written what no CUDA source registers, and nothing else', async () => {
    const folder = join(packageRoot(), 'native', 'cuda', 'kernels');
    let source = '';
    for (const file of await readdir(folder)) source += await readFile(join(folder, file), 'utf8');
    const registered = new Set([...source.matchAll(/table\.add<(\w+)Forward,/g)].map(([, name]) => name));
    const written = (op: string) =>
      registered.has(op.replace(/(?:^|_)(\w)/g, (_all, letter: string) => letter.toUpperCase()));
    expect(opNames().filter((op) => !written(op))).toEqual(notWritten);
  });
});

describe('a GPU record on the page', () => {
  it('stands between the markers that the report fills', async () => {
    const page = await readFile(join(packageRoot(), 'docs', 'performance.md'), 'utf8');
    const folder = join(packageRoot(), 'bench', 'results');
    expect(page).toContain(`<!-- generated: cuda -->\n\n${cudaSection(folder)}\n\n<!-- end: cuda -->`);
  });
});
