/**
 * The programs of docs/integrations.md, each run to the letter with the real packages. Those of packages that are too large to be installed for
 * every clone run where `MOME_INTEGRATIONS` names a folder `node_modules` that has them.
 */
import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { blocksOf, blocksOfPage, runBlocks } from '../docs/blocks.ts';
import { bestPictures, folderWithPackages, more, page } from './programs.ts';

/** The name of each program, which stands before the pictures and scores that it prints. */
const programs = [
  'ai-sdk',
  'langchain',
  'llamaindex',
  'fastify',
  'mome-server',
  'pgvector',
  'sqlite-vec',
  'usearch',
  'lancedb',
  'qdrant',
];
/** (`qdrant.test.ts` runs the program for Qdrant.) Packages of programs that are not among those of this clone. */
const large: Readonly<Record<string, string>> = { usearch: 'usearch', lancedb: '@lancedb/lancedb' };
const canRun = (name: string): boolean =>
  name !== 'qdrant' && (!(name in large) || (more !== undefined && existsSync(join(more, large[name]!))));

describe('integrations.md', { timeout: 120_000 }, async () => {
  const blocks = (await blocksOfPage(page)).filter(({ language }) => language === 'js');

  const best = bestPictures();

  it('has a program for each integration', () => {
    expect(blocks.map(({ code }) => /console\.log\('([\w-]+)'/.exec(code)?.[1])).toEqual(programs);
  });

  for (const [index, name] of programs.entries())
    it.skipIf(!canRun(name))(`runs: ${name}`, async () => {
      const printed = await runBlocks([blocks[index]!], await folderWithPackages(), true);
      const found = printed.split('\n').filter((line) => line.startsWith(`${name} `));
      expect(found.map((line) => line.split(' ').slice(1, 3)).map(([path, score]) => [basename(path!), score])).toEqual(
        await best,
      );
      if (name === 'fastify') expect(printed).toContain('alike pizza.svg');
    });

  it('is noticed when a program fails', async () => {
    const planted = blocksOf(page, "```js\nimport { createMomme } from 'mome/ai-sdk';\n```\n");
    await expect(runBlocks(planted, await folderWithPackages(), true)).rejects.toThrow('createMomme');
  });
});
