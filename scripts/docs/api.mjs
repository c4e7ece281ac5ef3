/** The pages of the API: typedoc reads the comments of the exported declarations and writes Markdown, which goes the way of all pages. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { titleOf } from './pages.mjs';

const entries = {
  mome: 'index',
  'mome/train': 'train/index',
  'mome/graph': 'graph/index',
  'mome/server': 'serve/index',
  'mome/ai-sdk': 'integrations/ai-sdk',
  'mome/langchain': 'integrations/langchain',
  'mome/llamaindex': 'integrations/llamaindex',
};

/**
 * @param root folder of the project
 * @returns pages with `source` under `docs/reference`, as those of `pagesOf`
 * @throws Error where typedoc cannot read the sources
 */
export async function apiPages(root) {
  const { Application } = await import('typedoc');
  const folder = mkdtempSync(join(tmpdir(), 'mome-docs-'));
  try {
    const app = await Application.bootstrapWithPlugins({
      entryPoints: Object.values(entries).map((path) => join(root, `ts/src/${path}.ts`)),
      tsconfig: join(root, 'tsconfig.json'),
      plugin: ['typedoc-plugin-markdown'],
      readme: 'none',
      disableSources: true,
      disableGit: true,
      excludePrivate: true,
      excludeInternal: true,
      skipErrorChecking: true,
      logLevel: 'Error',
      hidePageHeader: true,
      hideBreadcrumbs: false,
      parametersFormat: 'table',
      propertiesFormat: 'table',
      interfacePropertiesFormat: 'table',
    });
    const project = await app.convert();
    if (!project) throw new Error('typedoc: expected the sources to be read, and they were not');
    for (const module of project.children ?? []) {
      const name = Object.keys(entries).find((key) => entries[key].replace(/\/index$/, '') === module.name);
      if (name) module.name = name;
    }
    project.name = 'Every declaration';
    app.options.setValue('outputs', [{ name: 'markdown', path: folder }]);
    await app.generateOutputs(project);
    return readdirSync(folder, { recursive: true })
      .filter((path) => path.endsWith('.md'))
      .sort()
      .map((path) => {
        const markdown = readFileSync(join(folder, path), 'utf8');
        const target = `reference/${path.replace(/(^|\/)README\.md$/, '$1index.md').replace(/\.md$/, '.html')}`;
        return { source: `docs/reference/${path}`, target, title: titleOf(markdown).replaceAll('\\', ''), markdown };
      });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
