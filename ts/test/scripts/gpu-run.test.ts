/**
 * The script for GPU machines where there is none: its own judgement on made-up results, and its cheapest stages on the emulation that the
 * native tests build.
 */
import { spawnSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { packageRoot } from '../../src/runtime/addon.ts';
import { temporaryFolder } from '../helpers.ts';

const scripts = join(packageRoot(), 'scripts', 'gpu');
const python = ['python3', '/usr/bin/python3'].find(
  (each) => spawnSync(each, ['-c', 'import numpy'], { stdio: 'ignore' }).status === 0,
);
const run = (...words: string[]) =>
  spawnSync(python!, words, { encoding: 'utf8', env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1' } });

describe.skipIf(python === undefined)('scripts/gpu (skipped without a python3 that has numpy)', () => {
  it('judges results as it should', () => {
    const { status, stderr } = run(join(scripts, 'test_run.py'));
    expect(status, stderr).toBe(0);
  });

  it('checks kernels and reference cases on the emulation', async () => {
    const out = join(await temporaryFolder(), 'result.json');
    const build = join(packageRoot(), 'build');
    const stages = 'machine,kernels,golden';
    const words = ['--emulation', '--build', build, '--stages', stages, '--out', out];
    const { status, stdout, stderr } = run(join(scripts, 'run.py'), ...words);
    expect(status, stdout + stderr).toBe(0);
    const result = JSON.parse(await readFile(out, 'utf8'));
    expect(result).toMatchObject({ passed: true, verdicts: { kernels: true, golden: true } });
    expect(Object.keys(result.stages)).toEqual(stages.split(','));
    expect(result.stages.kernels.compared['as chosen']).toBeGreaterThan(50);
    expect(result.stages.golden.plantedErrorsNoticed).toBeGreaterThan(10);
  }, 120_000);
});
