import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { replaceBetween } from '../../../bench/between.mjs';
import {
  coreHours,
  perCore,
  readInputs,
  rowBytes,
  scaleSections,
  writeScaleReport,
} from '../../../bench/scale-report.mjs';
import { packageRoot } from '../../src/runtime/addon.ts';
import { temporaryFolder } from '../helpers.ts';

describe('docs/scale.md', () => {
  it('says what the recorded results and the parameters give', async () => {
    const page = await readFile(join(packageRoot(), 'docs', 'scale.md'), 'utf8');
    const sections = Object.entries(scaleSections(readInputs()) as Record<string, string>);
    expect(sections.map(([name]) => name)).toEqual(
      [...page.matchAll(/<!-- generated: (\w+) -->/g)].map(([, name]) => name),
    );
    for (const [name, content] of sections) expect(replaceBetween(page, name, content)).toBe(page);
    // Another price, or another measured rate, is another page.
    const inputs = readInputs();
    inputs.parameters.coreHour *= 1.1;
    expect(replaceBetween(page, 'embedding', scaleSections(inputs).embedding)).not.toBe(page);
    const slower = readInputs();
    for (const { result } of slower.models) for (const row of result.rows) row.perSecond.median *= 0.9;
    for (const name of ['rates', 'embedding', 'queries'] as const)
      expect(replaceBetween(page, name, scaleSections(slower)[name])).not.toBe(page);
  });

  it('computes what its formulas say', () => {
    const { models } = readInputs();
    const { result } = models[0]!;
    const row = result.rows.find(
      (each: { name: string; dtype: string }) => each.name === 'image, batch 8' && each.dtype === 'int8',
    );
    const rate = perCore(result, 'image, batch 8', 'int8');
    expect(rate).toBeCloseTo(8 / row.ours.seconds.median / row.threads, 6);
    expect(coreHours(rate) * 3600 * rate).toBeCloseTo(1e6, 3);
    expect(rowBytes(768)).toEqual({ float32: 3072, int8: 772 });
    expect(perCore(result, 'image, batch 9', 'int8')).toBeUndefined();
  });

  it('is written with its text kept, and not without its markers', async () => {
    const folder = await temporaryFolder();
    await cp(join(packageRoot(), 'bench', 'results'), join(folder, 'bench', 'results'), { recursive: true });
    await cp(join(packageRoot(), 'bench', 'scale-parameters.json'), join(folder, 'bench', 'scale-parameters.json'));
    await mkdir(join(folder, 'docs'));
    const page = await readFile(join(packageRoot(), 'docs', 'scale.md'), 'utf8');
    const path = join(folder, 'docs', 'scale.md');
    await writeFile(path, page.replace(/\| AMD EPYC[^\n]*\n/g, ''));
    writeScaleReport(folder);
    expect(await readFile(path, 'utf8')).toBe(page);
    await writeFile(path, page.replace('<!-- end: index -->', ''));
    expect(() => writeScaleReport(folder)).toThrow('markers of index');
  });
});
