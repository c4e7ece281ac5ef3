/** The pages of the documentation in the order of the navigation. Pages that are not named here follow under "More". */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const order = [
  ['Begin', ['README.md', 'docs/install.md', 'docs/quick-start.md', 'docs/concepts.md']],
  [
    'Guides',
    [
      'docs/search-a-folder.md',
      'docs/models.md',
      'docs/server.md',
      'docs/training.md',
      'docs/fine-tune.md',
      'docs/integrations.md',
      'docs/bundlers.md',
      'docs/docker.md',
      'docs/scale.md',
      'docs/onnx.md',
      'docs/distributed-training.md',
    ],
  ],
  ['Reference', ['docs/api.md', 'docs/errors.md', 'docs/numerics.md', 'CHANGELOG.md']],
  ['Measured', ['docs/performance.md', 'docs/corpus.md', 'docs/comparison.md', 'docs/cuda.md']],
  ['Inside', ['docs/architecture.md', 'docs/adding-an-op.md', 'CONTRIBUTING.md', 'SECURITY.md']],
];

/** The title of a page: its first heading. */
export const titleOf = (markdown) => /^# (.+)$/m.exec(markdown)?.[1]?.replaceAll('`', '') ?? 'Untitled';

/**
 * @param root folder of the project
 * @returns groups of pages: `{ title, pages: [{ source, target, title, markdown }] }`, where source is a path in the project and target one in
 * the site
 */
export function pagesOf(root) {
  const named = new Set(order.flatMap(([, pages]) => pages));
  const docs = readdirSync(join(root, 'docs')).filter((name) => name.endsWith('.md'));
  const others = docs.map((name) => `docs/${name}`).filter((path) => !named.has(path));
  return [...order, ['More', others.sort()]]
    .map(([title, sources]) => ({
      title,
      pages: sources
        .filter((source) => existsSync(join(root, source)))
        .map((source) => {
          const markdown = readFileSync(join(root, source), 'utf8');
          const name = source === 'README.md' ? 'index' : source.replace(/^docs\//, '').replace(/\.md$/, '');
          return { source, target: `${name.toLowerCase()}.html`, title: titleOf(markdown), markdown };
        }),
    }))
    .filter(({ pages }) => pages.length > 0);
}

/** The anchors of headings as GitHub makes them: a function that is called for one heading of a page after the other. */
export function slugger() {
  const seen = new Map();
  return (heading) => {
    const slug = heading
      .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
      .toLowerCase()
      .replace(/[^\p{L}\p{N}_ -]/gu, '')
      .replaceAll(' ', '-');
    const count = seen.get(slug) ?? 0;
    seen.set(slug, count + 1);
    return count === 0 ? slug : `${slug}-${count}`;
  };
}
