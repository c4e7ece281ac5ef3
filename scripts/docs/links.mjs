/** Checks the links of a folder of HTML pages: files and anchors. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';

/** The anchors of a page. */
const anchorsOf = (html) => new Set([...html.matchAll(/\s(?:id|name)="([^"]+)"/g)].map(([, id]) => id));

/**
 * @param folder a site of static files
 * @returns one line for each link or picture that leads nowhere within it
 */
export function brokenLinks(folder) {
  const pages = readdirSync(folder, { recursive: true }).filter((path) => path.endsWith('.html'));
  const texts = new Map(pages.map((path) => [path, readFileSync(join(folder, path), 'utf8')]));
  const anchors = new Map([...texts].map(([path, html]) => [path, anchorsOf(html)]));
  const problems = new Set();
  for (const [page, html] of texts) {
    for (const [, , href] of html.matchAll(/\s(href|src)="([^"]*)"/g)) {
      if (/^[a-z][a-z0-9+.-]*:/i.test(href)) continue;
      const [path, anchor] = href.replaceAll('&amp;', '&').split('#');
      const target = path === '' ? page : relative(folder, join(folder, dirname(page), decodeURI(path)));
      if (!existsSync(join(folder, target))) problems.add(`${page}: ${href}: there is no such file`);
      else if (anchor && !anchors.get(target)?.has(decodeURIComponent(anchor)))
        problems.add(`${page}: ${href}: there is no such heading`);
    }
  }
  return [...problems];
}
