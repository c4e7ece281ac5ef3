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
  // The README's example, with pictures of the names it uses.
  const example = /```ts\n([\s\S]*?)```/.exec(readFileSync(join(root, 'README.md'), 'utf8'))[1];
  const colours = { 'cat.png': '#f5a742', 'ramen.jpg': '#c0392b', 'train.svg': '' };
  for (const [name, background] of Object.entries(colours)) {
    const file = join(folder, name);
    if (background === '')
      writeFileSync(file, '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><path d="M0 0h9v9z"/></svg>');
    else await sharp({ create: { width: 20, height: 20, channels: 3, background } }).toFile(file);
  }
  writeFileSync(
    join(folder, 'example.mjs'),
    `${example}\nif (ranked.length !== 2 || embeddings.length !== 2 * width) throw new Error('example');`,
  );
  execFileSync(process.execPath, ['example.mjs'], { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] });
  // The example of the ONNX page prints how far another runtime is from ours.
  const onnxExample = /```js\n([\s\S]*?)```/.exec(readFileSync(join(root, 'docs', 'onnx.md'), 'utf8'))[1];
  writeFileSync(join(folder, 'onnx.mjs'), onnxExample);
  const difference = execFileSync(process.execPath, ['onnx.mjs'], { cwd: folder, encoding: 'utf8' });
  if (!(Number(difference) < 1e-6)) throw new Error(`the ONNX example printed ${difference}`);
  execFileSync(process.execPath, [join(root, 'dist', 'cli.mjs'), '--version'], { cwd: folder, stdio: 'inherit' });
} finally {
  rmSync(folder, { recursive: true, force: true });
}
