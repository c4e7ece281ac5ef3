/**
 * Checks that imports point one way only:
 *   TypeScript  cli -> {search, verify, train} -> model -> {graph, checkpoint, text, image} -> runtime
 *   native      napi -> {core, image}, {cpu, cuda} -> core; nothing in core knows Node, CUDA or a vector instruction, and what chooses
 *               tiles (cuda/config) is plain host code
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** What each folder may import besides itself. Types of `model` describe checkpoints; `graph` knows nobody but errors. */
const allowed = {
  runtime: [],
  graph: ['runtime'],
  text: ['runtime'],
  image: ['runtime'],
  checkpoint: ['runtime', 'model'],
  model: ['runtime', 'graph', 'text', 'image', 'checkpoint'],
  train: ['runtime', 'graph', 'text', 'image', 'checkpoint', 'model'],
  search: ['runtime', 'checkpoint', 'model'],
  verify: ['runtime', 'image', 'checkpoint', 'model', 'train'],
  cli: ['runtime', 'checkpoint', 'model', 'train', 'search', 'verify'],
};
/** The only files of `model` that checkpoints may know: sizes and names. */
const modelForCheckpoint = new Set(['ts/src/model/config.ts', 'ts/src/model/parameters.ts']);

const nativeAllowed = {
  core: ['core'],
  cpu: ['core', 'cpu'],
  cuda: ['core', 'cuda'],
  image: ['image', 'core'],
  napi: ['napi', 'core', 'image'],
  test: ['core', 'cpu', 'cuda', 'image', 'test'],
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
  if (!(layer in allowed)) continue;
  for (const [, target] of readFileSync(join(root, file), 'utf8').matchAll(/from '(\.[^']+)'/g)) {
    const imported = normalize(join(dirname(file), target));
    const other = relative('ts/src', imported).split('/')[0];
    if (other === layer) continue;
    if (!allowed[layer].includes(other)) problems.push(`${file} imports ${imported}: ${layer} must not know ${other}`);
    else if (layer === 'checkpoint' && other === 'model' && !modelForCheckpoint.has(imported))
      problems.push(`${file} imports ${imported}`);
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
    /cuda_runtime|cuda\/(?:prim|kernels|runtime)\//.test(text)
  )
    problems.push(`${file} knows CUDA`);
  if (layer === 'core' && /immintrin/.test(text)) problems.push(`${file} uses vector instructions`);
}

if (problems.length > 0) {
  process.stderr.write(`${problems.join('\n')}\n`);
  process.exit(1);
}
process.stdout.write('layers: every import points the right way\n');
