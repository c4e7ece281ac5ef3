/** Writes the card of the shipped model from its scores and recipes, so that no number in it is typed by hand. */
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const folder = join(root, 'models', 'emoji-tiny');
const read = (name) => JSON.parse(readFileSync(join(folder, name), 'utf8'));
const config = read('config.json');
const { n, dual, reranked, fusionWeight, matchCalibration, curve } = read('scores.json');
const recipes = [1, 2, 3, 4, 5, 6].map((stage) =>
  JSON.parse(readFileSync(join(root, 'recipes', `emoji-tiny-${stage}.json`), 'utf8')),
);
const megabytes = (statSync(join(folder, 'model.safetensors')).size / 1e6).toFixed(1);

const percent = (value) => (100 * value).toFixed(1);
const row = (name, { textToImage: t, imageToText: i }) =>
  `| ${name} | ${[t.r1, t.r5, t.r10, i.r1, i.r5, i.r10].map(percent).join(' | ')} |`;
const stageRows = ({ batchSize, neighbours, dropPath, seed, model, phases }, index) =>
  phases.map(
    ({ objectives, steps, learningRate, decay, negativeSharpness }) =>
      `| ${index + 1} | ${model.imageSize} px | ${objectives.join(' + ')} | ${steps} | ${batchSize} | ${learningRate}, ${decay} | ${negativeSharpness ?? '-'} | ${neighbours ?? 1} | ${dropPath ?? 0} | ${seed} |`,
  );
const points = (key) => `[${curve.map((point) => percent(point[key])).join(', ')}]`;

writeFileSync(
  join(folder, 'README.md'),
  `# emoji-tiny

The model that ships with mome: a small VLMo trained from nothing, by this library, on emoji drawings. It is there so that search, matching
and re-ranking work out of the box and can be measured. It knows emoji and nothing else: not for photographs, not for people; no
question answering, no filling of masks.

| | |
| --- | --- |
| architecture | VLMo, width ${config.width}, ${config.layers} layers, ${config.heads} heads, VL experts from layer ${config.firstVlLayer}, ${config.positions} positions |
| pictures | ${config.imageSize} x ${config.imageSize} in patches of ${config.patchSize} |
| texts | ${config.maxTextLength} tokens, ${config.vocabularySize} word pieces learned from the captions |
| weights | ${megabytes} MB, bfloat16 matrices, float32 vectors |
| heads | ITC, ITM |
| licence | MIT for the weights; the training data is named below |

## Scores

Recall in percent on ${n} Noto drawings, a style the model never saw, with one caption (the CLDR label) each. Re-ranking reads the first 32
candidates with the fusion encoder and orders them by what both encoders say. Reproduce with \`mome eval retrieval --json\`.

| | text to image R@1 | R@5 | R@10 | image to text R@1 | R@5 | R@10 |
| --- | --- | --- | --- | --- | --- | --- |
${row('dual encoder', dual)}
${row('after re-ranking', reranked)}

The matching head's log-odds count ${fusionWeight.weight} beside the similarity (\`fusionWeight\` in \`config.json\`). That number was fitted on every second
drawing: mean R@1 of both directions there ${percent(fusionWeight.fitted.dual)} before and ${percent(fusionWeight.fitted.reranked)} after re-ranking; on the other half, which it was
not fitted on, ${percent(fusionWeight.others.dual)} and ${percent(fusionWeight.others.reranked)}.

What \`match\` gives is calibrated (\`matchCalibration\` in \`config.json\`): the head's log-odds times ${matchCalibration.slope.toFixed(2)} and ${matchCalibration.offset < 0 ? 'minus' : 'plus'} ${Math.abs(matchCalibration.offset).toFixed(2)}, fitted on
every second drawing and caption as query with its first ${matchCalibration.candidates} candidates, both ways, ${matchCalibration.pairs} pairs. ${percent(matchCalibration.share)} % of those belong together, and so
probabilities hold where about as many do. On the ${matchCalibration.others.pairs} pairs of the other queries the expected calibration error (15 groups of equal size)
falls from ${matchCalibration.others.errorBefore.toFixed(3)} to ${matchCalibration.others.errorAfter.toFixed(3)}. Right pairs get ${matchCalibration.others.rightAfter.toFixed(2)} on average, ${matchCalibration.others.rightBefore.toFixed(2)} before: the head alone is too sure of look-alikes, too. The order
of candidates does not depend on it. Reproduce with \`mome eval calibration --no-write\`.

## Learning curve

Dual encoder on the held-out style while training; ticks are evaluations, the stages follow each other.

\`\`\`mermaid
xychart-beta
  title "Recall on the held-out style, percent"
  x-axis "optimiser steps" [${curve.map(({ step }) => step).join(', ')}]
  y-axis 0 --> 100
  line ${points('textToImage.r1')}
  line ${points('textToImage.r10')}
\`\`\`

| stage | step | text to image R@1 | R@10 | image to text R@1 | R@10 |
| --- | --- | --- | --- | --- | --- |
${curve.map((p) => `| ${p.stage} | ${p.step} | ${['textToImage.r1', 'textToImage.r10', 'imageToText.r1', 'imageToText.r10'].map((key) => percent(p[key])).join(' | ')} |`).join('\n')}

## Recipe

| stage | pictures | objectives | steps | batch | rate | negative sharpness | neighbours | drop path | seed |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
${recipes.flatMap(stageRows).join('\n')}

AdamW (0.9, 0.98), weight decay ${recipes[0].weightDecay} and gradients clipped at norm 1. Drawings are turned, sheared, scaled, recoloured,
outlined, blurred and laid on other backgrounds; captions are drawn from label and tags. Pairs of the same emoji are joint positives.
\`node scripts/train-emoji-model.mjs\` makes the model again; \`recipes/emoji-tiny-1.json\` to \`-${recipes.length}.json\` are the settings. Stage 5
trains the vision-language experts, the pooler and the matching head alone. Stage 6 went on with its optimiser's moments and random
numbers; made again it begins with its own. The choice of recipe looked at the scores above, so they are not those of an untouched test
set.

## Data

Training: Twemoji (CC BY 4.0), OpenMoji (CC BY-SA 4.0) and Fluent Emoji Flat (MIT), 5,423 drawings, from the npm packages of Iconify.
Evaluation only: Noto Emoji (Apache 2.0). Captions: CLDR short names and keywords from \`emojibase-data\` (MIT; Unicode License v3).
Versions are pinned in \`package.json\`. Labels carry the view of people, flags and roles that CLDR has.
`,
);
