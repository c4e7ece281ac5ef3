/**
 * `mome train`: runs as a user starts them, from a recipe or from a chain of stages in which each run starts from the weights of the one
 * before it.
 */
import { dirname, join, resolve } from 'node:path';
import { check } from '../runtime/errors.ts';
import { exists, makeFolder } from '../runtime/files.ts';
import { type ProcessGroup, singleProcess } from './process-group.ts';
import { isChain, parseChain, parseRecipe, type Recipe, readRecipeJson, type Stage } from './recipe.ts';
import { writeReport } from './report.ts';
import { requireData, textsOfData } from './run-data.ts';
import type { Scores } from './run-evaluation.ts';
import { hasRun, requireFreshFolder } from './run-identity.ts';
import { lockRun } from './run-lock.ts';
import { type FinishedRun, metricsName, runRecipe } from './run-setup.ts';
import { learnVocabulary, vocabularyName } from './run-vocabulary.ts';
import type { StartPlan } from './start-plan.ts';

export interface RunOptions {
  /** Folder for checkpoints, metrics, report and model. A chain has a folder in it for each stage. */
  readonly output: string;
  /** Paths of a recipe that is given as a value are relative to this folder; default: the current one. */
  readonly folder?: string;
  /** Go on from the folder's last checkpoint when there is one. Another recipe, vocabulary or data set is refused. */
  readonly resume?: boolean;
  /** Start a new run in the folder of an older one, whose checkpoints are removed. */
  readonly overwrite?: boolean;
  readonly signal?: AbortSignal;
  /** Processes that train the same model, each called with the same arguments; default: this one alone. Process 0 writes all files. */
  readonly processGroup?: ProcessGroup;
  readonly quiet?: boolean;
  /** Overrides the recipe's choice. */
  readonly checkpointActivations?: boolean;
  /** Called before the first step of a run, or of each stage of a chain. */
  readonly onStart?: (plan: StartPlan, stage: string | undefined) => void;
  /** Measures the model in place of the recipe's `evaluation`, when that is due, with the current weights written to a model folder. */
  readonly onEvaluate?: (modelFolder: string, step: number) => Promise<Scores>;
}

/** Result of a finished run. */
export interface RunResult {
  /** The model folder: of a chain, that of its last stage. */
  readonly output: string;
  /** Optimiser steps, those of all stages together. */
  readonly steps: number;
  /** Of the steps that this call did. */
  readonly samplesPerSecond: number;
  /** Share of the time that steps waited for data. */
  readonly waitedShare: number;
  /** Items that were damaged and left out. */
  readonly skipped: number;
}

/** Name of the report in the folder of a run or a chain. */
const reportName = 'report.html';

/**
 * Runs a recipe, or a chain of them.
 *
 * @param recipe JSON file, in which paths are relative to it, or its contents
 * @throws MomeError `MOME_INVALID_CONFIG`, `MOME_INVALID_FILE`, `MOME_NON_FINITE` after steps without finite gradients, naming the batch,
 *   `MOME_ABORTED` (a checkpoint is written first), `MOME_IO` when another run writes to the same folder, `MOME_INVALID_ARGUMENT` when an
 *   older run's checkpoints lie there (`overwrite`), or when the run to resume was another one
 */
export async function runTraining(recipe: string | object, options: RunOptions): Promise<RunResult> {
  const { resume = false, overwrite = false, output } = options;
  check(!(resume && overwrite), 'MOME_INVALID_ARGUMENT', 'train: expected one of resume and overwrite, got both');
  const isFile = typeof recipe === 'string';
  const json = isFile ? await readRecipeJson(recipe) : recipe;
  const where = isFile ? recipe : 'recipe';
  const folder = isFile ? dirname(resolve(recipe)) : resolve(options.folder ?? '.');
  const parsed = isChain(json) ? parseChain(json, where) : parseRecipe(json, where);
  const { processGroup = singleProcess } = options;
  return withLock(output, options.signal, processGroup, (signal) => {
    const own = { ...options, folder, resume, overwrite, signal, processGroup };
    return Array.isArray(parsed) ? runChain(parsed, own) : runOne(parsed, own);
  });
}

type OwnOptions = RunOptions & {
  readonly folder: string;
  readonly resume: boolean;
  readonly overwrite: boolean;
  readonly signal: AbortSignal;
  readonly processGroup: ProcessGroup;
};

