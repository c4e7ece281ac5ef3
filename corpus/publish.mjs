/**
 * Makes a model that ships of the last stage of a run: without heads that no stage trained, with the settings of re-ranking chosen on the
 * validation split, in bfloat16 or int8, whichever fits the limit and loses less there. Writes its card, too.
 *
 *   node corpus/publish.mjs --run out/drawings/8-scenes [--name drawings] [--models models] [--corpus out/corpus] [--scenes out/scenes]
 *     [--rows style,natural] [--megabytes 24] [-k 32] [--test out/evaluation/test.json]
 *
 * Then `node corpus/evaluate.mjs --model models/drawings --split test` once, and `node corpus/publish.mjs --run <the same> --card --test
 * out/evaluation/test.json`, which writes the card again with those figures and leaves the model as it is.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { convertCheckpoint, Vlmo } from '../dist/index.mjs';
import { fitFusionWeight, fitMatchCalibration, openPairs } from '../dist/train.mjs';
import { measureRows } from './evaluation/measure.mjs';
import { readJson } from './files.mjs';
import { cardOf } from './publish/card.mjs';
import { chosenOf, lossOf } from './publish/choice.mjs';
import { objectivesOf, stagesOf, untrainedBy } from './publish/stages.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(here);
const { values } = parseArgs({
  options: {
    run: { type: 'string' },
    name: { type: 'string', default: 'drawings' },
    models: { type: 'string', default: join(root, 'models') },
    corpus: { type: 'string', default: join(root, 'out', 'corpus') },
    scenes: { type: 'string', default: join(root, 'out', 'scenes') },
    rows: { type: 'string' },
    megabytes: { type: 'string', default: '24' },
    k: { type: 'string', short: 'k', default: '32' },
    test: { type: 'string' },
    card: { type: 'boolean', default: false },
  },
});
const { run, name, corpus, scenes } = values;
if (!run) throw new Error('publish: expected --run, the folder of the last stage');
const k = Number(values.k);
const limit = Number(values.megabytes) * 1e6;
const target = join(values.models, name);
const stages = stagesOf(run);

/** Settings of re-ranking, fitted on the validation style; none where no stage has trained the matching head. */
async function fitsOf() {
  if (!objectivesOf(stages).includes('itm')) return {};
  const model = await Vlmo.load(run);
  try {
    const file = join(corpus, 'validation', 'style', 'one-each.jsonl');
    const dataset = await openPairs(file, { size: model.config.imageSize });
    const weights = Array.from({ length: 21 }, (_, i) => i / 20);
    const fusionWeight = await fitFusionWeight({ model, dataset, k, weights });
    return { fusionWeight, matchCalibration: await fitMatchCalibration({ model, dataset }) };
  } finally {
    await model.dispose();
  }
}

async function validationOf(folder) {
  const model = await Vlmo.load(folder);
  try {
    return await measureRows(model, { split: 'validation', corpus, scenes, k, rows: values.rows?.split(',') });
  } finally {
    await model.dispose();
  }
}

async function publish() {
  const fits = await fitsOf();
  const settings = {
    omit: untrainedBy(stages),
    ...(fits.fusionWeight && {
      fusionWeight: fits.fusionWeight.weight,
      matchCalibration: { slope: fits.matchCalibration.slope, offset: fits.matchCalibration.offset },
    }),
  };
  const trial = mkdtempSync(join(tmpdir(), 'mome-publish-'));
  try {
    const measured = {};
    for (const dtype of ['float32', 'bfloat16', 'int8']) {
      const folder = join(trial, dtype);
      await convertCheckpoint(run, folder, { ...settings, dtype });
      measured[dtype] = { bytes: statSync(join(folder, 'model.safetensors')).size, rows: await validationOf(folder) };
    }
    const candidates = Object.entries(measured).map(([dtype, { bytes, rows }]) => ({
      dtype,
      bytes,
      loss: lossOf(measured.float32.rows, rows),
    }));
    const chosen = chosenOf(
      candidates.filter(({ dtype }) => dtype !== 'float32'),
      limit,
    );
    mkdirSync(target, { recursive: true });
    await convertCheckpoint(run, target, { ...settings, dtype: chosen.dtype });
    const validation = { split: 'validation', k, rows: measured[chosen.dtype].rows };
    const scores = { name, choice: { ...chosen, limit, candidates }, validation, fits };
    writeFileSync(join(target, 'scores.json'), `${JSON.stringify(scores, null, 2)}\n`);
  } finally {
    rmSync(trial, { recursive: true });
  }
}

if (!values.card) await publish();
const test = values.test && readJson(values.test);
const scores = { ...readJson(join(target, 'scores.json')), ...(test && { test }) };
writeFileSync(join(target, 'scores.json'), `${JSON.stringify(scores, null, 2)}\n`);
const card = cardOf({
  ...scores,
  config: readJson(join(target, 'config.json')),
  corpus: readJson(join(corpus, 'corpus.json')),
  stages,
});
writeFileSync(join(target, 'README.md'), card);
// Who made the drawings; the packages' own metadata are needed for it.
if (existsSync(join(here, 'node_modules', '@iconify', 'json')))
  execFileSync(process.execPath, [join(here, 'notice.mjs'), '--corpus', corpus], { stdio: 'inherit' });
else
  process.stderr.write(
    'NOTICE.md stays as it is: `npm ci --prefix corpus` installs what node corpus/notice.mjs reads\n',
  );
const { dtype, bytes, loss } = scores.choice;
process.stdout.write(
  `${target}: ${dtype}, ${(bytes / 1e6).toFixed(1)} MB, ${(100 * loss).toFixed(2)} points lost of the mean of all validation figures\n`,
);
