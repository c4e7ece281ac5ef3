import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { bestOf, comparedTo, leastGain, trials } from '../../src/cli/tune.ts';
import { tableRow } from '../../src/cli/tune-report.ts';
import { addon } from '../../src/runtime/addon.ts';
import { tinyModel } from '../helpers.ts';

const times = (entries: Record<string, number[]>) => new Map(Object.entries(entries));

describe('candidates', () => {
  it('are compared by medians, call by call, with the value so far', () => {
    const [half, same, mixed] = comparedTo(
      1,
      [4, 8, 16],
      [
        times({ 'float32/a': [5, 5, 900], 'float32/b': [1], 'int8/a': [2] }),
        times({ 'float32/a': [10, 10, 10], 'float32/b': [2], 'int8/a': [4] }),
        times({ 'float32/a': [20, 20, 1], 'float32/b': [1], 'int8/a': [1] }),
      ],
    );
    expect(half).toEqual({ value: 4, byType: { float32: 0.5, int8: 0.5 }, mean: 0.5 });
    expect(same).toEqual({ value: 8, byType: { float32: 1, int8: 1 }, mean: 1 });
    expect(mixed!.byType.float32).toBeCloseTo(1, 12); // twice and half the time
    expect(mixed!.byType.int8).toBeCloseTo(0.25, 12);
    expect(mixed!.mean).toBeCloseTo(0.25 ** (1 / 3), 12);
  });

  it('are taken for more than chance', () => {
    const value = (of: number, mean: number) => ({ value: of, byType: {}, mean });
    const found = (quick: number, again: number) => ({
      field: 'depth_steps',
      values: [value(4, quick), value(8, 1), value(16, 1.2)],
      again: value(8, again),
    });
    expect(bestOf(found(1 - leastGain / 2, 1), 8)).toBe(8);
    expect(bestOf(found(1 - 2 * leastGain, 1), 8)).toBe(4);
    expect(bestOf(found(0.9, 0.94), 8)).toBe(8); // the same value differs by 6 %
    expect(bestOf(found(0.9, 1.06), 8)).toBe(8);
    expect(bestOf(found(0.9, 1.04), 8)).toBe(4);
  });
});

it('every number of the table is tried', () => {
  expect(trials.map(({ field }) => field)).toEqual(Object.keys(addon().blocking().fields));
});

it('a row is C++ of the table', () => {
  expect(
    tableRow({ vendor: 'GenuineIntel', family: 6, model: 10 }, 'a "Xeon"', { depth_steps: 384, row_block: 256 }),
  ).toBe('{"GenuineIntel", 6, 0x0a, 0x0a, "a \\"Xeon\\"", {.depth_steps = 384, .row_block = 256}},');
});

describe('mome bench --tune', () => {
  const mome = (...args: string[]) =>
    spawnSync(process.execPath, [join(process.cwd(), 'dist/cli.mjs'), 'bench', ...args], { encoding: 'utf8' });

  it('measures the numbers that are asked for', async () => {
    const model = await tinyModel();
    const { stdout, stderr, status } = mome('-m', model, '--tune', 'item_panels', '--rounds', '1', '--json');
    expect(stderr).toBe('');
    expect(status).toBe(0);
    const { start, best, measured, row } = JSON.parse(stdout);
    expect(start).toEqual(addon().blocking().fields);
    expect(best).toEqual({ ...start, item_panels: expect.any(Number) });
    expect(measured).toHaveLength(1);
    expect(measured[0].values.map(({ value }: { value: number }) => value)).toEqual([4, 8, 16]);
    expect(Object.keys(measured[0].values[0].byType)).toEqual(['float32', 'bfloat16']);
    expect(measured[0].again.value).toBe(start.item_panels);
    expect(row).toContain(`.item_panels = ${best.item_panels}`);
  });

  it('refuses other numbers and passes on why a model cannot be loaded', () => {
    const unknown = mome('--tune', 'cache_lines');
    expect(unknown.status).toBe(2);
    expect(unknown.stderr).toContain('expected numbers among depth_steps');
    const absent = mome('-m', '/nowhere', '--tune', 'item_panels');
    expect(absent.status).toBe(1);
    expect(absent.stderr).toContain('MOME_NOT_FOUND');
  });
});
