/**
 * Packs the package as it is published and uses it from another folder, as users do: hints, links, addon, ES module, CommonJS, examples, command
 * line. It works without a network: dependencies are linked from the clone.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { stageMain } from './release/stage.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const folder = mkdtempSync(join(tmpdir(), 'mome-package-'));
const modules = join(folder, 'node_modules');
const installed = join(modules, 'mome');
const names = "['Vlmo', 'SearchIndex', 'MomeError', 'verifyCase', 'exportOnnx']";

function check(condition, message) {
  if (!condition) throw new Error(message);
}

const run = (args, options = {}) =>
  execFileSync(process.execPath, args, {
    cwd: folder,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    ...options,
  });

/** Unpacks what `npm pack` makes into the user's `node_modules`, beside the dependencies it names and no others. */
function install() {
  mkdirSync(installed, { recursive: true });
  const tarball = execFileSync('npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', folder], {
    cwd: stageMain(join(folder, 'stage')),
    encoding: 'utf8',
  }).trim();
  execFileSync('tar', ['-xzf', join(folder, tarball), '-C', installed, '--strip-components=1']);
  const manifest = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8'));
  for (const name of Object.keys(manifest.dependencies)) {
    mkdirSync(dirname(join(modules, name)), { recursive: true });
    symlinkSync(join(root, 'node_modules', name), join(modules, name));
  }
  return manifest;
}

/** Without an addon, the error names the package that brings one. */
function checkHint({ optionalDependencies }) {
  writeFileSync(
    join(folder, 'load.mjs'),
    `import { Vlmo } from 'mome'; await Vlmo.load().catch(({ message }) => console.log(message));`,
  );
  const message = run(['load.mjs']);
  const [, name, version] = /npm install (\S+)@(\S+)/.exec(message) ?? [];
  check(optionalDependencies[name] === version, `expected a hint with a package of mome, got: ${message}`);
}

/** Files that pages of the package point to are in it. */
function checkLinks() {
  const docs = readdirSync(join(installed, 'docs')).filter((name) => name.endsWith('.md'));
  for (const page of ['README.md', ...docs.map((name) => `docs/${name}`)]) {
    const text = readFileSync(join(installed, page), 'utf8');
    for (const [, target] of text.matchAll(/\]\((?![a-z]+:|#)([^)#]+)/g))
      check(existsSync(join(installed, dirname(page), target)), `${page}: expected ${target} in the package`);
  }
}

/** The command that compiles an addon is in the package, and says what it lacks where there is no compiler. */
function checkCompileCommand({ scripts, gypfile }) {
  check(scripts === undefined && gypfile === false, 'expected nothing that runs while the package is installed');
  const { status, stderr } = spawnSync(process.execPath, [join(installed, 'scripts', 'build-addon.mjs')], {
    encoding: 'utf8',
    env: { PATH: join(folder, 'nowhere') },
  });
  check(status === 1 && /cmake is missing/.test(stderr), `expected what is missing, got ${stderr}`);
}

/** Puts the addon where the package of this platform has it. */
function addPlatformPackage({ optionalDependencies }) {
  const name = Object.keys(optionalDependencies).find((each) => each.endsWith(`/${process.platform}-${process.arch}`));
  const target = join(modules, name, 'prebuilds', `${process.platform}-${process.arch}`);
  mkdirSync(target, { recursive: true });
  cpSync(join(root, 'build', 'Release', 'mome.node'), join(target, 'mome.glibc.node'));
  writeFileSync(join(modules, name, 'package.json'), JSON.stringify({ name }));
}

function checkEntries() {
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
  run(['user.mjs']);
  run(['user.cjs']);
}

/** The README's examples, with pictures of the names they use. */
async function checkReadme() {
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
  run(['example.mjs']);
  await makeModelWithAllHeads(join(folder, 'vlmo-vqa'));
  writeFileSync(
    join(folder, 'answering.mjs'),
    `import { Vlmo } from 'mome';\n${answering}\nif (!/^word/.test(best.answer)) throw new Error(best.answer); await vqa.dispose();`,
  );
  run(['answering.mjs']);
}

/** The page of the API is one program: it must fit the package's types, and run with the pictures and models of the README. */
function checkApiPage() {
  writeFileSync(join(folder, 'api.mts'), blocks('docs/api.md', 'ts').join('\n'));
  const compiler = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  const strict = ['--strict', '--noUncheckedIndexedAccess'];
  const language = ['--target', 'es2022', '--module', 'nodenext', '--lib', 'es2023,esnext.disposable'];
  const typings = ['--skipLibCheck', '--types', 'node', '--typeRoots', join(root, 'node_modules', '@types')];
  run([compiler, 'api.mts', ...strict, ...language, ...typings], { stdio: 'inherit' });
  run(['api.mjs']);
}

/** The example of the ONNX page prints how far another runtime is from ours. */
function checkOnnxPage() {
  const runtime = 'onnxruntime-node';
  symlinkSync(join(root, 'bench', 'node_modules', runtime), join(modules, runtime));
  const [example] = blocks('docs/onnx.md', 'js');
  writeFileSync(join(folder, 'onnx.mjs'), example);
  const difference = run(['onnx.mjs']);
  check(Number(difference) < 1e-6, `the ONNX example printed ${difference}`);
}

/** The example of the page on training prints a loss per step, which falls on two pairs, and leaves a model. */
function checkTrainingPage() {
  const [example] = blocks('docs/training.md', 'js');
  const pairs = [
    { image: 'cat.png', caption: 'an orange square' },
    { image: 'ramen.jpg', caption: 'a red square' },
  ];
  writeFileSync(join(folder, 'pairs.jsonl'), pairs.map((pair) => JSON.stringify(pair)).join('\n'));
  writeFileSync(
    join(folder, 'training.mjs'),
    `${example}\nimport { Vlmo } from 'mome';\nawait (await Vlmo.load('fine-tuned')).dispose();`,
  );
  const lines = run(['training.mjs']).trim().split('\n');
  const losses = lines.map((line) => Number(line.split(' ')[1]));
  check(losses.length === 20 && losses.at(-1) < losses[0], `the training example printed ${losses}`);
}

/** The code of a page in these languages, block by block. */
function blocks(page, ...languages) {
  const pattern = new RegExp(`\`\`\`(?:${languages.join('|')})\\n([\\s\\S]*?)\`\`\``, 'g');
  return [...readFileSync(join(installed, page), 'utf8').matchAll(pattern)].map(([, code]) => code);
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

try {
  const manifest = install();
  checkHint(manifest);
  checkLinks();
  checkCompileCommand(manifest);
  addPlatformPackage(manifest);
  checkEntries();
  await checkReadme();
  checkApiPage();
  checkOnnxPage();
  checkTrainingPage();
  process.stdout.write(run([join(installed, manifest.bin.mome), '--version']));
} finally {
  rmSync(folder, { recursive: true, force: true });
}
