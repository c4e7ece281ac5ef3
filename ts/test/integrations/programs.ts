/** What tests of the programs in docs/integrations.md have in common. */
import { mkdir, readdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { Vlmo } from '../../src/inference/index.ts';
import { root } from '../docs/blocks.ts';
import { temporaryFolder } from '../helpers.ts';

export const page = 'docs/integrations.md';
/** A folder `node_modules` with packages that are not among those of this clone. */
export const more = process.env.MOME_INTEGRATIONS;

/** A folder whose programs find the packages of this clone, and those of `MOME_INTEGRATIONS`. */
export async function folderWithPackages(): Promise<string> {
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
export async function bestPictures(): Promise<[string, string][]> {
  const vlmo = await Vlmo.load();
  const names = await readdir(join(root, 'docs/pictures'));
  const paths = names.map((name) => join(root, 'docs/pictures', name));
  const ranked = await vlmo.rerank({ text: 'a happy cat' }, paths);
  await vlmo.dispose();
  return ranked.slice(0, 3).map(({ index, score }) => [names[index]!, score.toFixed(2)]);
}
