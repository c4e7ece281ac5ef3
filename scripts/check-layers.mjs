/**
 * Checks that imports point one way only:
 *   TypeScript  cli -> serve -> search; integrations -> inference; cli -> bulk -> {search, train}; cli -> {search, verify, train, export} -> inference -> registry -> checkpoint; inference -> {model, checkpoint, text, image} -> {graph, architecture} -> runtime
 *   native      napi -> {core, image, search}, {cpu, cuda} -> core; nothing in core knows Node, CUDA or a vector instruction, and the
 *               choice of tiles (cuda/config) is plain host code
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** The rooms of ts/src, and what each may import besides itself. A room that is not listed is an error. */
const allowed = {
  runtime: [],
  architecture: ['runtime'],
  graph: ['runtime'],
  text: ['runtime'],
  image: ['runtime'],
  checkpoint: ['runtime', 'architecture'],
  registry: ['runtime', 'checkpoint'],
  model: ['runtime', 'architecture', 'graph'],
  inference: ['runtime', 'architecture', 'graph', 'model', 'text', 'image', 'checkpoint', 'registry'],
  export: ['runtime', 'architecture', 'graph', 'model', 'checkpoint', 'inference'],
  train: ['runtime', 'architecture', 'graph', 'model', 'text', 'image', 'checkpoint', 'inference'],
  search: ['runtime', 'image', 'checkpoint', 'inference'],
  verify: ['runtime', 'architecture', 'graph', 'model', 'image', 'checkpoint', 'inference', 'train'],
  bulk: ['runtime', 'inference', 'train', 'search'],
  integrations: ['runtime', 'inference'],
  serve: ['runtime', 'architecture', 'image', 'inference', 'search'],
  cli: [
    'runtime',
    'architecture',
    'image',
    'checkpoint',
    'registry',
    'inference',
    'export',
    'train',
    'search',
    'bulk',
    'verify',
    'serve',
  ],
};

const nativeAllowed = {
  core: ['core'],
  cpu: ['core', 'cpu'],
  cuda: ['core', 'cuda'],
  image: ['image', 'core'],
  search: ['search', 'core'],
  mpi: ['mpi', 'core'],
  napi: ['napi', 'core', 'image', 'search'],
  test: ['core', 'cpu', 'cuda', 'image', 'search', 'test'],
  tools: ['core'],
};
/** The dispatch table names every target's registration. */
const nativeExceptions = new Set(['native/core/targets.cc']);

const problems = [];

function files(folder, pattern) {
  return readdirSync(join(root, folder), { recursive: true })
    .map((name) => join(folder, String(name)))
    .filter((name) => pattern.test(name));
}

for (const file of files('ts/src', /\.ts$/)) {
  const layer = file.split('/')[2];
  if (layer === 'index.ts' || layer === 'browser.ts') continue;
  if (!(layer in allowed)) {
    problems.push(`${file}: expected a room that scripts/check-layers.mjs lists, got ${layer}`);
    continue;
  }
  for (const [, target] of readFileSync(join(root, file), 'utf8').matchAll(/from '(\.[^']+)'/g)) {
    const imported = normalize(join(dirname(file), target));
    const other = relative('ts/src', imported).split('/')[0];
    if (other === layer) continue;
    if (!allowed[layer].includes(other)) problems.push(`${file} imports ${imported}: ${layer} must not know ${other}`);
  }
}

for (const file of files('native', /\.(h|cc|cu)$/)) {
  const layer = file.split('/')[1];
  const text = readFileSync(join(root, file), 'utf8');
  for (const [, included] of text.matchAll(/#include "([^"]+)"/g)) {
    const other = included.split('/')[0];
    if (other === layer || nativeExceptions.has(file)) continue;
    if (!nativeAllowed[layer]?.includes(other))
      problems.push(`${file} includes ${included}: ${layer} must not know ${other}`);
  }
  if (layer !== 'napi' && /<napi\.h>|<node_api\.h>/.test(text)) problems.push(`${file} includes Node's headers`);
  if (
    (layer === 'core' || file.startsWith('native/cuda/config/')) &&
    /cuda_runtime|cuda\/(?:primitives|kernels|runtime)\//.test(text)
  )
    problems.push(`${file} knows CUDA`);
  if (layer === 'core' && /immintrin/.test(text)) problems.push(`${file} uses vector instructions`);
}

if (problems.length > 0) {
  process.stderr.write(`${problems.join('\n')}\n`);
  process.exit(1);
}
process.stdout.write('layers: every import points the right way\n');