/** Keeps other runs out of a folder while `work` goes on. The first process holds the lock for all. */
async function withLock<T>(
  folder: string,
  given: AbortSignal | undefined,
  group: ProcessGroup,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  if (group.rank > 0) return work(given ?? new AbortController().signal);
  await makeFolder(folder);
  const { lost, release } = await lockRun(folder);
  try {
    return await work(given ? AbortSignal.any([given, lost]) : lost);
  } catch (error) {
    throw lost.aborted ? lost.reason : error;
  } finally {
    await release();
  }
}

async function runOne(recipe: Recipe, options: OwnOptions): Promise<RunResult> {
  const { output, onStart } = options;
  const report = () => writeReport(join(output, reportName), [{ title: 'Run', metrics: join(output, metricsName) }]);
  return resultOf(await runRecipe(recipe, { ...options, report, onStart: (plan) => onStart?.(plan, undefined) }));
}

async function runChain(chain: readonly Stage[], options: OwnOptions): Promise<RunResult> {
  const { output, signal, onStart } = options;
  // Stages name each other's files, and paths in recipes are relative to another folder.
  const folders = chain.map(({ name }) => resolve(output, name));
  const report = () =>
    writeReport(
      join(output, reportName),
      chain.map(({ name }, stage) => ({ title: name, metrics: join(folders[stage]!, metricsName) })),
    );
  // All before anything is written or removed, and before the first of the steps that a later mistake would make useless.
  for (const { recipe } of chain) await requireData(recipe, options.folder);
  if (!options.resume && options.processGroup.rank === 0)
    for (const folder of folders) if (await exists(folder)) await requireFreshFolder(folder, options.overwrite);
  const vocabulary = await chainVocabulary(chain, options);
  let done: FinishedRun | undefined;
  for (const [index, { name, recipe }] of chain.entries()) {
    const stageRecipe: Recipe = {
      ...recipe,
      ...(typeof recipe.vocabulary === 'object' && { vocabulary }),
      ...(index > 0 && { init: folders[index - 1]! }),
    };
    const run = await withLock(folders[index]!, signal, options.processGroup, (locked) => {
      const learned = typeof recipe.vocabulary === 'object' && { learnedVocabulary: recipe.vocabulary };
      const own = { ...options, ...learned, output: folders[index]!, signal: locked, report };
      return runRecipe(stageRecipe, { ...own, onStart: (plan) => onStart?.(plan, name) });
    });
    done = done ? together(done, run) : run;
  }
  return resultOf(done!);
}

/**
 * The vocabulary of the stages that are to learn one: a single one of all their texts, since its size is that of parameters that go from
 * stage to stage.
 */
async function chainVocabulary(chain: readonly Stage[], options: OwnOptions): Promise<string | undefined> {
  const learning = chain.filter(({ recipe }) => typeof recipe.vocabulary === 'object');
  const wanted = learning[0]?.recipe.vocabulary;
  if (typeof wanted !== 'object') return undefined;
  const file = resolve(options.output, vocabularyName);
  const { processGroup, resume, folder, signal } = options;
  // One that was left before the first stage began may be that of another chain.
  const goesOn = resume && (await hasRun(resolve(options.output, chain[0]!.name))) && (await exists(file));
  if (processGroup.rank === 0 && !goesOn) await learnVocabulary(file, wanted, textsOfStages(learning, folder), signal);
  await processGroup.barrier();
  return file;
}

async function* textsOfStages(stages: readonly Stage[], folder: string): AsyncGenerator<string, void> {
  for (const { recipe } of stages) yield* textsOfData(recipe, folder);
}

function together(before: FinishedRun, run: FinishedRun): FinishedRun {
  return {
    output: run.output,
    steps: before.steps + run.steps,
    samples: before.samples + run.samples,
    seconds: before.seconds + run.seconds,
    waited: before.waited + run.waited,
    skipped: before.skipped + run.skipped,
  };
}

function resultOf({ output, steps, samples, seconds, waited, skipped }: FinishedRun): RunResult {
  const time = Math.max(1e-9, seconds);
  return { output, steps, samplesPerSecond: samples / time, waitedShare: waited / time, skipped };
}
