/** The card of a published model. Every number in it comes from files: the run, the corpus, and what was measured. */
import { tableOf } from '../evaluation/table.mjs';
import { objectivesOf } from './stages.mjs';

const percent = (value) => (100 * value).toFixed(1);
const count = (value) => value.toLocaleString('en-US');

const says = {
  itc: 'search by text and picture',
  itm: 'matching and re-ranking',
  mlm: 'masked words beside a picture',
  vqa: 'questions',
  nlvr2: 'statements about two pictures',
};

function recipeTable(stages) {
  const rows = stages.flatMap(({ name, recipe }) =>
    recipe.phases.map(({ objectives, steps, learningRate, decay, negativeSharpness }) => [
      name,
      `${recipe.imageSize ?? recipe.model?.imageSize ?? '-'} px`,
      objectives.join(' + '),
      steps,
      recipe.batchSize,
      `${learningRate}, ${decay}`,
      objectives.includes('itm') ? (negativeSharpness ?? '-') : '-',
      recipe.dropPath ?? 0,
      recipe.movingAverage ?? '-',
      recipe.seed,
    ]),
  );
  const head = [
    'stage',
    'pictures',
    'objectives',
    'steps',
    'batch',
    'rate',
    'negative sharpness',
    'drop path',
    'moving average',
    'seed',
  ];
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

function curveTable(stages) {
  const rows = stages.flatMap(({ name, evaluations }) =>
    evaluations.map(({ step, evaluation }) => [
      name,
      step,
      ...['textToImage.r1', 'textToImage.r10', 'imageToText.r1', 'imageToText.r10'].map((key) =>
        key in evaluation ? percent(evaluation[key]) : '-',
      ),
    ]),
  );
  if (rows.length === 0) return '';
  const head = ['stage', 'step', 'text to image R@1', 'R@10', 'image to text R@1', 'R@10'];
  const lines = [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
  return `\n## Learning curve\n\nRecall in percent on the validation split while training, by the dual encoder.\n\n${lines}\n`;
}

function fitText({ fusionWeight, matchCalibration }) {
  if (!fusionWeight) return '';
  const { weight, fitted, others } = fusionWeight;
  const { slope, offset, pairs, share, others: rest } = matchCalibration;
  return `
The matching head's log-odds count ${weight} beside the similarity (\`fusionWeight\`). That number was fitted on every second drawing of the
validation style: mean R@1 of both directions there ${percent(fitted.dual)} before and ${percent(fitted.reranked)} after re-ranking; on the other half, which it was not
fitted on, ${percent(others.dual)} and ${percent(others.reranked)}. What \`match\` gives is calibrated (\`matchCalibration\`): log-odds times ${slope.toFixed(2)} ${offset < 0 ? 'minus' : 'plus'} ${Math.abs(offset).toFixed(2)},
fitted on ${count(pairs)} pairs, of which ${percent(share)} % belong together. On the other queries the expected calibration error falls from ${rest.errorBefore.toFixed(3)}
to ${rest.errorAfter.toFixed(3)}.
`;
}

const lossText = ({ dtype, bytes, loss }) =>
  `| ${dtype} | ${(bytes / 1e6).toFixed(1)} MB | ${loss > 0 ? '-' : loss < 0 ? '+' : ''}${Math.abs(100 * loss).toFixed(2)} |`;

/**
 * @param made what `publish.mjs` writes into `scores.json`, and `{ config, corpus, stages, test }`: the model's sizes, `corpus.json`, the
 *   stages of the run, and the report of the test split, or undefined where it was not measured yet
 */
export function cardOf({ name, config, corpus, stages, test, choice, validation, fits }) {
  const objectives = objectivesOf(stages);
  const heads = Object.keys(says).filter((objective) => objectives.includes(objective));
  const missing = Object.keys(says).filter((objective) => !objectives.includes(objective));
  const held = (prefix) =>
    Object.entries(corpus.total)
      .filter(([part]) => part.startsWith(prefix))
      .map(([part, drawings]) => `${part.slice(prefix.length)} (${count(drawings)})`)
      .join(', ');
  const { copies, heldOutCopies } = corpus.dropped;
  return `# ${name}

A small VLMo for drawings: emoji, icons, map glyphs, clip art, flags and rendered furniture. It was trained from nothing, by this library, in
stages of images, texts and pairs.

| | |
| --- | --- |
| architecture | VLMo, width ${config.width}, ${config.layers} layers, ${config.heads} heads, VL experts from layer ${config.firstVlLayer}, ${config.positions} positions |
| pictures | ${config.imageSize} x ${config.imageSize} in patches of ${config.patchSize} |
| texts | ${config.maxTextLength} tokens, ${count(config.vocabularySize)} word pieces learned from captions and glosses |
| weights | ${(choice.bytes / 1e6).toFixed(1)} MB, ${choice.dtype === 'int8' ? 'matrices of the blocks in 8 bits with a scale a row, other matrices in bfloat16' : 'bfloat16 matrices'}, float32 vectors |
| heads | ${heads.map((objective) => says[objective]).join('; ')} |
| licence | MIT for the weights; NOTICE.md names the makers of the training data |

## Scores

${
  test
    ? `On data that was not looked at while choosing, measured once, by \`node corpus/evaluate.mjs --split test\`. Each row names what a random order
gives and what a search by name (BM25) finds. Where the label is the name, a search by name finds nearly everything.

${tableOf(test).trim()}

The same figures come from these commands:

\`\`\`sh
${test.rows.flatMap(({ command }) => (command ? [command] : [])).join('\n')}
\`\`\``
    : 'The test split was not measured yet.'
}

## What was looked at while choosing

The validation split alone: the style \`fxemoji\`, ${count(corpus.total['validation/concepts'])} drawings of concepts that do not train, and half of the sentences in
\`corpus/natural-sentences.json\`. Stages, steps and rates were chosen by it (\`corpus/LOG.md\` lists what was tried), and so were the settings of re-ranking and the
type of the weights. Its figures are therefore not those of untouched data:

${tableOf(validation).trim()}
${fitText(fits)}
Types of weights, and the mean change of all figures above in points, against float32:

| type | file | change |
| --- | --- | --- |
${choice.candidates.map(lossText).join('\n')}
${curveTable(stages)}
## Recipe

${recipeTable(stages)}

AdamW (${stages.at(-1).recipe.betas.join(', ')}), weight decay ${stages.at(-1).recipe.weightDecay}, gradients clipped at norm ${[...new Set(stages.map(({ recipe }) => recipe.clipNorm))].join(' or ')}. \`node corpus/train.mjs\` builds the corpus and trains all
stages again, and \`node corpus/publish.mjs\` makes this folder of the last one.

## Data

${count(corpus.total.train)} training drawings in ${count(corpus.rows)} rows, from packages with permissive licences, with names, search words and dictionary glosses as captions.
${count(copies + heldOutCopies)} near-copies were left out, ${count(heldOutCopies)} of them of held-out drawings. Held out to choose by: ${held('validation/')}. Held out to report:
${held('test/')}. docs/corpus.md describes how they were chosen.

## Limits

- It knows drawings: not photographs, not people, no text inside pictures.
- Captions are names, search words and glosses in English; other languages are unknown to it.
- Labels carry the view of people, flags and roles that the sets and CLDR have.
${missing.length > 0 ? `- No head for ${missing.map((objective) => says[objective]).join(', ')}.\n` : ''}`;
}
