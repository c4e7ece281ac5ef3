/** The pages of the documentation: their links lead somewhere, the navigation has them all, and figures are those of their result files. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, join, normalize } from 'node:path';
import { describe, expect, it } from 'vitest';
import { pagesOf, slugger } from '../../../scripts/docs/pages.mjs';
import { errorCodes } from '../../src/runtime/errors.ts';
import { pages, root } from './blocks.ts';

/** Links of a page that lead nowhere: files that are missing, headings that the page does not have. */
async function deadLinks(page: string, markdown: string): Promise<string[]> {
  const dead: string[] = [];
  const text = markdown.replace(/^ {0,3}```[\s\S]*?^ {0,3}```$/gm, '').replace(/`[^`\n]*`/g, 'code');
  for (const [, href] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^[a-z][a-z0-9+.-]*:/i.test(href!)) continue;
    const [path, anchor] = href!.split('#');
    const file = path === '' ? page : normalize(join(dirname(page), path!));
    if (path !== '' && !existsSync(join(root, file))) dead.push(`${page}: ${href}`);
    else if (anchor && file.endsWith('.md')) {
      const target = path === '' ? markdown : await readFile(join(root, file), 'utf8');
      const slug = slugger();
      const bare = target.replace(/^```[\s\S]*?^```$/gm, '');
      const anchors = [...bare.matchAll(/^#+ (.+)$/gm)].map(([, heading]) => slug(heading!.trim()));
      if (!anchors.includes(anchor)) dead.push(`${page}: ${href}`);
    }
  }
  return dead;
}

describe('the pages', () => {
  it('link to files and headings that there are', async () => {
    for (const page of await pages())
      expect(await deadLinks(page, await readFile(join(root, page), 'utf8')), page).toEqual([]);
    const planted = '# One\n\n[a](missing.md) [b](#two) [c](errors.md#no-limits) [d](#one) `[e](f.md)`\n';
    expect(await deadLinks('docs/new.md', planted)).toEqual([
      'docs/new.md: missing.md',
      'docs/new.md: #two',
      'docs/new.md: errors.md#no-limits',
    ]);
  });

  it('are all in the navigation, once', async () => {
    const sources = pagesOf(root).flatMap((group: { pages: { source: string }[] }) =>
      group.pages.map((each) => each.source),
    );
    expect([...sources].sort()).toEqual((await pages()).sort());
  });

  it('give every error code a remedy', async () => {
    const remedies = (text: string): string[] =>
      [...text.matchAll(/^\| `(MOME_\w+)` \| [^|]{10,} \| [^|]{10,} \|$/gm)].map(([, code]) => code!);
    const page = await readFile(join(root, 'docs/errors.md'), 'utf8');
    expect(remedies(page)).toEqual([...errorCodes]);
    expect(remedies(page.replace(/(`MOME_IO` \| [^|]+\|)[^|]+/, '$1 '))).not.toContain('MOME_IO');
  });

  it('give the ratios of the comparison as their result file holds them', async () => {
    const page = await readFile(join(root, 'docs/comparison.md'), 'utf8');
    const file = /<!-- checked: (\S+) -->/.exec(page)![1]!;
    const { rows } = JSON.parse(await readFile(join(root, file), 'utf8')) as {
      rows: { name: string; dtype: string; peers: { onnxruntime?: { ratio: number } } }[];
    };
    const ratios = [...page.matchAll(/^\| ([^|]+) \| (float32|bfloat16|int8) \| ([\d.]+) \|$/gm)];
    expect(ratios).toHaveLength(4);
    for (const [, name, dtype, ratio] of ratios) {
      const row = rows.find((each) => each.name === name && each.dtype === dtype);
      expect(row?.peers.onnxruntime?.ratio.toFixed(2), `${name} ${dtype}`).toBe(ratio);
    }
  });
});
