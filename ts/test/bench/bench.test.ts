import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { boundsOf, checkBounds } from '../../../bench/check.mjs';
import { machineName, processorKind, slugOf } from '../../../bench/processor-kind.mjs';
import { replaceBetween, sectionOf, writeReport } from '../../../bench/report.mjs';
import { median, ratio, share, spread } from '../../../bench/statistics.mjs';
import { fasterPeer, memoryRow, rowOf, withShare } from '../../../bench/tables/row.mjs';
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
    expect(spread([3, 1, 2])).toMatchObject({ fastDecile: 1, median: 2, slowDecile: 3 });
    expect(ratio([4, 2, 6], [1, 3, 2])).toBe(2);
    expect(median([9, 1, 5])).toBe(5);
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

  it('says what is missing, and never throws over it', () => {
    const { peers: _, ...bare } = row('image, batch 8', 'float32', 1);
    const reasonOf = (rows: unknown[], asked: Bound) => checkBounds([{ ...result, rows }], [asked])[0]!.reason;
    const toTorch = { ...bound, peer: 'torch', least: 1 };
    expect(reasonOf([bare], toTorch)).toBe('was not measured: no ratio to torch of "image, batch 8" in float32');
    expect(reasonOf([], toTorch)).toBe('was not measured: no row "image, batch 8" in float32');
    expect(reasonOf([bare], { ...bound, table: 'memory', peer: 'x', least: 1 })).toContain('no table memory');
    expect(reasonOf([bare], { ...bound, measure: 'speedup', over: 'int8', least: 1 })).toContain('in int8');
    expect(reasonOf([bare], { ...bound, measure: 'overLimit', most: 1 })).toContain('no overLimit');
  });

  it('refuses bounds that no figure could miss', () => {
    expect(() => check([{ ...bound, peer: 'onnxruntime' }])).toThrow('expected either least or most');
    expect(() => check([{ ...bound, peer: 'onnxruntime', least: 1, most: 2 }])).toThrow('either least or most');
    expect(() => check([{ ...bound, measure: 'rato', least: 1 } as unknown as Bound])).toThrow('measure rato');
  });

  it('takes a peer with one thread where more make it slower', () => {
    expect(fasterPeer([8, 8, 8], [1, 1, 1], [0.5, 0.5, 0.5])).toMatchObject({ ratio: 2, note: 'one thread' });
    expect(fasterPeer([0.6, 0.6, 0.6], [1, 1, 1], [0.5, 0.5, 0.5])).toMatchObject({ ratio: 1.2 });
    expect(fasterPeer([8, 8, 8], undefined, [0.5, 0.5, 0.5])).toMatchObject({ ratio: 16 });
  });

  it('allows packed weights once, also where the engine says it holds more', () => {
    const bytes = { baseline: 80e6, weights: 700e6, arena: 6e6, parameters: 690e6, peak: 840e6 };
    expect(memoryRow('all', 'float32', bytes)).toMatchObject({ within: true, bytes: { limit: 846e6 } });
    const twice = { ...bytes, weights: 1400e6, peak: 1540e6 };
    expect(memoryRow('all', 'float32', twice).within).toBe(false);
  });

  it('has bounds that say all they need, and that fit the recorded rows they name', async () => {
    const bounds: Bound[] = JSON.parse(await readFile(join(packageRoot(), 'bench', 'bounds.json'), 'utf8'));
    expect(new Set(bounds.map(({ name }) => name)).size).toBe(bounds.length);
    expect(checkBounds([], bounds).every(({ passed, value }) => !passed && value === null)).toBe(true);
    for (const { name, measure, peer: against, over, least, aim } of bounds) {
      expect(against !== undefined, name).toBe(measure === 'ratio');
      expect(over !== undefined, name).toBe(measure === 'speedup');
      if (least !== undefined && aim !== undefined) expect(aim, name).toBeGreaterThan(least);
    }
    const folder = join(packageRoot(), 'bench', 'results');
    for (const file of (await readdir(folder)).filter((each) => each.endsWith('.json'))) {
      const { table, rows } = JSON.parse(await readFile(join(folder, file), 'utf8'));
      for (const asked of bounds.filter((each) => each.table === table)) {
        const named = rows.filter((each: { name: string }) => each.name === asked.row);
        if (named.length === 0) continue; // a row that is younger than the record
        for (const type of [asked.dtype, ...(asked.over ? [asked.over] : [])]) {
          expect(
            named.some((each: { dtype: string }) => each.dtype === type),
            `${file}: ${asked.name}: ${type}`,
          ).toBe(true);
        }
      }
    }
  });
});

