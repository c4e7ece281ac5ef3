import { readFileSync } from 'node:fs';
import { defineConfig } from 'tsdown';

const { version } = JSON.parse(readFileSync('package.json', 'utf8'));

/**
 * Packages that become part of dist: ES modules without a CommonJS form, and zod, whose parts that are not used take half of the time of
 * an import. The server keeps zod as a package, which it shares with its framework, and so do declarations of types.
 */
const noExternal = (id: string, importer?: string): boolean =>
  /^(?:p-limit|yocto-queue)$/.test(id) || (id === 'zod' && !/\/ts\/src\/serve\/|\.d\.ts$/.test(importer ?? ''));

const shared = {
  outDir: 'dist',
  platform: 'node',
  target: 'node20.19',
  sourcemap: true,
  noExternal,
  define: { MOME_VERSION: JSON.stringify(version) },
} as const;

export default defineConfig([
  {
    ...shared,
    entry: {
      index: 'ts/src/index.ts',
      train: 'ts/src/train/index.ts',
      graph: 'ts/src/graph/index.ts',
      server: 'ts/src/serve/index.ts',
      'ai-sdk': 'ts/src/integrations/ai-sdk.ts',
      langchain: 'ts/src/integrations/langchain.ts',
      llamaindex: 'ts/src/integrations/llamaindex.ts',
    },
    format: ['esm', 'cjs'],
    dts: true,
    clean: false,
  },
  {
    ...shared,
    entry: {
      cli: 'ts/src/cli/main.ts',
      decoder: 'ts/src/image/decoder.ts',
      'parquet-reader': 'ts/src/train/data/parquet-reader.ts',
      'parquet-writer': 'ts/src/bulk/parquet-writer.ts',
    },
    format: 'esm',
    dts: false,
    clean: false,
  },
  {
    // What a bundle for browsers gets in place of the library.
    outDir: 'dist',
    entry: { browser: 'ts/src/browser.ts' },
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    outExtensions: () => ({ js: '.mjs' }),
    dts: false,
    clean: false,
  },
  {
    // The page of the server, for browsers: one script, beside the files that are taken as they are.
    outDir: 'dist/page',
    entry: { page: 'ts/src/serve/page/browser/main.ts' },
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    outExtensions: () => ({ js: '.js' }),
    noExternal: ['uplot'],
    minify: true,
    copy: ['index.html', 'page.css', 'fields.css', 'views.css', 'figures.css', 'icon.svg'].map((name) => ({
      from: `ts/src/serve/page/browser/${name}`,
      to: 'dist/page',
    })),
    dts: false,
    clean: false,
  },
  {
    // What stands inside the page of results: one script without imports, and its style.
    outDir: 'dist/page',
    entry: { results: 'ts/src/search/page/main.ts' },
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    outExtensions: () => ({ js: '.js' }),
    minify: true,
    copy: [{ from: 'ts/src/search/page/results.css', to: 'dist/page' }],
    dts: false,
    clean: false,
  },
]);
