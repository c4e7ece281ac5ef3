import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { checkBounds } from '../../../bench/check.mjs';
import { replaceBetween, writeReport } from '../../../bench/report.mjs';
import { ratio, share, spread } from '../../../bench/statistics.mjs';
import { packageRoot } from '../../src/runtime/addon.ts';
import { temporaryFolder } from '../helpers.ts';

const times = Array.from({ length: 11 }, (_, i) => 1 + i / 10);
const row = (name: string, dtype: string, median: number, peers = {}) => ({
  name,
  dtype,
  threads: 2,
  items: 8,
  unit: 'images',
  work: { flops: 1e12 },
  ours: { seconds: { fastDecile: median * 0.9, median, slowDecile: median * 1.1, n: 15 } },
  perSecond: { fastDecile: 8.8 / median, median: 8 / median, slowDecile: 7 / median },
  shareOfPeak: { of: 'fma', fastDecile: 0.8, median: 0.75 },
  peers,
});
const peer = (median: number, value: number) => ({
  seconds: { fastDecile: median, median, slowDecile: median, n: 15 },
  ratio: value,
});
const peaks = { fma_gflops: { one: 100, all: 200 }, vnni_gops: null, read_gbs: { one: 10, all: 20 } };
const result = {
  table: 'model',
  date: '2026-01-02',
  commit: 'abc',
  seed: 1,
  rounds: 15,
  machine: { cpu: 'Test CPU', cores: 2, target: 'avx2' },
  versions: { node: 'v20' },
  peaks: { before: peaks, after: peaks },
  rows: [row('image, batch 8', 'float32', 1, { onnxruntime: peer(2, 2) }), row('image, batch 8', 'int8', 0.4)],
  absent: ['torch: no Python with torch was found'],
};
type Bound = Parameters<typeof checkBounds>[1][number];
const bound = { name: 'images', table: 'model', row: 'image, batch 8', dtype: 'float32', measure: 'ratio' } as const;

describe('statistics of benches', () => {
  it('takes the low decile as the fast one, and the median between', () => {
    expect(spread([...times].reverse())).toEqual({ fastDecile: 1.1, median: 1.5, slowDecile: 1.9, n: 11 });
    expect(ratio([4, 2, 6], [1, 3, 2])).toBe(2);
    expect(share(100, { fastDecile: 2, median: 4 }, 100)).toEqual({ fastDecile: 0.5, median: 0.25 });
  });
});

describe('checkBounds', () => {
  const check = (bounds: Bound[], options = {}) => checkBounds([result], bounds, options);

  it('passes what is reached, and notices a planted slow figure', () => {
    const ratioBound = { ...bound, peer: 'onnxruntime', least: 1.8 };
    expect(check([ratioBound])).toMatchObject([{ passed: true, value: 2 }]);
    const slow = { ...result, rows: [row('image, batch 8', 'float32', 1.2, { onnxruntime: peer(2, 1.67) })] };
    expect(checkBounds([slow], [ratioBound])).toMatchObject([{ passed: false, value: 1.67 }]);
  });

  it('knows shares and the speed of one type over another', () => {
    expect(check([{ ...bound, measure: 'share', least: 0.76 }])).toMatchObject([{ passed: true, value: 0.8 }]);
    const speedup = { ...bound, dtype: 'int8', measure: 'speedup', over: 'float32', least: 2.6 } as const;
    expect(check([speedup])).toMatchObject([{ passed: false, value: 2.5 }]);
    const quick = { ...bound, measure: 'microseconds', most: 2e6 } as const;
    expect(check([quick, { ...quick, most: 1e5 }])).toMatchObject([{ passed: true }, { passed: false }]);
  });

  it('does not pass what was not measured, unless that is allowed', () => {
    const missing = [{ ...bound, peer: 'torch', least: 1 }];
    expect(check(missing)).toMatchObject([{ passed: false, value: null }]);
    expect(check(missing, { allowMissing: true })).toMatchObject([{ passed: true }]);
    expect(check([{ ...bound, row: 'no such row', peer: 'onnxruntime', least: 1 }])).toMatchObject([{ passed: false }]);
  });

  it('has bounds that name rows the tables make', async () => {
    const bounds = JSON.parse(await readFile(join(packageRoot(), 'bench', 'bounds.json'), 'utf8'));
    const recorded = await readFile(join(packageRoot(), 'docs', 'performance.md'), 'utf8');
    for (const { row: name, measure, peer: against, over } of bounds) {
      expect(recorded, name).toContain(`| ${name}`);
      if (measure === 'ratio') expect(against).toBeTruthy();
      if (measure === 'speedup') expect(over).toBeTruthy();
    }
  });
});

describe('the report', () => {
  it('writes tables and a chart between the markers and leaves the rest alone', async () => {
    const folder = await temporaryFolder();
    await mkdir(join(folder, 'bench', 'results'), { recursive: true });
    await mkdir(join(folder, 'docs'));
    await cp(join(packageRoot(), 'bench', 'bounds.json'), join(folder, 'bench', 'bounds.json'));
    await writeFile(join(folder, 'bench', 'results', 'model-test.json'), JSON.stringify(result));
    await writeFile(join(folder, 'bench', 'results', 'other.json'), '{"something":"else"}');
    const markers = ['model', 'training', 'kernels', 'memory']
      .map((name) => `<!-- generated: ${name} -->old<!-- end: ${name} -->`)
      .join('\n');
    const page = join(folder, 'docs', 'performance.md');
    await writeFile(page, `before\n${markers}\nafter\n`);
    await writeReport(folder);
    const text = await readFile(page, 'utf8');
    expect(text).toMatch(/^before\n/);
    expect(text).toMatch(/\nafter\n$/);
    expect(text).not.toContain('old');
    expect(text).toContain('| image, batch 8 | float32 | 900, 1000, 1100 | 8 images | 80 % (fma) | 2.00 x |');
    expect(text).toContain('Absent: torch');
    expect(text).toContain('| image, batch 8, float32 against onnxruntime | 2.00 | at least 1.8 | 2.1 | met |');
    expect(text).toContain('not measured');
    const svg = await readFile(join(folder, 'docs', 'charts', 'model-test.svg'), 'utf8');
    expect(svg).toMatch(/^<svg[\s\S]*onnxruntime[\s\S]*<\/svg>\n$/);
    await writeReport(folder);
    expect(await readFile(page, 'utf8')).toBe(text);
  });

  it('refuses a page without its markers', () => {
    expect(() => replaceBetween('nothing here', 'model', 'x')).toThrow('markers of model');
  });
});
