/** What a run of several stages did: its recipes, learning curves, and the heads that it trained. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { readJson, readLines } from '../files.mjs';

const stageName = /^(\d+)-(.+)$/;

/** The folder of the stage that a model lies in: a stage, or the `best` of one. */
export const stageFolder = (model) => (basename(model) === 'best' ? dirname(model) : model);

/** The folder of the stage that follows the one that `model` lies in: `out/drawings/6-fusion` gives `out/drawings/7-scenes`. */
export function nextStage(model, name) {
  const last = stageFolder(resolve(model));
  const number = Number(stageName.exec(basename(last))?.[1] ?? Number.NaN);
  if (Number.isNaN(number))
    throw new Error(`expected a stage such as 6-fusion to go on from, or --output, got ${model}`);
  return join(dirname(last), `${number + 1}-${name}`);
}

/**
 * Writes what a stage is trained with into its `run.json`.
 *
 * @throws Error where the folder holds another run, whose checkpoints must not be gone on with
 */
export function keepRun(folder, run) {
  mkdirSync(folder, { recursive: true });
  const file = join(folder, 'run.json');
  const text = `${JSON.stringify(run, null, 2)}\n`;
  if (!existsSync(file)) writeFileSync(file, text);
  else if (readFileSync(file, 'utf8') !== text)
    throw new Error(`expected the run that ${file} tells of, got another one`);
}

/**
 * The stages up to the one that `model` lies in, in order.
 *
 * @param model folder of a stage such as `out/drawings/6-fusion`, or its `best`; a run of one stage has any name
 * @returns `{ name, recipe, evaluations, steps }`; evaluations as `metrics.jsonl` has them
 */
export function stagesOf(model) {
  const last = stageFolder(model);
  const number = Number(stageName.exec(basename(last))?.[1] ?? Number.NaN);
  const folders = Number.isNaN(number)
    ? [last]
    : readdirSync(dirname(last))
        .filter((name) => Number(stageName.exec(name)?.[1]) <= number)
        .sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10))
        .map((name) => join(dirname(last), name));
  return folders.map((folder) => {
    const file = join(folder, 'run.json');
    if (!existsSync(file))
      throw new Error(`publish: expected the folder of a stage with run.json, found none in ${folder}`);
    const metrics = join(folder, 'metrics.jsonl');
    const lines = existsSync(metrics) ? readLines(metrics).map((line) => JSON.parse(line)) : [];
    return {
      name: stageName.exec(basename(folder))?.[2] ?? basename(folder),
      recipe: readJson(file).recipe,
      evaluations: lines.filter(({ evaluation }) => evaluation),
      steps: Math.max(0, ...lines.map(({ step }) => step ?? 0)),
    };
  });
}

/** Every objective that was trained, in the order of first use. */
export const objectivesOf = (stages) => [
  ...new Set(stages.flatMap(({ recipe }) => recipe.phases.flatMap(({ objectives }) => objectives))),
];

/**
 * Says which parameters no stage has trained, so that a model has no head that knows nothing.
 *
 * @returns a function of a parameter's name
 */
export function untrainedBy(stages) {
  const objectives = new Set(objectivesOf(stages));
  const phases = stages.flatMap(({ recipe }) => recipe.phases);
  const heads = [
    [/^itc_(?:text|image)_proj|^logit_scale/, objectives.has('itc')],
    [/^itc_vl_|^logit_vl_scale/, phases.some((phase) => phase.objectives.includes('itc') && phase.vlBranch !== false)],
    [/^itm_score/, objectives.has('itm')],
    [/^pooler/, ['itm', 'vqa', 'nlvr2'].some((objective) => objectives.has(objective))],
    [/^mlm_score/, objectives.has('mlm')],
    [/^mim_score|^transformer\.mask_token$/, false],
    [/^vqa_classifier/, objectives.has('vqa')],
    [/^nlvr2_classifier/, objectives.has('nlvr2')],
  ];
  return (name) => heads.some(([pattern, isTrained]) => !isTrained && pattern.test(name));
}
