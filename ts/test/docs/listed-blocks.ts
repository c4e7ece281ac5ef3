/**
 * Blocks of code in the documentation that `pages.test.ts` does not run: another test runs them (`by`), or they cannot run in a test
 * (`why`). `has` is a text that tells the block within its page. A block that is not listed is run.
 */
export interface Listed {
  readonly page: string;
  readonly has: string;
  /** Only blocks in this language. */
  readonly language?: string;
  readonly by?: string;
  readonly why?: string;
}

const checkPackage = 'scripts/check-package.mjs';
const serveDocs = 'ts/test/serve/docs.test.ts';
const checkpoint = 'names an official checkpoint or data set';
const clone = 'builds, tests or trains in a clone, for minutes';

export const listed: readonly Listed[] = [
  { page: 'README.md', has: 'npm install mome', why: 'asks the registry' },
  { page: 'README.md', has: 'SearchIndex.build', by: checkPackage },
  { page: 'README.md', has: 'vqa.answer', by: checkPackage },
  { page: 'README.md', has: 'npm run demo', why: clone },
  { page: 'README.md', has: 'vlmo_base_patch16_224', why: checkpoint },
  { page: 'README.md', has: 'emoji-stages.mjs', why: clone },
  { page: 'CONTRIBUTING.md', has: 'npm run build', why: clone },
  { page: 'docs/api.md', has: '', language: 'ts', by: checkPackage },
  { page: 'docs/api.md', has: 'sqliteBackend', language: 'js', by: 'ts/test/search/stores/api-page.test.ts' },
  { page: 'docs/bundlers.md', has: 'esbuild', language: 'sh', by: 'ts/test/bundlers/bundlers.test.ts' },
  { page: 'docs/bundlers.md', has: 'outputModule', by: 'ts/test/bundlers/bundlers.test.ts' },
  { page: 'docs/bundlers.md', has: 'serverExternalPackages', why: 'settings of a framework that is no dependency' },
  { page: 'docs/corpus.md', has: 'corpus/', why: 'downloads a gigabyte and trains for hours' },
  { page: 'docs/cuda.md', has: 'scripts/gpu', why: 'needs a GPU or nvcc' },
  { page: 'docs/distributed-training.md', has: 'mpirun', why: 'needs Open MPI and data' },
  { page: 'docs/docker.md', has: 'docker', why: 'needs Docker' },
  { page: 'docs/install.md', has: 'npm run build', why: clone },
  { page: 'docs/install.md', has: 'scripts/build-addon.mjs', why: 'compiles for minutes' },
  {
    page: 'docs/integrations.md',
    has: "console.log('usearch'",
    why: 'its package has 22 MB; page.test.ts of integrations runs it where it is',
  },
  {
    page: 'docs/integrations.md',
    has: "console.log('lancedb'",
    why: 'its package has 500 MB; page.test.ts of integrations runs it where it is',
  },
  // No server of Qdrant is run: a stand-in checks the requests.
  { page: 'docs/integrations.md', has: "console.log('qdrant'", by: 'ts/test/integrations/qdrant.test.ts' },
  { page: 'docs/integrations.md', has: "from 'mome", by: 'ts/test/integrations/page.test.ts' },
  { page: 'docs/onnx.md', has: 'exportOnnx', by: checkPackage },
  { page: 'docs/onnx.md', has: 'checkpoint.pt', why: checkpoint },
  { page: 'docs/performance.md', has: 'npm run bench', why: 'measures for minutes, on an idle machine' },
  { page: 'docs/models.md', has: 'mome pull', why: 'downloads; ts/test/registry does it on loopback' },
  { page: 'docs/scale.md', has: 'mome embed', why: 'names collections of millions; ts/test/bulk embeds small ones' },
  { page: 'docs/scale.md', has: 'DuckDB', why: 'needs DuckDB' },
  { page: 'docs/scale.md', has: 'pyarrow', why: 'needs pyarrow' },
  { page: 'docs/server.md', has: 'curl', by: serveDocs },
  { page: 'docs/server.md', has: 'urllib', by: serveDocs },
  { page: 'docs/server.md', has: 'GRPCInferenceService', by: serveDocs },
  { page: 'docs/server.md', has: 'setGlobalTracerProvider', by: serveDocs },
  { page: 'docs/server.md', has: 'new OpenAI', why: 'ts/test/serve runs that client against a server' },
  { page: 'docs/server.md', has: 'createServer', why: 'ts/test/serve runs servers on ports of their own' },
  { page: 'docs/server.md', has: 'mome serve', why: 'serves until it is stopped' },
  { page: 'docs/server.md', has: '--import ./tracing.mjs', by: serveDocs },
  { page: 'docs/training.md', has: '', language: 'ts', by: 'ts/test/scripts/docs-examples.test.ts' },
  { page: 'docs/training.md', has: 'mome ', why: checkpoint },
  { page: 'docs/training.md', has: 'emoji-stages.mjs', why: clone },
  { page: 'docs/training.md', has: 'openStartingModel', by: checkPackage },
  { page: 'docs/training.md', has: 'fitPatchTokenizer', why: 'a part of a program' },
];
