/** Loads the built package as its users do, from a folder of their own: ES module, CommonJS, command line. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const folder = mkdtempSync(join(tmpdir(), 'mome-package-'));
const names = "['Vlmo', 'SearchIndex', 'MomeError', 'verifyCase']";
try {
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(root, join(folder, 'node_modules', 'mome'));
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
  execFileSync(process.execPath, [join(root, 'dist', 'cli.mjs'), '--version'], { cwd: folder, stdio: 'inherit' });
} finally {
  rmSync(folder, { recursive: true, force: true });
}
