/** The code of the documentation runs, or is on a list that says why not. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { createProgram } from '../../src/cli/program.ts';
import { temporaryFolder } from '../helpers.ts';
import { type Block, blocksOf, blocksOfPage, pages, root, runBlocks, unknownOptions } from './blocks.ts';
import { type Listed, listed } from './listed-blocks.ts';

const languages = new Set(['sh', 'js', 'ts', 'python', 'sql', 'json']);
/** Pages whose blocks run, and whether the pictures lie there before the first of them. */
const running: Readonly<Record<string, boolean>> = {
  'docs/install.md': true,
  'docs/quick-start.md': false,
  'docs/concepts.md': true,
  'docs/search-a-folder.md': true,
  'docs/fine-tune.md': true,
};

const fits = ({ page, has, language }: Listed, block: Block): boolean =>
  page === block.page && block.code.includes(has) && (language ?? block.language) === block.language;
const isListed = (block: Block): boolean => listed.some((entry) => fits(entry, block));
/** Blocks that have to run and do not: of code, on no list, and in no page that runs. */
const forgotten = (blocks: readonly Block[]): string[] =>
  blocks
    .filter(({ language }) => languages.has(language) && language !== 'json')
    .filter((block) => !isListed(block) && !(block.page in running && /^(sh|js)$/.test(block.language)))
    .map(({ page, line, language }) => `${page}:${line}: ${language}`);

describe('code in the documentation', { timeout: 120_000 }, () => {
  for (const [page, given] of Object.entries(running))
    it(`runs: ${page}`, async () => {
      const blocks = (await blocksOfPage(page)).filter((block) => /^(sh|js)$/.test(block.language) && !isListed(block));
      expect(blocks.length).toBeGreaterThan(0);
      const printed = await runBlocks(blocks, await temporaryFolder(), given);
      expect(printed.length).toBeGreaterThan(10);
      if (page === 'docs/quick-start.md') {
        // The first results are those that the page shows.
        const shown = (await blocksOfPage(page)).find(
          ({ language, code }) => language === '' && code.includes('cosine'),
        )!;
        for (const [, name, cosine] of shown.code.matchAll(/(\S+\.svg) +(0\.\d\d)/g))
          expect(printed).toMatch(new RegExp(`${name} +${cosine}`));
      }
    });

  it('is noticed when it fails', async () => {
    const planted = blocksOf('planted.md', "```js\nimport { Vlmoo } from 'mome';\nnew Vlmoo();\n```\n");
    await expect(runBlocks(planted, await temporaryFolder(), true)).rejects.toThrow('Vlmoo');
    const failing = blocksOf('planted.md', '```sh\nmome serch pictures cat\necho after\n```\n');
    await expect(runBlocks(failing, await temporaryFolder(), true)).rejects.toThrow('serch');
  });

  it('runs everywhere, or is listed with a reason', async () => {
    const all = (await Promise.all((await pages()).map(blocksOfPage))).flat();
    expect(all.length).toBeGreaterThan(50);
    expect(forgotten(all)).toEqual([]);
    expect(forgotten(blocksOf('docs/new.md', 'text\n\n```sh\nmome new\n```\n'))).toEqual(['docs/new.md:3: sh']);
    for (const entry of listed) {
      const { page, has, by, why } = entry;
      const found = all.some((block) => fits(entry, block));
      expect(found, `${page} has no block with "${has}" any more`).toBe(true);
      expect((by === undefined) !== (why === undefined), `${page}: ${has}: expected either by or why`).toBe(true);
      if (by !== undefined) expect(await readFile(join(root, by), 'utf8'), by).toContain(page.replace('docs/', ''));
    }
    for (const { page, line, code } of all.filter(({ language }) => language === 'json'))
      expect(() => JSON.parse(code), `${page}:${line}`).not.toThrow();
  });

  it('asks mome for options that it has, where it does not run', async () => {
    const program = createProgram();
    const asked = new Set<string>();
    const helpOf = (words: string): string => {
      asked.add(words);
      const found = words
        .split(' ')
        .reduce<Command | undefined>(
          (command, word) => command?.commands.find((each) => each.name() === word),
          program,
        );
      if (!found) throw new Error(`expected a command of mome, got ${words}`);
      return found.helpInformation();
    };
    const shell = (await Promise.all((await pages()).map(blocksOfPage)))
      .flat()
      .filter(({ language }) => language === 'sh');
    for (const { page, line, code } of shell) expect(unknownOptions(code, helpOf), `${page}:${line}`).toEqual([]);
    expect(asked.size).toBeGreaterThan(5);
    expect(unknownOptions('mome search pictures "a --cat" --indx file # --more', helpOf)).toEqual([
      'mome search: --indx',
    ]);
  });
});
