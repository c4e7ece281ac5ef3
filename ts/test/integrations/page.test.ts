/**
 * The programs of docs/integrations.md, each run to the letter with the real packages. Those of packages that are too large to be installed for
 * every clone run where `MOME_INTEGRATIONS` names a folder `node_modules` that has them.
 */
import { existsSync } from 'node:fs';
import { mkdir, readdir, symlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Vlmo } from '../../src/inference/vlmo.ts';
import { blocksOf, blocksOfPage, root, runBlocks } from '../docs/blocks.ts';
import { temporaryFolder } from '../helpers.ts';

const page = 'docs/integrations.md';
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
];
/** Packages of programs that are not among those of this clone. */
const large: Readonly<Record<string, string>> = { usearch: 'usearch', lancedb: '@lancedb/lancedb' };
const more = process.env.MOME_INTEGRATIONS;
const canRun = (name: string): boolean =>
  !(name in large) || (more !== undefined && existsSync(join(more, large[name]!)));

/** A folder whose programs find the packages of this clone, and those of `MOME_INTEGRATIONS`. */
async function folderWithPackages(): Promise<string> {
  const folder = await temporaryFolder();
  const modules = join(folder, 'node_modules');
  await mkdir(modules);
  const linked = new Set(['mome']);
  for (const from of [join(root, 'node_modules'), ...(more === undefined ? [] : [more])])
    for (const name of await readdir(from)) {
      if (name.startsWith('.') || linked.has(name)) continue;
      linked.add(name);
      await symlink(join(from, name), join(modules, name));
    }
  return folder;
}

/** What every program finds: the best three pictures with their scores, by a model without anything between. */
async function bestPictures(): Promise<[string, string][]> {
  const vlmo = await Vlmo.load();
  const names = await readdir(join(root, 'docs/pictures'));
  const paths = names.map((name) => join(root, 'docs/pictures', name));
  const ranked = await vlmo.rerank({ text: 'a happy cat' }, paths);
  await vlmo.dispose();
  return ranked.slice(0, 3).map(({ index, score }) => [names[index]!, score.toFixed(2)]);
}

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
