import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { addon, packageRoot } from '../../src/runtime/addon.ts';
import type { DoctorCheck } from '../../src/runtime/doctor.ts';
import { tinyModel } from '../helpers.ts';

const cache = join(packageRoot(), 'build', 'CMakeCache.txt');
/** Builds with tests alone take errors that are planted. */
const plants = existsSync(cache) && /^MOME_TESTS:\w+=ON$/m.test(readFileSync(cache, 'utf8'));
const { targets, best } = addon().cpuInfo();

/** What a script prints as JSON in a process of its own in which the self-checks of `planted` fail. */
function withPlanted(planted: readonly string[], script: string, target = '') {
  const index = JSON.stringify(join(packageRoot(), 'dist', 'index.mjs'));
  const code = `import { Vlmo, diagnose } from ${index};
    const load = (options) => Vlmo.load(${JSON.stringify(folder)}, { device: 'cpu', ...options });
    ${script}`;
  const { stdout, stderr, status } = spawnSync(process.execPath, ['--input-type=module', '-e', code], {
    encoding: 'utf8',
    env: { ...process.env, MOME_TARGET: target, MOME_PLANT_SELF_CHECK: planted.join() },
  });
  expect(status, stderr).toBe(0);
  return { result: JSON.parse(stdout), warnings: stderr.match(/\[MOME_TARGET_REJECTED\].*/g) ?? [] };
}

let folder = '';
beforeAll(async () => {
  folder = await tinyModel();
});

describe('self-checks', () => {
  it('pass on this machine, in a few milliseconds each', () => {
    for (const target of targets) {
      expect(addon().checkTarget(target)).toMatchObject({ passed: true, wrong: '' });
      expect(addon().checkTarget(target).milliseconds).toBeLessThan(200);
    }
    expect(addon().cpuInfo()).toMatchObject({ best: targets.at(-1), rejected: [] });
  });
  it('are of targets that there are', () => {
    for (const target of ['cuda', 'avx9', '']) {
      expect(() => addon().checkTarget(target)).toThrow('expected a target of this processor');
    }
  });
});

describe.runIf(plants && targets.length > 1)('a kernel set whose self-check fails', () => {
  const models = `const first = await load();
    const second = await load();
    console.log(JSON.stringify([first.target, second.target, (await first.embedTexts(['a red square'])).count]));
    await Promise.all([first.dispose(), second.dispose()]);`;

  it('is left out with one warning', () => {
    const { result, warnings } = withPlanted([best], models);
    expect(result).toEqual([targets.at(-2), targets.at(-2), 1]);
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain(`the self-check failed for ${best} (`);
    expect(warnings[0]).toMatch(/relative error \S+, expected at most \S+\); \w+ is taken instead/);
  });

  it('leaves the plain kernels where all others fail', () => {
    const { result, warnings } = withPlanted(targets, models);
    expect(result).toEqual(['ref', 'ref', 1]);
    expect(warnings).toHaveLength(1);
  });

  it('is not missed where a slower one is asked for', () => {
    const { result, warnings } = withPlanted([best], models, 'ref');
    expect(result).toEqual(['ref', 'ref', 1]);
    expect(warnings).toEqual([]);
  });

  it('is refused where it is asked for', () => {
    const script = `const failure = (options) => load(options).catch(({ code, message }) => ({ code, message }));
      const named = await failure({ target: '${best}' });
      process.env.MOME_TARGET = '${best}';
      console.log(JSON.stringify([named, await failure({})]));`;
    const { result } = withPlanted([best], script);
    expect(result).toHaveLength(2);
    for (const { code, message } of result) {
      expect(code).toBe('MOME_DEVICE_UNAVAILABLE');
      expect(message).toContain(`the self-check of target '${best}' failed on this processor: `);
    }
  });

  it('is shown by mome doctor', () => {
    const { result } = withPlanted([best], 'console.log(JSON.stringify(await diagnose()));');
    expect(result.ok).toBe(false);
    const details = new Map(result.checks.map((check: DoctorCheck) => [check.name, check]));
    expect(details.get('cpu')).toMatchObject({
      ok: true,
      detail: expect.stringContaining(`fastest kernels: ${targets.at(-2)}, because the self-check failed for ${best}`),
    });
    expect(details.get(`target ${best}`)).toMatchObject({
      ok: false,
      detail: expect.stringMatching(/^the self-check failed: .*relative error/),
    });
    expect(details.get(`target ${targets.at(-2)}`)).toMatchObject({ ok: true });
  });
});
