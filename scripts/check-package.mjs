/** Loads the built package as its users do, from a folder of their own: ES module, CommonJS, command line. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const folder = mkdtempSync(join(tmpdir(), 'mome-package-'));
const names = "['Vlmo', 'SearchIndex', 'MomeError', 'verifyCase', 'exportOnnx']";
try {
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(root, join(folder, 'node_modules', 'mome'));
  const runtime = 'onnxruntime-node';
  symlinkSync(join(root, 'bench', 'node_modules', runtime), join(folder, 'node_modules', runtime));
  writeFileSync(
    join(folder, 'user.mjs'),
    `import * as mome from 'mome'; import { Trainer } from 'mome/train'; import { Graph } from 'mome/graph';
for (const name of ${names}) if (typeof mome[name] !== 'function') throw new Error('no ' + name);
if (typeof Trainer !== 'function' || typeof Graph !== 'function') throw new Error('no Trainer or Graph');
const report = await mome.diagnose(); if (!report.ok) throw new Error(JSON.stringify(report));`,
  );
  writeFileSync(
    join(folder, 'user.cjs'),
    `const mome = require('mome'); const { Trainer } = require('mome/train');
for (const name of ${names}) if (typeof mome[name] !== 'function') throw new Error('no ' + name);
if (typeof Trainer !== 'function') throw new Error('no Trainer');
mome.diagnose().then((report) => { if (!report.ok) throw new Error(JSON.stringify(report)); });`,
  );
  for (const file of ['user.mjs', 'user.cjs'])
    execFileSync(process.execPath, [file], { cwd: folder, stdio: 'inherit' });
  // The examples, with pictures of the names they use.
  const colours = { 'cat.png': '#f5a742', 'ramen.jpg': '#c0392b', 'train.svg': '' };
  for (const [name, background] of Object.entries(colours)) {
    const file = join(folder, name);
    if (background === '')
      writeFileSync(file, '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><path d="M0 0h9v9z"/></svg>');
    else await sharp({ create: { width: 20, height: 20, channels: 3, background } }).toFile(file);
  }
  const [example, answering] = blocks('README.md', 'ts', 'js');
  writeFileSync(
    join(folder, 'example.mjs'),
    `${example}\nif (ranked.length !== 2 || embeddings.length !== 2 * width) throw new Error('example');`,
  );
  runQuietly('example.mjs');
  await makeModelWithAllHeads(join(folder, 'vlmo-vqa'));
  writeFileSync(
    join(folder, 'answering.mjs'),
    `import { Vlmo } from 'mome';\n${answering}\nif (!/^word/.test(best.answer)) throw new Error(best.answer); await vqa.dispose();`,
  );
  runQuietly('answering.mjs');
  // The page of the API is one program: it must fit the package's types, and run.
  writeFileSync(join(folder, 'api.mts'), blocks('docs/api.md', 'ts').join('\n'));
  const compiler = [
    join(root, 'node_modules', 'typescript', 'bin', 'tsc'),
    'api.mts',
    '--strict',
    '--noUncheckedIndexedAccess',
  ];
  const language = ['--target', 'es2022', '--module', 'nodenext', '--lib', 'es2023,esnext.disposable'];
  const typings = ['--skipLibCheck', '--types', 'node', '--typeRoots', join(root, 'node_modules', '@types')];
  execFileSync(process.execPath, [...compiler, ...language, ...typings], { cwd: folder, stdio: 'inherit' });
  runQuietly('api.mjs');
  // The example of the ONNX page prints how far another runtime is from ours.
  const [onnxExample] = blocks('docs/onnx.md', 'js');
  writeFileSync(join(folder, 'onnx.mjs'), onnxExample);
  const difference = execFileSync(process.execPath, ['onnx.mjs'], { cwd: folder, encoding: 'utf8' });
  if (!(Number(difference) < 1e-6)) throw new Error(`the ONNX example printed ${difference}`);
  execFileSync(process.execPath, [join(root, 'dist', 'cli.mjs'), '--version'], { cwd: folder, stdio: 'inherit' });
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/** The code of a page in these languages, block by block. */
function blocks(page, ...languages) {
  const pattern = new RegExp(`\`\`\`(?:${languages.join('|')})\\n([\\s\\S]*?)\`\`\``, 'g');
  return [...readFileSync(join(root, page), 'utf8').matchAll(pattern)].map(([, code]) => code);
}

function runQuietly(file) {
  execFileSync(process.execPath, [file], { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] });
}

/** The model of a reference case, with a vocabulary and words for its answers. */
async function makeModelWithAllHeads(target) {
  const { convertCheckpoint } = await import('../dist/index.mjs');
  const { config } = await convertCheckpoint(join(root, 'ts/test/golden/tiny_relative/weights.pt'), target);
  const pieces = [
    '[PAD]',
    '[UNK]',
    '[CLS]',
    '[SEP]',
    '[MASK]',
    'a',
    'cat',
    'on',
    'sofa',
    'what',
    'animal',
    'is',
    'it',
    '?',
  ];
  while (pieces.length < config.vocabularySize) pieces.push(`piece${pieces.length}`);
  writeFileSync(join(target, 'vocab.txt'), pieces.join('\n'));
  const answers = Array.from({ length: config.answers }, (_, i) => `word ${i}`);
  writeFileSync(join(target, 'answers.json'), JSON.stringify(answers));
}
