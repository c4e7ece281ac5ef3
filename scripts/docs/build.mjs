/**
 * Builds the documentation into one folder of static files that works from a disk, without a network: the written pages, the pages of the
 * API, and an index that the browser searches. Fails for a link that leads nowhere.
 *
 *   node scripts/docs/build.mjs [folder] [--no-api]      default: out/docs
 */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, extname, join, posix, resolve as resolvePath } from 'node:path';
import { fileURLToPath } from 'node:url';
import MarkdownIt from 'markdown-it';
import MiniSearch from 'minisearch';
import { brokenLinks } from './links.mjs';
import { pagesOf } from './pages.mjs';
import { escaped, layout, render } from './render.mjs';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const require = createRequire(import.meta.url);
const pictures = new Set(['.png', '.svg', '.webp', '.jpg']);

/**
 * @param folder where the site is written; it is emptied before
 * @param options `api: false` leaves out the pages of the API, which take most of the time
 * @returns `{ pages, sections, broken }`: counts, and links that lead nowhere
 * @throws Error where a page links to a file that the project does not have
 */
export async function buildDocs(folder, { api = true } = {}) {
  const groups = pagesOf(root);
  const reference = api ? await (await import('./api.mjs')).apiPages(root) : [];
  const modules = reference.filter(({ target }) => /^reference\/([^/]+\/)*index\.html$/.test(target));
  if (modules.length > 0) groups.splice(3, 0, { title: 'Every declaration', pages: modules });
  rmSync(folder, { recursive: true, force: true });
  const write = (target, text) => {
    mkdirSync(dirname(join(folder, target)), { recursive: true });
    writeFileSync(join(folder, target), text);
  };
  const pages = [...groups.flatMap((group) => (group.pages === modules ? [] : group.pages)), ...reference];
  const known = new Map(pages.map(({ source, target }) => [source, target]));

  /** The file of the site for a path of the project: a page, a picture that is copied, or the text of a file. */
  const resolve = (path, from) => {
    const found = known.get(path) ?? known.get(posix.join(path, 'README.md'));
    if (found) return found;
    const file = join(root, path);
    if (path.startsWith('..') || !existsSync(file)) throw new Error(`${from}: expected ${path}, which is not there`);
    const isPicture = pictures.has(extname(path));
    const target = isPicture ? path.replace(/^docs\//, '') : `files/${path.replace(/\/$/, '')}.html`;
    known.set(path, target);
    mkdirSync(dirname(join(folder, target)), { recursive: true });
    if (isPicture) copyFileSync(file, join(folder, target));
    else {
      const text = statSync(file).isDirectory() ? readdirSync(file).join('\n') : readFileSync(file, 'utf8');
      const html = `<h1>${escaped(path)}</h1><pre><code>${escaped(text)}</code></pre>`;
      write(target, layout({ title: path, html, target, headings: [] }, groups));
    }
    return target;
  };

  const search = new MiniSearch({
    fields: ['title', 'heading', 'text'],
    storeFields: ['title', 'heading', 'url', 'start'],
  });
  let count = 0;
  for (const page of pages) {
    const { html, sections } = render(MarkdownIt, page, resolve);
    const headings = sections.filter(({ heading }) => heading).slice(1);
    write(page.target, layout({ ...page, html, headings: headings.length > 40 ? [] : headings }, groups));
    for (const { anchor, heading, text } of sections) {
      const url = anchor ? `${page.target}#${anchor}` : page.target;
      search.add({ id: count++, title: page.title, heading, text, url, start: text.trim().slice(0, 110) });
    }
  }
  const own = dirname(fileURLToPath(import.meta.url));
  copyFileSync(join(own, 'site.css'), join(folder, 'site.css'));
  const library = readFileSync(join(dirname(require.resolve('minisearch')), '..', 'umd', 'index.js'), 'utf8');
  write(
    'search.js',
    `${library.replace(/\/\/# sourceMappingURL.*/, '')}\nwindow.momeSearch = ${JSON.stringify(JSON.stringify(search))};\n`,
  );
  copyFileSync(join(own, 'site.js'), join(folder, 'site.js'));
  return { pages: pages.length, sections: count, broken: brokenLinks(folder) };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const args = process.argv.slice(2);
  const folder = resolvePath(root, args.find((each) => !each.startsWith('--')) ?? 'out/docs');
  try {
    const { pages, sections, broken } = await buildDocs(folder, { api: !args.includes('--no-api') });
    if (broken.length > 0) throw new Error(`docs: links that lead nowhere\n${broken.join('\n')}`);
    process.stdout.write(`docs: ${pages} pages, ${sections} sections: ${join(folder, 'index.html')}\n`);
  } catch (error) {
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  }
}
