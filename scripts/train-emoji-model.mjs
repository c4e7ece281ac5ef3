/**
 * Makes the model that ships with mome: stages on the emoji drawings of three styles, each going on from the one before,
 * then scores on the held-out style. Interrupted runs go on where they were. Run after `npm run setup`:
 *
 *   node scripts/train-emoji-model.mjs [output folder, default out/emoji-tiny]
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { convertCheckpoint, Vlmo } from '../dist/index.mjs';
import { evaluateRetrieval, fitFusionWeight, fitMatchCalibration, runTraining } from '../dist/train.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const output = process.argv[2] ?? join(root, 'out', 'emoji-tiny');
const target = join(root, 'models', 'emoji-tiny');
const stages = [1, 2, 3, 4, 5, 6];

/** Heads this training does not reach. */
const untrained = /^(?:vqa_classifier|nlvr2_classifier|itc_vl_|logit_vl_scale|mlm_score)/;

async function scores(folder, k) {
  const model = await Vlmo.load(folder);
  try {
    return await evaluateRetrieval({ model, k });
  } finally {
    await model.dispose();
  }
}

for (const stage of stages) {
  const folder = join(output, String(stage));
  const finished = join(folder, 'finished.json');
  if (existsSync(finished)) continue;
  const result = await runTraining(join(root, 'recipes', `emoji-tiny-${stage}.json`), {
    output: folder,
    resume: true,
    onEvaluate: async (model) => {
      const { dual } = await scores(model, 0);
      return {
        'textToImage.r1': dual.textToImage.r1,
        'textToImage.r10': dual.textToImage.r10,
        'imageToText.r1': dual.imageToText.r1,
        'imageToText.r10': dual.imageToText.r10,
      };
    },
  });
  writeFileSync(finished, `${JSON.stringify(result)}\n`);
}

// Publish: untrained heads left out, scores and learning curve beside the weights.
const last = join(output, String(stages.at(-1)));
const trained = await Vlmo.load(last);
const weights = Array.from({ length: 21 }, (_, i) => i / 20);
const fit = await fitFusionWeight({ model: trained, k: 32, weights });
const calibration = await fitMatchCalibration({ model: trained });
await trained.dispose();
await convertCheckpoint(last, target, {
  dtype: 'bfloat16',
  omit: (name) => untrained.test(name),
  fusionWeight: fit.weight,
  matchCalibration: { slope: calibration.slope, offset: calibration.offset },
});
let before = 0;
const curve = [];
for (const stage of stages) {
  const lines = readFileSync(join(output, String(stage), 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  for (const { step, evaluation } of lines) if (evaluation) curve.push({ stage, step: before + step, ...evaluation });
  before += Math.max(...lines.map(({ step }) => step));
}
const report = await scores(target, 32);
writeFileSync(
  join(target, 'scores.json'),
  `${JSON.stringify({ style: 'noto', ...report, fusionWeight: fit, matchCalibration: calibration, curve }, null, 2)}\n`,
);
await import('./model-card.mjs');
process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
