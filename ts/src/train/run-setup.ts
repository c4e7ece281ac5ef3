/**
 * One run from a recipe: its data, vocabulary, answers, starting weights and identity are settled before the first step.
 */
import { join } from 'node:path';
import { presets, type VlmoConfig } from '../architecture/config.ts';
import {
  type Checkpoint,
  configToRun,
  inferConfig,
  type ModelFiles,
  openCheckpoint,
  openModelFiles,
} from '../checkpoint/index.ts';
import { pathOfModel } from '../inference/load.ts';
import { check } from '../runtime/errors.ts';
import { createTokenizer } from '../text/tokenizer.ts';
import type { VocabularyOptions } from '../text/vocabulary.ts';
import type { Dataset } from './data/dataset.ts';
import { batchesPerEpoch } from './data/pairs.ts';
import { MetricsLog, ProgressLine } from './metrics.ts';
import { objectiveNeeds } from './objectives/step.ts';
import type { ProcessGroup } from './process-group.ts';
import { type Phase, type Recipe, recipeConfig } from './recipe.ts';
import type { RunOptions } from './run.ts';
import { openLoader, openRunData } from './run-data.ts';
import { evaluateModel, requireEvaluation, requireHead } from './run-evaluation.ts';
import { claimFolder, hashOfParameters, hasRun, identityOf, requireFreshFolder } from './run-identity.ts';
import { Run, type RunParts, trainerOptionsOf } from './run-loop.ts';
import { patchTokenizerOf, type RunPatchTokenizer } from './run-patch-tokenizer.ts';
import { vocabularyOf } from './run-vocabulary.ts';
import { type PlannedPhase, type StartPlan, startPlan } from './start-plan.ts';
import { startingParameters } from './starting-model.ts';

/** Name of the metrics in the folder of a run. */
export const metricsName = 'metrics.jsonl';

/** A run that came to its end, and what this process did of it. */
export interface FinishedRun {
  readonly output: string;
  readonly steps: number;
  readonly samples: number;
  readonly seconds: number;
  readonly waited: number;
  readonly skipped: number;
}

export interface RecipeRunOptions extends Omit<RunOptions, 'onStart'> {
  readonly processGroup: ProcessGroup;
  /** Paths in the recipe are relative to it. */
  readonly folder: string;
  readonly signal: AbortSignal;
  readonly onStart: (plan: StartPlan) => void;
  /** How the file that is the recipe's vocabulary was learned, for the stages of a chain. */
  readonly learnedVocabulary?: VocabularyOptions;
  /** Writes the report of the run, or of the chain that it is a stage of. */
  readonly report: () => Promise<void>;
}

/** What a run starts from. */
interface Start {
  readonly files: ModelFiles;
  readonly checkpoint: Checkpoint;
  readonly config: VlmoConfig;
}

/** Runs a recipe in a folder that nobody else writes to. */
export async function runRecipe(recipe: Recipe, options: RecipeRunOptions): Promise<FinishedRun> {
  const { folder, signal } = options;
  const start =
    recipe.init === undefined
      ? undefined
      : await openStart(await pathOfModel('recipe: init', recipe.init, folder, { signal }));
  try {
    return await runFrom(start, recipe, options);
  } finally {
    start?.files.close();
  }
}

async function openStart(path: string): Promise<Start> {
  const files = await openModelFiles(path);
  try {
    const checkpoint = await openCheckpoint(files.weightsFile);
    return { files, checkpoint, config: (await files.readConfig()) ?? inferConfig(checkpoint) };
  } catch (error) {
    files.close();
    throw error;
  }
}