/** A folder with what the report reads: results, the bounds of the suite, and a page with nothing between its markers. */
async function project(results: Record<string, unknown>) {
  const folder = await temporaryFolder();
  await mkdir(join(folder, 'bench', 'results'), { recursive: true });
  await mkdir(join(folder, 'docs'));
  await cp(join(packageRoot(), 'bench', 'bounds.json'), join(folder, 'bench', 'bounds.json'));
  for (const [name, content] of Object.entries(results)) {
    await writeFile(join(folder, 'bench', 'results', `${name}.json`), JSON.stringify(content));
  }
  const markers = ['processors', 'model', 'training', 'kernels', 'memory', 'cuda']
    .map((name) => `<!-- generated: ${name} -->old<!-- end: ${name} -->`)
    .join('\n');
  const page = join(folder, 'docs', 'performance.md');
  await writeFile(page, `before\n${markers}\nafter\n`);
  return { folder, page };
}

describe('the report', () => {
  it('writes tables and a chart between the markers and leaves the rest alone', async () => {
    const { folder, page } = await project({ 'model-test': result, other: { something: 'else' } });
    await writeReport(folder);
    const text = await readFile(page, 'utf8');
    expect(text).toMatch(/^before\n/);
    expect(text).toMatch(/\nafter\n$/);
    expect(text).not.toContain('old');
    expect(text).toContain(
      '| image, batch 8 | float32 | 900, 1000, 1100 | 8.8, 8, 7 images | 80 % (fma) | 2000, 2000, 2000; 2.00 x |',
    );
    expect(text).toContain('Absent: torch');
    expect(text).toContain('| image, batch 8, float32 against onnxruntime | 2.00 | at least 1.8 | 2.1 | met |');
    expect(text).toContain('not measured');
    const svg = await readFile(join(folder, 'docs', 'charts', 'model-test.svg'), 'utf8');
    expect(svg).toMatch(/^<svg[\s\S]*onnxruntime[\s\S]*<\/svg>\n$/);
    expect(svg).toContain('% of the peak');
    await writeReport(folder);
    expect(await readFile(page, 'utf8')).toBe(text);
    expect(await readFile(join(folder, 'docs', 'charts', 'model-test.svg'), 'utf8')).toBe(svg);
  });

  it('leaves out the figures of the server, which lie beside the tables', async () => {
    const { table: _, ...others } = result;
    const server = {
      ...others,
      part: 'throughput',
      title: 'throughput',
      passed: false,
      rows: [{ name: 'texts', ratio: 0.9 }],
    };
    const { folder, page } = await project({ 'model-test': result });
    const both = await project({ 'model-test': result, 'server-throughput-shipped-test': server });
    await Promise.all([writeReport(folder), writeReport(both.folder)]);
    expect(await readFile(both.page, 'utf8')).toBe(await readFile(page, 'utf8'));
  });

  it('says plainly what is not met, and gives each machine its section', async () => {
    const slow = {
      ...result,
      machine: { ...result.machine, cpu: 'Slow CPU' },
      rows: [row('image, batch 8', 'float32', 1.9, { onnxruntime: { ...peer(2, 1.05), note: 'padded' } })],
    };
    const { folder, page } = await project({ 'model-slow': slow, 'model-test': result });
    await writeReport(folder);
    const text = await readFile(page, 'utf8');
    expect(text).toContain('### Slow CPU, 2 cores, avx2');
    expect(text).toContain('### Test CPU, 2 cores, avx2');
    expect(text).toContain('| image, batch 8, float32 against onnxruntime | 1.05 | at least 1.8 | 2.1 | **not met** |');
    expect(text).toContain('2000, 2000, 2000; 1.05 x (padded)');
  });

  it('says what is partial, what is older, and that peers have more than the target', async () => {
    const of = { date: '2025-12-31', commit: 'old', rounds: 9 };
    const cut = {
      ...result,
      machine: { ...result.machine, kind: 'Zen 5', best: 'avx512_bf16' },
      peaks: { before: { ...peaks, maddubs_gops: { one: 250, all: 500 } } },
      partial: { reason: 'interrupted by SIGINT', measured: 1, of: 8 },
      rows: [row('image, batch 8', 'float32', 1), { ...row('image, batch 1', 'float32', 1), of }],
    };
    const { folder, page } = await project({ 'model-test': cut });
    await writeReport(folder);
    const text = await readFile(page, 'utf8');
    expect(text).toContain('### Test CPU (Zen 5), 2 cores, avx2');
    expect(text).toContain('before, FMA 100 and 200 GFLOP/s, vpmaddubsw 250 and 500 GOP/s, reading 10 and 20 GB/s.\n');
    expect(text).toContain('The processor has avx512_bf16, and the peers use what it has.');
    expect(text).toContain('**Partial**: 1 of 8 rows that were asked for: interrupted by SIGINT.');
    expect(text).toContain('| image, batch 1 (2025-12-31, old, 9 rounds) | float32 |');
    expect(text).toContain('| Test CPU (Zen 5), 2 cores | avx2 | 1000 | 80 % |');
  });

  it('draws a peer that was measured for each type under the name of that type', async () => {
    const rows = [
      row('mixed', 'float32', 1, { apart: peer(2, 2) }),
      row('mixed', 'int8', 0.5, { apart: peer(0.4, 0.8) }),
    ];
    const { folder } = await project({ 'model-test': { ...result, rows } });
    await writeReport(folder);
    const svg = await readFile(join(folder, 'docs', 'charts', 'model-test.svg'), 'utf8');
    expect(svg).toContain('>apart, float32<');
    expect(svg).toContain('>apart, int8<');
    const shared = { onnxruntime: peer(2, 2) };
    const once = await project({
      'model-test': { ...result, rows: [row('image', 'float32', 1, shared), row('image', 'int8', 0.5, shared)] },
    });
    await writeReport(once.folder);
    const single = await readFile(join(once.folder, 'docs', 'charts', 'model-test.svg'), 'utf8');
    expect(single).toContain('>onnxruntime<');
    // Bars of one name would be stacked, and the peer look faster than it is.
    expect(single.match(/aria-label="per second: [^"]*; who: onnxruntime"/g)).toHaveLength(1);
  });

  it('writes the memory table, and says what is over its limit', async () => {
    const mib = 2 ** 20;
    const bytes = { baseline: 50 * mib, peak: 500 * mib, weights: 300 * mib, arena: 60 * mib, limit: 470 * mib };
    const memory = {
      ...result,
      table: 'memory',
      rows: [{ name: '8 images, 32 texts and 8 pairs', dtype: 'int8', bytes, within: false }],
    };
    const { folder, page } = await project({ 'memory-test': memory });
    await writeReport(folder);
    const text = await readFile(page, 'utf8');
    expect(text).toContain('| int8 | 50 MiB | 300 MiB | 60 MiB | 500 MiB | 470 MiB | **over** |');
    expect(text).toContain('| peak memory within its limit, int8 | 1.06 | at most 1 |  | **not met** |');
    expect(await readdir(join(folder, 'docs', 'charts'))).toEqual([]);
  });

  it('says where the time went, the largest ops first and those under a hundredth together', async () => {
    const op = (name: string, milliseconds: number) => ({ op: name, milliseconds });
    const rows = [
      {
        ...row('image', 'float32', 1),
        profile: { ops: [op('attention', 20), op('expert_ffn', 70), op('normalize', 0.5)], outsideMilliseconds: 9.5 },
      },
      { ...row('image', 'int8', 0.5), profile: { ops: [op('expert_ffn', 9)], outsideMilliseconds: 1 } },
      row('image', 'bfloat16', 1),
    ];
    const { folder, page } = await project({ 'model-test': { ...result, rows } });
    await writeReport(folder);
    const lines = (await readFile(page, 'utf8')).split('\n');
    const from = lines.indexOf(
      '| share of the time | weights | expert_ffn | attention | other ops | outside kernels |',
    );
    expect(lines.slice(from + 2, from + 5)).toEqual([
      '| image | float32 | 70.0 % | 20.0 % | 0.5 % | 9.5 % |',
      '| image | int8 | 90.0 % | 0.0 % | 0.0 % | 10.0 % |',
      '',
    ]);
  });

  it('prints a table by itself, with rows, peers and verdicts', () => {
    const text = sectionOf('model-test', result, [{ ...bound, peer: 'onnxruntime', least: 3 }], undefined);
    expect(text).toContain('### Test CPU, 2 cores, avx2');
    expect(text).toMatch(/\| image, batch 8 \| float32 \| .*2\.00 x \|/);
    expect(text).toMatch(/\| images \| 2\.00 \| at least 3 \| {2}\| \*\*not met\*\* \|/);
    expect(text).not.toContain('![');
  });

  it('refuses a page without its markers', () => {
    expect(() => replaceBetween('nothing here', 'model', 'x')).toThrow('markers of model');
  });
});

describe('shares of a peak', () => {
  it.each([
    ['float32', { flops: 4e9 }, 1, { of: 'fma', share: 0.04 / 2 }],
    ['float32', { flops: 4e9 }, 2, { of: 'fma', share: 0.02 / 2 }],
    ['int8', { flops: 4e9 }, 1, { of: 'vnni', share: 0.01 / 2 }],
    ['bfloat16', { flops: 4e9 }, 1, { of: 'fma', share: 0.04 / 2 }],
    ['float32', { flops: 4e9, bytes: 5e9 }, 1, { of: 'read', share: 0.5 / 2 }],
  ])('%s work %j on %i threads is held to what bounds it', (dtype, work, threads, expected) => {
    const before = {
      fma_gflops: { one: 100, all: 200 },
      vnni_gops: { one: 400, all: 800 },
      read_gbs: { one: 10, all: 20 },
    };
    const after = { ...before, read_gbs: { one: 9, all: 18 } };
    const made = rowOf({ name: 'x', dtype, threads, items: 1, unit: 'calls', ...work }, [2, 2, 2], {});
    const { shareOfPeak } = withShare(made, before, after);
    expect(shareOfPeak.of).toBe(expected.of);
    expect(shareOfPeak.median).toBeCloseTo(expected.share, 10);
  });

  it('of 8-bit and bfloat16 work are held to what the measured target multiplies them with', () => {
    const base = { fma_gflops: { one: 100, all: 200 }, read_gbs: { one: 10, all: 20 }, vnni_gops: null };
    const narrow = { ...base, maddubs_gops: { one: 250, all: 500 }, bf16_gflops: null };
    const wide = {
      ...base,
      vnni_gops: { one: 400, all: 800 },
      maddubs_gops: null,
      bf16_gflops: { one: 200, all: 400 },
    };
    const shareOf = (dtype: string, before: object, after?: object) =>
      withShare(
        rowOf({ name: 'x', dtype, threads: 1, items: 1, unit: 'calls', flops: 1e9 }, [1], {}),
        before,
        after ?? before,
      ).shareOfPeak;
    expect(shareOf('int8', narrow)).toMatchObject({ of: 'vpmaddubsw', median: 1 / 250 });
    expect(shareOf('int8', wide)).toMatchObject({ of: 'vnni', median: 1 / 400 });
    expect(shareOf('bfloat16', narrow)).toMatchObject({ of: 'fma', median: 1 / 100 });
    expect(shareOf('bfloat16', wide)).toMatchObject({ of: 'vdpbf16ps', median: 1 / 200 });
    expect(shareOf('int8', base), 'no such peak was measured').toBeNull();
  });
});

describe('processors', () => {
  const cpuinfo = (vendor: string, family: number, model: number) =>
    `processor\t: 0\nvendor_id\t: ${vendor}\ncpu family\t: ${family}\nmodel\t\t: ${model}\nmodel name\t: X\n`;

  it('are told apart by family and model, since virtual machines name them alike', () => {
    expect(processorKind(cpuinfo('AuthenticAMD', 26, 2))).toBe('Zen 5');
    expect(processorKind(cpuinfo('AuthenticAMD', 25, 1))).toBe('Zen 3');
    expect(processorKind(cpuinfo('AuthenticAMD', 25, 17))).toBe('Zen 4');
    expect(processorKind(cpuinfo('GenuineIntel', 6, 106))).toBe('Ice Lake');
    expect(processorKind(cpuinfo('GenuineIntel', 6, 999))).toBe('family 6 model 999');
    expect(processorKind('')).toBeUndefined();
  });

  it('have files of their own for each kernel set', () => {
    const machine = { cpu: 'AMD EPYC', kind: 'Zen 5', target: 'avx512_bf16' };
    expect(machineName(machine)).toBe('AMD EPYC, Zen 5, avx512_bf16');
    expect(slugOf(machine)).toBe('amd-epyc-zen-5-avx512-bf16');
    expect(slugOf({ ...machine, target: 'avx2' })).toBe('amd-epyc-zen-5-avx2');
    expect(slugOf({ cpu: 'AMD EPYC', target: 'avx512_vnni' })).toBe('amd-epyc-avx512-vnni');
  });

  it('have bounds of their own', () => {
    const bounds = [bound, { ...bound, name: 'avx2', targets: ['avx2'] }, { ...bound, table: 'memory' }];
    const named = (target: string) => boundsOf(bounds, 'model', target).map(({ name }: { name: string }) => name);
    expect(named('avx2')).toEqual(['images', 'avx2']);
    expect(named('avx512')).toEqual(['images']);
  });
});
