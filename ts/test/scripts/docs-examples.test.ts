import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from '../helpers.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));

/** The TypeScript blocks of a page. */
const blocksOf = (page: string): string[] => [...page.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map(([, code]) => code!);

/** What the compiler says of programs that use the library by its name. */
async function problemsOf(programs: readonly string[]): Promise<string[]> {
  const folder = await temporaryFolder();
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  const files = programs.map((code, i) => {
    const file = join(folder, `example-${i}.ts`);
    writeFileSync(file, code);
    return file;
  });
  const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile);
  const { options } = ts.parseJsonConfigFileContent({ compilerOptions: config.compilerOptions }, ts.sys, root);
  const paths = { mome: [join(root, 'ts/src/index.ts')], 'mome/train': [join(root, 'ts/src/train/index.ts')] };
  const typeRoots = [join(root, 'node_modules/@types')];
  const program = ts.createProgram(files, { ...options, paths, typeRoots, noUnusedLocals: false });
  return files.flatMap((file) =>
    ts
      .getPreEmitDiagnostics(program, program.getSourceFile(file))
      .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n')),
  );
}

describe('examples of training in the documentation', { timeout: 60_000 }, () => {
  it('compile', async () => {
    const blocks = blocksOf(readFileSync(join(root, 'docs', 'training.md'), 'utf8'));
    expect(blocks.length).toBeGreaterThan(5);
    // An option that does not exist is noticed.
    const planted = blocks.find((code) => code.includes("objectives: ['textmlm']"))!.replace('masking:', 'maskng:');
    const problems = await problemsOf([...blocks, planted]);
    expect(problems).toEqual([expect.stringContaining('maskng')]);
  });
});
