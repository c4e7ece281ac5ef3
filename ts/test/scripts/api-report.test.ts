/** The report of public types: complete, quiet about comments, and changed by a change of a type. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { apiReport, firstDifference } from '../../../scripts/api-report.mjs';
import { plan } from '../../../scripts/ci-matrix.mjs';
import { temporaryFolder } from '../helpers.ts';

const declarations = `/** A comment. */
interface Inner { readonly size: number }
interface Unused { readonly never: true }
declare class Model$1 {
  private secret;
  #hidden: number;
  call(inner: Inner): Promise<void>;
}
declare const limit: 3;
export { Model$1 as Model, limit };
`;

describe('the API report', () => {
  it('has what is exported and what that mentions, and notices a change of either', { timeout: 30_000 }, async () => {
    const folder = await temporaryFolder();
    const report = async (text: string): Promise<string> => {
      const file = join(folder, 'index.d.mts');
      await writeFile(file, text);
      return apiReport(file);
    };
    const before = await report(declarations);
    expect(before).toContain('export Model\n');
    expect(before).toContain('interface Inner');
    expect(before).toContain('limit: 3');
    for (const absent of ['secret', 'hidden', 'Unused', 'comment', '$1']) expect(before).not.toContain(absent);

    expect(firstDifference(before, await report(declarations.replace('A comment', 'Other words')))).toBeUndefined();
    const planted = await report(declarations.replace('size: number', 'size: string'));
    expect(firstDifference(before, planted)).toMatch(/line \d+: expected ".*size: number;", got ".*size: string;"/);
    expect(firstDifference(before, await report(declarations.replace(', limit }', ' }')))).toMatch(/^line \d+/);
    // What the compiler infers has no order of its own.
    const inferred = await report('export declare const x: { a: 1; b: "c" | "d" };');
    expect(await report('export declare const x: { b: "d" | "c"; a: 1 };')).toBe(inferred);
    expect(await report('export declare const x: { b: "d"; a: 1 };')).not.toBe(inferred);
    expect(firstDifference('a\nb', 'a')).toBe('line 2: expected "b", got "the end"');
  });

  it('says what is missing where there are no declarations', () => {
    expect(() => apiReport(join('missing', 'index.d.mts'))).toThrow('npm run build:ts');
  });
});

describe('the matrix of versions', () => {
  it('takes versions and a command', () => {
    expect(plan([]).versions).toEqual(['20', '22', '24']);
    expect(plan(['22', '--', 'node', '-v'])).toEqual({ versions: ['22'], commands: [['node', '-v']] });
    expect(() => plan(['22; rm'])).toThrow('expected a version of Node');
  });
});
