/** Markdown to HTML: anchors, links between pages, and the sections that the search knows. */
import { posix } from 'node:path';
import { slugger } from './pages.mjs';

/** Text as part of HTML. */
export const escaped = (text) =>
  text.replace(/[&<>"]/g, (each) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[each]);

/** Whether a link leads out of the site. */
const isOutside = (href) => /^[a-z][a-z0-9+.-]*:/i.test(href);

/**
 * Renders one page.
 *
 * @param MarkdownIt the class of markdown-it
 * @param page `{ source, target, markdown }`
 * @param resolve gives the file of the site for a path of the project, which it may have to write
 * @returns `{ html, sections }`; a section has `anchor`, `heading` and the `text` below it
 */
export function render(MarkdownIt, { source, target, markdown }, resolve) {
  const parser = new MarkdownIt({ html: true, linkify: false });
  const slug = slugger();
  const sections = [{ anchor: '', heading: '', text: '' }];
  const tokens = parser.parse(markdown, {});
  const relativeTo = (file) => posix.relative(posix.dirname(target), file) || posix.basename(file);
  const link = (href) => {
    if (isOutside(href) || href.startsWith('#')) return href;
    const [path, anchor] = href.split('#');
    const wanted = posix.normalize(posix.join(posix.dirname(source), decodeURI(path)));
    return `${relativeTo(resolve(wanted, source))}${anchor ? `#${anchor}` : ''}`;
  };
  tokens.forEach((token, i) => {
    if (token.type === 'heading_open') {
      const heading = tokens[i + 1].content;
      token.attrSet('id', slug(heading));
      sections.push({ anchor: token.attrGet('id'), heading: plain(tokens[i + 1]), text: '' });
    } else if (token.type === 'inline') {
      for (const child of token.children) {
        if (child.type === 'link_open') child.attrSet('href', link(child.attrGet('href')));
        if (child.type === 'image') {
          child.attrSet('src', link(child.attrGet('src')));
          child.attrSet('loading', 'lazy');
        }
      }
      if (tokens[i - 1].type !== 'heading_open') sections.at(-1).text += `${plain(token)}\n`;
    } else if (token.type === 'fence' || token.type === 'code_block') sections.at(-1).text += `${token.content}\n`;
  });
  const rules = parser.renderer.rules;
  rules.table_open = () => '<div class="table" tabindex="0" role="region" aria-label="Table"><table>';
  rules.table_close = () => '</table></div>';
  const html = parser.renderer.render(tokens, parser.options, {});
  return { html, sections: sections.filter(({ heading, text }) => heading || text.trim()) };
}

/** The words of an inline token. */
function plain({ children }) {
  return children
    .map(({ type, content }) => (/break$/.test(type) ? ' ' : type.startsWith('html') ? '' : content))
    .join('');
}

/** The whole document of a page. `depth` is the number of folders above it in the site. */
export function layout({ title, html, target, headings }, groups) {
  const depth = target.split('/').length - 1;
  const up = '../'.repeat(depth);
  const navigation = groups
    .map(({ title: group, pages }) => {
      const items = pages.map((page) => {
        const current = page.target === target ? ' aria-current="page"' : '';
        return `<li><a href="${up}${page.target}"${current}>${escaped(page.title)}</a></li>`;
      });
      return `<h2>${escaped(group)}</h2><ul>${items.join('')}</ul>`;
    })
    .join('\n');
  const onPage = headings
    .map(({ anchor, heading }) => `<li><a href="#${anchor}">${escaped(heading)}</a></li>`)
    .join('');
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escaped(title)} - mome</title>
<link rel="stylesheet" href="${up}site.css">
<script src="${up}site.js" data-up="${up}" defer></script>
</head>
<body>
<a class="skip" href="#content">To the text</a>
<header>
<a class="name" href="${up}index.html">mome</a>
<search><input id="query" type="search" placeholder="Search ( / )" aria-label="Search the documentation" autocomplete="off" role="combobox" aria-expanded="false" aria-controls="found"><ul id="found" role="listbox" aria-label="Results" hidden></ul></search>
<button id="menu" type="button" aria-expanded="false" aria-controls="pages">Pages</button>
</header>
<div class="columns">
<nav id="pages" aria-label="Pages">${navigation}</nav>
<main id="content" tabindex="-1">
${html}
</main>
<nav class="here" aria-label="On this page">${onPage ? `<h2>On this page</h2><ul>${onPage}</ul>` : ''}</nav>
</div>
</body>
</html>
`;
}
