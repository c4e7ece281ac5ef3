/**
 * Measures a model on all held-out sets and writes one JSON and one table. Every row names the `mome eval` command that gives its figures again.
 *
 *   node corpus/evaluate.mjs [--model models/emoji-tiny] [--split validation|test] [--corpus out/corpus] [--scenes out/scenes]
 *     [--rows noto,natural] [-k 32] [--output out/evaluation]
 *
 * Choose on `validation` and report `test` once. Rows whose data are not there, or for which the model has no head, say so.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Vlmo } from '../dist/index.mjs';
import { rowsOf, tableOf } from './evaluation/rows.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { values } = parseArgs({
  options: {
    model: { type: 'string', default: join(root, 'models', 'emoji-tiny') },
    split: { type: 'string', default: 'validation' },
    corpus: { type: 'string', default: join(root, 'out', 'corpus') },
    scenes: { type: 'string', default: join(root, 'out', 'scenes') },
    rows: { type: 'string' },
    k: { type: 'string', short: 'k', default: '32' },
    output: { type: 'string', default: join(root, 'out', 'evaluation') },
  },
});
const { model: path, split, corpus, scenes, output } = values;
if (!['validation', 'test'].includes(split)) throw new Error(`evaluate: expected validation or test, got ${split}`);
const all = rowsOf(split, { corpus, scenes });
const wanted = values.rows?.split(',') ?? all.map(({ id }) => id);
const unknown = wanted.find((id) => !all.some((row) => row.id === id));
if (unknown) throw new Error(`evaluate: expected rows of ${all.map(({ id }) => id).join(', ')}, got ${unknown}`);

const model = await Vlmo.load(path);
const k = model.abilities.has('match') ? Number(values.k) : 0;
const rows = [];
for (const { id, title, measure, folder, needs, isThere } of all.filter((row) => wanted.includes(row.id))) {
  const started = performance.now();
  let row = { missing: `no data in ${folder}` };
  if (isThere && needs && !model.abilities.has(needs)) row = { missing: `the model has no head to ${needs}` };
  else if (isThere) row = await measure({ model, k, folder, split });
  const { command, ...rest } = row;
  const again = command && { command: `${command} -m ${path}` };
  rows.push({ id, title, ...rest, ...again, seconds: Math.round((performance.now() - started) / 1000) });
  process.stderr.write(`${id}: ${JSON.stringify(row.missing ?? row.metrics)}\n`);
}
await model.dispose();
const report = { model: path, split, k, rows };
await mkdir(output, { recursive: true });
await writeFile(join(output, `${split}.json`), `${JSON.stringify(report, null, 2)}\n`);
await writeFile(join(output, `${split}.md`), tableOf(report));
process.stdout.write(tableOf(report));