async function runFrom(start: Start | undefined, recipe: Recipe, options: RecipeRunOptions): Promise<FinishedRun> {
  const { output, folder, resume = false, overwrite = false, processGroup: group } = options;
  const isFirst = group.rank === 0;
  if (!resume && !overwrite && isFirst) await requireFreshFolder(output, false);
  // What was made before a run began may be that of another one.
  const goesOn = resume && (await hasRun(output));
  /** What the first process makes for all: the others find it made. */
  const madeByFirst = async <T>(make: (isThere: boolean) => Promise<T>): Promise<T> => {
    if (!isFirst) await group.barrier();
    const made = await make(goesOn || !isFirst);
    if (isFirst) await group.barrier();
    return made;
  };
  const data = await openRunData(recipe, folder, imageSizeOf(recipe, start), start?.files.answers);
  let patches: RunPatchTokenizer | undefined;
  try {
    const evaluate = await evaluationOf(recipe, options);
    await requireInputs(recipe, data.dataset);
    requireSameAnswers(recipe, data.answers);
    const objectives = recipe.phases.flatMap((phase) => phase.objectives);
    if (recipe.evaluation) requireHead(recipe.evaluation, objectives, start?.checkpoint.entries.keys() ?? []);
    // An older run goes when what takes its place can be read.
    if (overwrite && isFirst) await requireFreshFolder(output, true);
    const vocabulary = await madeByFirst((isThere) =>
      vocabularyOf(recipe, { folder, output, resume: isThere, signal: options.signal }, data.dataset, start?.files),
    );
    const tokenizerOf = (maxLength: number) =>
      vocabulary && createTokenizer(vocabulary.text, { maxLength }, vocabulary.path);
    const answers = data.answers ?? start?.files.answers;
    const config = configOf(recipe, start, (await tokenizerOf(2))?.vocabularySize, data.answers);
    const checkpoint = start && withoutOtherAnswers(start, config, answers);
    const phaseSteps = recipe.phases.map((phase) => stepsOf(recipe, phase, data.dataset));
    const plan = await startPlan(config, plannedPhases(recipe, phaseSteps), checkpoint);
    check(
      plan.rows.some(({ learning }) => learning === 'trained'),
      'MOME_INVALID_CONFIG',
      'recipe: phases: expected trainable to name parameters that the objectives read, got none',
    );
    const omit = (name: string) => plan.untrained.has(name) && isHead(name);
    if (isFirst) options.onStart(plan);
    const parameters = await startingParameters(config, checkpoint, recipe.seed, recipe.initialValues);
    const startHash = checkpoint ? await hashOfParameters(parameters) : '';
    patches = await madeByFirst((isThere) =>
      patchTokenizerOf(recipe, data.dataset, config, { folder, output, resume: isThere, signal: options.signal }),
    );
    const named = { ...recipe, vocabulary: options.learnedVocabulary ?? recipe.vocabulary };
    if (isFirst)
      await claimFolder(output, await identityOf(named, data.dataset, vocabulary?.bytes, startHash, patches?.hash));
    await group.barrier();
    const total = phaseSteps.reduce((sum, steps) => sum + steps, 0);
    const progress = new ProgressLine(total, { quiet: options.quiet || !isFirst });
    const tokenizer = await tokenizerOf(config.maxTextLength);
    const run = new Run({
      recipe,
      config,
      tokenizer,
      patchTokenizer: patches?.tokenizer,
      processGroup: group,
      phaseSteps,
      openLoader: (phase, from) => openLoader(data, recipe, phase, from, config, tokenizer, group),
      log: new MetricsLog(join(output, metricsName)),
      progress,
      output,
      resume,
      checkpointActivations: options.checkpointActivations ?? recipe.checkpointActivations,
      signal: options.signal,
      vocabularyFiles: vocabulary ? [vocabulary] : [],
      answers,
      omit,
      evaluate,
      report: options.report,
    });
    try {
      const steps = await run.all(parameters);
      return { output, steps, ...run.statistics };
    } finally {
      progress.stop();
      // The curves of a run that failed are worth less than its error.
      if (isFirst) await options.report().catch(() => undefined);
    }
  } finally {
    patches?.tokenizer.dispose();
    data.dataset.close();
  }
}

/**
 * Refuses data that lack what an objective reads.
 *
 * @throws MomeError `MOME_INVALID_CONFIG`
 */
async function requireInputs({ phases }: Recipe, dataset: Dataset): Promise<void> {
  const first = await dataset.item(0, false).catch(() => undefined);
  for (const objective of phases.flatMap(({ objectives }) => objectives)) {
    const { picturesPerText, answers, truth } = objectiveNeeds[objective];
    check(
      picturesPerText === 0 || picturesPerText === dataset.picturesPerItem,
      'MOME_INVALID_CONFIG',
      `recipe: data: expected ${picturesPerText} pictures an item for "${objective}", got ${dataset.picturesPerItem}`,
    );
    check(
      first === undefined || ((!answers || first.answers !== undefined) && (!truth || first.truth !== undefined)),
      'MOME_INVALID_CONFIG',
      `recipe: data: expected ${answers ? 'questions with answers' : 'statements'} for "${objective}", got others`,
    );
  }
}

