/** Parts of a bench: rows by name, runs that end early, and results that are written over older ones. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { processorsSection } from '../../../bench/processors.mjs';
import { benchLines } from '../../../bench/program.mjs';
import { readResult, withOlderRows, writeResult } from '../../../bench/results.mjs';
import { Interrupted, selectRows, TableRun } from '../../../bench/table-run.mjs';
import { temporaryFolder } from '../helpers.ts';

const tables = {
  model: ['image, batch 8', 'image, batch 1', 'text, batch 32 (12 of 40 tokens)', 'text, batch 32 (4 to 40 tokens)'],
  memory: ['8 images'],
};
const row = (name: string, median: number, more = {}) => ({
  name,
  dtype: 'float32',
  ours: { seconds: { fastDecile: median, median, slowDecile: median, n: 3 } },
  peers: {},
  ...more,
});

describe('rows by name', () => {
  it('takes the row of that name, or all that have the text in theirs', () => {
    expect(selectRows(tables, ['image, batch 8'])).toEqual({ model: ['image, batch 8'] });
    expect(selectRows(tables, ['Text, batch 32'])).toEqual({ model: tables.model.slice(2) });
    expect(selectRows(tables, ['8 images', 'image, batch 1'])).toEqual({
      model: ['image, batch 1'],
      memory: ['8 images'],
    });
  });

  it('refuses a name that no row has, with all names', () => {
    expect(() => selectRows(tables, ['image, batch 8', 'image, batch 9'])).toThrow(
      /got "image, batch 9"\. There are\nmodel:\n {2}image, batch 8\n[\s\S]*memory:\n {2}8 images/,
    );
  });
});

describe('a table that is measured', () => {
  const made = (names: string[], more = {}) => {
    const lines: string[] = [];
    const run = new TableRun({ names, log: (line: string) => lines.push(line), ...more });
    return { run, lines };
  };

  it('keeps the rows that were asked for alone, and tells of each', () => {
    let seen = 0;
    const onRow = ({ rows }: TableRun) => {
      seen = rows.length;
    };
    const { run, lines } = made(['a', 'b'], { onRow });
    expect([run.wants('a'), run.wants('c'), run.wants('c', 'b')]).toEqual([true, false, true]);
    run.add(row('a', 0.012, { peers: { torch: { ratio: 3 } } }), row('c', 1));
    expect(run.rows.map(({ name }: { name: string }) => name)).toEqual(['a']);
    expect([seen, run.measured, run.asked]).toEqual([1, 1, 2]);
    expect(lines).toEqual(['a, float32: 12 ms, 3.00 x torch']);
  });

  it('goes on without a peer that fails, and names it; an interruption ends it', async () => {
    const controller = new AbortController();
    const { run } = made(['a'], { signal: controller.signal });
    const fails = () => Promise.reject(new Error('out of memory\nand so on'));
    expect(await run.attempt('torch', 'a', fails)).toBeUndefined();
    expect(run.absent).toEqual(['torch of "a": it failed: out of memory']);
    controller.abort(new Interrupted('SIGTERM'));
    expect(() => run.wants('a')).toThrow('interrupted by SIGTERM');
    await expect(run.attempt('torch', 'a', fails)).rejects.toThrow('interrupted by SIGTERM');
  });
});

describe('results', () => {
  const names = ['a', 'b', 'c'];
  const result = (rows: unknown[], more = {}) => ({
    table: 'model',
    date: '2026-02-02',
    commit: 'new',
    rounds: 3,
    versions: { node: 'v22' },
    rows,
    ...more,
  });
  const older = result(
    [row('a', 1), row('gone', 1), row('c', 1, { of: { date: '2025-12-31', commit: 'x', rounds: 9 } })],
    {
      date: '2026-01-01',
      commit: 'old',
      rounds: 15,
      versions: { node: 'v20', torch: '1' },
    },
  );

  it('keep older rows that were not measured, with the run they are from', () => {
    const { rows, versions } = withOlderRows(result([row('b', 2)]), older, names);
    expect(rows.map(({ name }: { name: string }) => name)).toEqual(names);
    expect(rows.map(({ of }: { of?: object }) => of)).toEqual([
      { date: '2026-01-01', commit: 'old', rounds: 15 },
      undefined,
      { date: '2025-12-31', commit: 'x', rounds: 9 },
    ]);
    expect(versions).toEqual({ node: 'v22', torch: '1' });
  });

  it('replace what was measured again', () => {
    const { rows, versions } = withOlderRows(result([row('c', 2), row('a', 2), row('b', 2)]), older, names);
    expect(rows.map(({ ours }: ReturnType<typeof row>) => ours.seconds.median)).toEqual([2, 2, 2]);
    expect(rows.every(({ of }: { of?: object }) => of === undefined)).toBe(true);
    expect(versions).toEqual({ node: 'v22' });
  });

  it('are written whole', async () => {
    const path = join(await temporaryFolder(), 'results', 'x.json');
    expect(readResult(path)).toBeUndefined();
    writeResult(path, result([{ samples: [1, 2.5e-7] }]));
    expect(readResult(path)).toMatchObject({ rows: [{ samples: [1, 2.5e-7] }] });
    expect(await readFile(path, 'utf8')).toContain('"samples": [ 1, 2.5e-7 ]');
  });
});

describe('the program of kernels', () => {
  const program = async (text: string) => {
    const path = join(await temporaryFolder(), 'program.mjs');
    await writeFile(path, text);
    return path;
  };
  const lines = (path: string, more = {}) => benchLines([path], { program: process.execPath, ...more });

  it('gives its lines one by one', async () => {
    const seen: unknown[] = [];
    const path = await program(`for (const i of [1, 2]) console.log(JSON.stringify({ i }))`);
    expect(await lines(path, { onLine: (line: unknown) => seen.push(line) })).toEqual([{ i: 1 }, { i: 2 }]);
    expect(seen).toHaveLength(2);
  });

  it('fails when the program does, with the lines before', async () => {
    const seen: unknown[] = [];
    const path = await program(`console.log('{"i":1}'); process.exitCode = 3`);
    await expect(lines(path, { onLine: (line: unknown) => seen.push(line) })).rejects.toThrow('got exit code 3');
    expect(seen).toEqual([{ i: 1 }]);
    await expect(benchLines([], { program: '/nowhere/mome_bench' })).rejects.toThrow('ENOENT');
  });

  it('is ended by an interruption', async () => {
    const controller = new AbortController();
    const path = await program(`console.log('{"i":1}'); setInterval(() => {}, 1000)`);
    const onLine = () => controller.abort(new Interrupted('SIGINT'));
    await expect(lines(path, { onLine, signal: controller.signal })).rejects.toThrow('interrupted by SIGINT');
    await sleep(1);
  });
});

describe('the row of a processor', () => {
  it('has the main figures side by side, and nothing where nothing was measured', () => {
    const peers = { onnxruntime: { ratio: 1.5 }, 'onnxruntime, to the longest': { ratio: 1.25 } };
    const share = { of: 'fma', fastDecile: 0.87, median: 0.8 };
    const rows = [
      row('image, batch 8', 0.6, { shareOfPeak: share, peers }),
      row('image, batch 8', 0.2, { dtype: 'int8', peers: { ...peers, 'onnxruntime int8': { ratio: 1.3 } } }),
      row('fusion, batch 8 (12 of 40 tokens)', 0.6, { peers }),
    ];
    const machine = { cpu: 'AMD EPYC', kind: 'Zen 5', cores: 2, target: 'avx2' };
    const lines = processorsSection([{ machine, rows }]).split('\n');
    expect(lines[2]).toBe(
      '| AMD EPYC (Zen 5), 2 cores | avx2 | 600 | 87 % | 1.50 x |  | 1.50 x, 1.25 x |  |  | 3.00 x |  |  | 1.30 x |  |',
    );
    expect(lines[0]!.split('|')).toHaveLength(lines[2]!.split('|').length);
    expect(processorsSection([])).toBe('Not measured yet.');
  });
});
