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
import { measureRows } from './evaluation/measure.mjs';
import { tableOf } from './evaluation/table.mjs';

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

const model = await Vlmo.load(path);
const k = model.abilities.has('match') ? Number(values.k) : 0;
const rows = await measureRows(model, { split, corpus, scenes, k, rows: values.rows?.split(','), shown: path });
await model.dispose();
const report = { model: path, split, k, rows };
await mkdir(output, { recursive: true });
await writeFile(join(output, `${split}.json`), `${JSON.stringify(report, null, 2)}\n`);
await writeFile(join(output, `${split}.md`), tableOf(report));
process.stdout.write(tableOf(report));
