/**
 * The script for GPU machines where there is none: its own judgement on made-up results, and all its stages that need no GPU on the
 * emulation that the native tests build.
 */
import { spawnSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { cudaSection, notWritten } from '../../../bench/cuda-report.mjs';
import { packageRoot } from '../../src/runtime/addon.ts';
import { temporaryFolder } from '../helpers.ts';

const scripts = join(packageRoot(), 'scripts', 'gpu');
const pythonWith = (module: string) =>
  ['python3', '/usr/bin/python3'].find(
    (each) => spawnSync(each, ['-c', `import ${module}`], { stdio: 'ignore' }).status === 0,
  );
const runWith = (python: string, words: readonly string[], environment = {}) =>
  spawnSync(python, words, { encoding: 'utf8', env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1', ...environment } });
const python = pythonWith('json');
const withTorch = pythonWith('torch');
interface Tile {
  readonly family: string;
  readonly tile: number;
}

it.skipIf(withTorch === undefined)('the peers are the model that is trained (skipped without PyTorch)', () => {
  const { status, stderr } = runWith(withTorch!, [join(scripts, 'test_peer.py')]);
  expect(status, stderr).toBe(0);
});

describe.skipIf(python === undefined)('scripts/gpu (skipped without python3)', () => {
  it('judges results as it should', () => {
    const { status, stderr } = runWith(python!, [join(scripts, 'test_run.py')]);
    expect(status, stderr).toBe(0);
  }, 600_000);

  it('rehearses the whole script on the emulation, without NumPy', async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, 'numpy.py'), 'raise ImportError("this machine has none")\n');
    const out = join(folder, 'result.json');
    const build = join(packageRoot(), 'build');
    const words = ['--emulation', '--prebuilt', build, '--out', out];
    const { status, stdout, stderr } = runWith(python!, [join(scripts, 'run.py'), ...words], { PYTHONPATH: folder });
    expect(status, stdout + stderr).toBe(0);
    const result = JSON.parse(await readFile(out, 'utf8'));
    expect(result).toMatchObject({
      table: 'cuda',
      emulation: true,
      passed: true,
      verdicts: { build: true, smoke: true, kernels: true, golden: true, sweep: true },
    });
    expect(Object.keys(result.stages)).toEqual(['machine', 'build', 'smoke', 'kernels', 'golden', 'sweep']);
    const tiles = new Set(result.stages.sweep.figures.map(({ family, tile }: Tile) => `${family} ${tile}`));
    expect(tiles.size).toBe(7);
    expect(result.stages.kernels.compared['as chosen']).toBeGreaterThan(50);
    const { qkv, tanh } = result.stages.kernels.ops;
    for (const { compared, failed } of [qkv.bfloat16, qkv.float32, tanh.float32]) {
      expect([compared > 0, failed]).toEqual([true, 0]);
    }
    expect(result.stages.golden.plantedErrorsNoticed).toBeGreaterThan(10);
    // As the page shows such a record, if it were one of a GPU.
    await writeFile(out, JSON.stringify({ ...result, emulation: false }));
    const lines = cudaSection(folder).split('\n');
    expect(lines).toContain('| kernels | passed |');
    expect(lines).toContain('| golden | passed |');
    const kernels = lines.filter((line) => line.startsWith('| `'));
    expect(kernels.filter((line) => !/\| \d+ right \| \d+ right \|/.test(line))).toHaveLength(notWritten.length);
  }, 600_000);
});
