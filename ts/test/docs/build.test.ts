/** The site of the documentation: built into a folder, linked within itself, searchable without a server. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { buildDocs } from '../../../scripts/docs/build.mjs';
import { brokenLinks } from '../../../scripts/docs/links.mjs';
import { temporaryFolder } from '../helpers.ts';

interface Found {
  readonly url: string;
}
interface Page {
  momeSearch: string;
  MiniSearch: { loadJSON(text: string, options: object): { search(query: string): Found[] } };
}

describe('the site of the documentation', { timeout: 60_000 }, () => {
  it('has linked pages and an index that finds them, and notices a dead link', async () => {
    const folder = join(await temporaryFolder(), 'docs');
    const { pages, sections, broken } = await buildDocs(folder, { api: false });
    expect(broken).toEqual([]);
    expect(pages).toBeGreaterThan(20);
    expect(sections).toBeGreaterThan(120);

    const index = await readFile(join(folder, 'index.html'), 'utf8');
    expect(index).toContain('href="quick-start.html"');
    for (const [, address] of index.matchAll(/<(?:script|link|img)[^>]+(?:src|href)="([^"]+)"/g))
      expect(address).not.toMatch(/^(https?:)?\/\//);

    const window = {} as Page;
    runInNewContext(await readFile(join(folder, 'search.js'), 'utf8'), { window, self: window, globalThis: window });
    const fields = { fields: ['title', 'heading', 'text'], storeFields: ['title', 'heading', 'url', 'start'] };
    const search = window.MiniSearch.loadJSON(window.momeSearch, fields);
    expect(search.search('MOME_OVERLOADED').some(({ url }) => url.startsWith('errors.html'))).toBe(true);
    expect(search.search('ragged batches')[0]?.url).toBe('concepts.html#ragged-batches');

    await writeFile(join(folder, 'planted.html'), '<a href="nowhere.html">a</a><a href="errors.html#nothing">b</a>');
    expect(brokenLinks(folder)).toEqual([
      'planted.html: nowhere.html: there is no such file',
      'planted.html: errors.html#nothing: there is no such heading',
    ]);
  });
});
