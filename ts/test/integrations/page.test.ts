/** The programs of docs/integrations.md, each run to the letter with the real packages. */
import { mkdir, readdir, symlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { blocksOf, blocksOfPage, root, runBlocks } from '../docs/blocks.ts';
import { temporaryFolder } from '../helpers.ts';

const page = 'docs/integrations.md';
/** What each program prints first: pictures of cats, best first, each behind the name of the program. */
const programs = ['ai-sdk', 'langchain', 'llamaindex', 'fastify', 'mome-server'];

/** A folder whose programs find the packages of this clone. */
async function folderWithPackages(): Promise<string> {
  const folder = await temporaryFolder();
  const modules = join(folder, 'node_modules');
  await mkdir(modules);
  for (const name of await readdir(join(root, 'node_modules')))
    if (!name.startsWith('.') && name !== 'mome') await symlink(join(root, 'node_modules', name), join(modules, name));
  return folder;
}

describe('integrations.md', { timeout: 120_000 }, async () => {
  const blocks = (await blocksOfPage(page)).filter(({ language }) => language === 'js');

  it('has a program for each integration', () => {
    expect(blocks.map(({ code }) => /console\.log\('([\w-]+)'/.exec(code)?.[1])).toEqual(programs);
  });

  for (const [index, name] of programs.entries())
    it(`runs: ${name}`, async () => {
      const printed = await runBlocks([blocks[index]!], await folderWithPackages(), true);
      const found = printed.split('\n').filter((line) => line.startsWith(`${name} `));
      expect(found.length).toBe(3);
      const cats = found.slice(0, 2).map((line) => basename(line.split(' ')[1]!));
      expect(cats.sort()).toEqual(['cat-face.svg', 'grinning-cat.svg']);
      if (name === 'fastify') expect(printed).toContain('alike pizza.svg');
    });

  it('is noticed when a program fails', async () => {
    const planted = blocksOf(page, "```js\nimport { createMomme } from 'mome/ai-sdk';\n```\n");
    await expect(runBlocks(planted, await folderWithPackages(), true)).rejects.toThrow('createMomme');
  });
});