/** @throws MomeError `MOME_INVALID_CONFIG` for a model with another number of answers than the list has */
function requireSameAnswers({ model }: Recipe, answers: readonly string[] | undefined): void {
  const named = typeof model === 'object' ? model.answers : undefined;
  check(
    named === undefined || answers === undefined || named === answers.length,
    'MOME_INVALID_CONFIG',
    `recipe: model: expected answers to be left out, or the ${answers?.length} of the data's list, got ${named}`,
  );
}

/** Side of the model's pictures, known before its data are read. */
function imageSizeOf({ imageSize, model }: Recipe, start: Start | undefined): number {
  const sizes = typeof model === 'string' ? presets[model] : (model ?? start?.config);
  return imageSize ?? Number((sizes as { readonly imageSize?: unknown } | undefined)?.imageSize ?? 224);
}

/** The sizes of the run's model. */
function configOf(
  recipe: Recipe,
  start: Start | undefined,
  vocabularySize: number | undefined,
  answers: readonly string[] | undefined,
): VlmoConfig {
  // A model that goes on with its own vocabulary may have room for more pieces.
  const size = recipe.vocabulary === undefined && start ? start.config.vocabularySize : vocabularySize;
  const own = recipeConfig(recipe, size, start?.config);
  const { tokenTypes, ...config } = start ? configToRun(own, start.checkpoint) : own;
  // Statements are about two pictures, each with a type of its own.
  const comparesPictures = recipe.phases.some(({ objectives }) => objectives.includes('nlvr2'));
  const result: VlmoConfig = {
    ...config,
    ...(answers && { answers: answers.length }),
    ...(tokenTypes !== undefined && !comparesPictures && { tokenTypes }),
  };
  check(
    vocabularySize === undefined || vocabularySize <= result.vocabularySize,
    'MOME_INVALID_CONFIG',
    `train: expected a vocabulary of at most ${result.vocabularySize} pieces, got ${vocabularySize}`,
  );
  return result;
}

/** The checkpoint without a head of other answers: it starts fresh. */
function withoutOtherAnswers(
  { checkpoint, config, files }: Start,
  own: VlmoConfig,
  answers: readonly string[] | undefined,
): Checkpoint {
  const isSame = files.answers === undefined || JSON.stringify(files.answers) === JSON.stringify(answers);
  if (own.answers === config.answers && isSame) return checkpoint;
  const entries = new Map([...checkpoint.entries].filter(([name]) => !name.startsWith('vqa_classifier.3.')));
  return { ...checkpoint, entries };
}

/** Optimiser steps of a phase. */
function stepsOf(
  { batchSize, accumulate }: Recipe,
  { steps, epochs }: Phase,
  dataset: Pick<Dataset, 'length'>,
): number {
  if (steps !== undefined) return steps;
  return Math.max(1, Math.round((epochs! * batchesPerEpoch(dataset, { batchSize })) / accumulate));
}

function plannedPhases(recipe: Recipe, phaseSteps: readonly number[]): PlannedPhase[] {
  return recipe.phases.map((phase, index) => {
    const { trainable, ...options } = trainerOptionsOf(recipe, phase, phaseSteps[index]!);
    return { options, trainable };
  });
}

/** How a run measures its model: as its caller does, on the recipe's held-out data, or on the held-out drawings. */
async function evaluationOf(
  recipe: Recipe,
  { onEvaluate, folder, signal }: RecipeRunOptions,
): Promise<RunParts['evaluate']> {
  if (onEvaluate) return onEvaluate;
  const data = recipe.evaluation ?? ('emoji' in recipe.data ? recipe.data : undefined);
  if (data) await requireEvaluation(data, folder);
  return data && ((modelFolder) => evaluateModel(modelFolder, data, folder, signal));
}

/** Heads may be missing from a model; what the encoder has may not. */
const isHead = (name: string): boolean =>
  /^(?:pooler|itm_score|mlm_score|mim_score|itc_|logit_|vqa_|nlvr2_)/.test(name);
