/**
 * `mome train`: a whole run from a recipe, with metrics, checkpoints, exact resume and the finished model folder.
 */
import { writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { VlmoConfig } from '../architecture/config.ts';
import { configToRun, openCheckpoint, openModelFiles, writeModel } from '../checkpoint/index.ts';
import { check, MomeError } from '../runtime/errors.ts';
import { exists, makeFolder, replaceFile } from '../runtime/files.ts';
import { loadTokenizer, type Tokenizer } from '../text/tokenizer.ts';
import { buildVocabulary } from '../text/vocabulary.ts';
import { type Augmenter, type AugmentOptions, augmentDefaults, createAugmenter } from './data/augment.ts';
import { type CaptionOptions, captionDefaults, sampleCaption } from './data/captions.ts';
import { type EmojiPairs, loadEmojiPairs } from './data/emoji.ts';
import { openPairs } from './data/pair-files.ts';
import { type Batch, type BatchPosition, everyCaption, type PairDataset, sampleBatches } from './data/pairs.ts';
import { MetricsLog, ProgressLine } from './metrics.ts';
import { objectiveNeeds } from './objectives/step.ts';
import { createRandom } from './random.ts';
import { type Phase, parameterFilter, type Recipe, readRecipe, recipeConfig } from './recipe.ts';
import { claimFolder, hashOfParameters, identityOf, requireFreshFolder } from './run-identity.ts';
import { lockRun } from './run-lock.ts';
import { startingParameters } from './starting-model.ts';
import { loadRun, saveRun } from './state.ts';
import { Trainer, type TrainingBatch } from './trainer.ts';

export interface RunOptions {
  /** Folder for checkpoints, metrics and the model. */
  readonly output: string;
  /** Go on from the folder's last checkpoint when there is one. Another recipe, vocabulary or data set is refused. */
  readonly resume?: boolean;
  /** Start a new run in the folder of an older one, whose checkpoints are removed. */
  readonly overwrite?: boolean;
  readonly signal?: AbortSignal;
  readonly quiet?: boolean;
  /** Overrides the recipe's choice. */
  readonly checkpointActivations?: boolean;
  /** Called when a step is due for evaluation, with the current weights written to `output`. */
  readonly onEvaluate?: (modelFolder: string, step: number) => Promise<Readonly<Record<string, number>>>;
}

/** Result of a finished run. */
export interface RunResult {
  readonly output: string;
  readonly steps: number;
  readonly samplesPerSecond: number;
}

/**
 * Runs a recipe.
 *
 * @param recipePath JSON file; paths inside are relative to it
 * @throws MomeError `MOME_INVALID_CONFIG`, `MOME_INVALID_FILE`, `MOME_NON_FINITE` after ten steps without finite gradients,
 *   `MOME_ABORTED` (a checkpoint is written first), `MOME_IO` when another run writes to the same folder, `MOME_INVALID_ARGUMENT` when an
 *   older run's checkpoints lie there (`overwrite`), or when the run to resume was another one
 */
export async function runTraining(recipePath: string, options: RunOptions): Promise<RunResult> {
  const recipe = await readRecipe(recipePath);
  await makeFolder(options.output);
  const { lost, release } = await lockRun(options.output);
  try {
    const signal = options.signal ? AbortSignal.any([options.signal, lost]) : lost;
    return await runRecipe(recipe, dirname(resolve(recipePath)), { ...options, signal });
  } catch (error) {
    throw lost.aborted ? lost.reason : error;
  } finally {
    await release();
  }
}

/** @param folder paths in the recipe are relative to it */
async function runRecipe(recipe: Recipe, folder: string, options: RunOptions): Promise<RunResult> {
  const { resume = false, overwrite = false } = options;
  check(!(resume && overwrite), 'MOME_INVALID_ARGUMENT', 'train: expected one of resume and overwrite, got both');
  const dataset = await openDataset(recipe, folder);
  if (!resume) await requireFreshFolder(options.output, overwrite);
  const vocabularyFile = await prepareVocabulary(recipe, folder, options.output, dataset, resume);
  const tokenizerOf = (maxLength: number): Promise<Tokenizer> => loadTokenizer(vocabularyFile, { maxLength });
  const init = recipe.init === undefined ? undefined : await openModelFiles(resolve(folder, recipe.init));
  const checkpoint = init && (await openCheckpoint(init.weightsFile));
  const own = recipeConfig(recipe, (await tokenizerOf(2)).vocabularySize);
  const config = checkpoint ? configToRun(own, checkpoint) : own;
  const tokenizer = await tokenizerOf(config.maxTextLength);
  const parameters = await startingParameters(config, checkpoint, recipe.seed, recipe.initialValues);
  const start = checkpoint ? await hashOfParameters(parameters) : '';
  init?.close();
  await claimFolder(options.output, await identityOf(recipe, dataset, vocabularyFile, start));
  const feeder = new Feeder(recipe, config, dataset, tokenizer);
  const log = new MetricsLog(join(options.output, 'metrics.jsonl'));
  const total = recipe.phases.reduce((sum, phase) => sum + phase.steps, 0);
  const progress = new ProgressLine(total, { quiet: options.quiet ?? false });
  const run = new Run({ recipe, config, tokenizer, feeder, log, progress, options, vocabularyFile });
  try {
    return await run.all(parameters);
  } finally {
    progress.stop();
  }
}

/** The parts of a run. */
interface RunParts {
  readonly recipe: Recipe;
  readonly config: VlmoConfig;
  readonly tokenizer: Tokenizer;
  readonly feeder: Feeder;
  readonly log: MetricsLog;
  readonly progress: ProgressLine;
  readonly options: RunOptions;
  readonly vocabularyFile: string;
}

class Run {
  readonly #parts: RunParts;
  #position: BatchPosition = { epoch: 0, step: 0 };
  #done = 0;
  #samples = 0;
  #seconds = 0;
  #failures = 0;

  constructor(parts: RunParts) {
    this.#parts = parts;
  }

  async all(parameters: ReadonlyMap<string, Float32Array>): Promise<RunResult> {
    let current = parameters;
    for (const [index, phase] of this.#parts.recipe.phases.entries()) {
      const trainer = await this.#trainer(phase, current);
      try {
        await this.#phase(trainer, phase, index);
        current = await trainer.parameters();
      } finally {
        trainer.dispose();
      }
    }
    await this.#writeModel(current);
    return {
      output: this.#parts.options.output,
      steps: this.#done,
      samplesPerSecond: this.#samples / Math.max(1e-9, this.#seconds),
    };
  }

  #trainer(phase: Phase, parameters: ReadonlyMap<string, Float32Array>): Promise<Trainer> {
    const { recipe } = this.#parts;
    return Trainer.create(
      this.#parts.config,
      parameters,
      this.#parts.tokenizer,
      {
        objectives: phase.objectives,
        ...(phase.lossWeights && { lossWeights: phase.lossWeights }),
        schedule: {
          learningRate: phase.learningRate,
          totalSteps: phase.steps,
          warmupSteps: phase.warmupSteps,
          decay: phase.decay,
          ...(phase.decayPower !== undefined && { decayPower: phase.decayPower }),
          ...(phase.endLearningRate !== undefined && { endLearningRate: phase.endLearningRate }),
        },
        betas: recipe.betas,
        eps: recipe.eps,
        weightDecay: recipe.weightDecay,
        clipNorm: recipe.clipNorm,
        accumulate: recipe.accumulate,
        groups: recipe.groups,
        vlBranch: phase.vlBranch,
        ...(phase.fusedPairs !== undefined && { fusedPairs: phase.fusedPairs }),
        negativeSharpness: phase.negativeSharpness,
        ...(phase.trainable !== undefined && { trainable: parameterFilter(phase.trainable) }),
        maskProbability: recipe.maskProbability,
        masking: recipe.masking,
        textDropout: recipe.textDropout,
        dropPath: recipe.dropPath,
        dropExpertsApart: recipe.dropExpertsApart,
        maxLogitScale: recipe.maxLogitScale ?? Number.POSITIVE_INFINITY,
        checkpointActivations: this.#parts.options.checkpointActivations ?? recipe.checkpointActivations,
        seed: recipe.seed,
      },
      recipe.threads === undefined ? {} : { threads: recipe.threads },
    );
  }

  async #phase(trainer: Trainer, phase: Phase, index: number): Promise<void> {
    const checkpoint = join(this.#parts.options.output, `checkpoint-${index}.safetensors`);
    if (this.#parts.options.resume && (await exists(checkpoint))) {
      this.#position = await loadRun(checkpoint, trainer);
      this.#done += trainer.step;
    }
    const batches = sampleBatches(this.#parts.feeder.dataset, {
      batchSize: this.#parts.recipe.batchSize,
      seed: this.#parts.recipe.seed,
      neighbours: this.#parts.recipe.neighbours,
      from: this.#position,
    });
    const shown = phase.objectives.some((objective) => objectiveNeeds[objective].picturesPerText > 0);
    const make = () => this.#parts.feeder.batch(batches.next().value as Batch, shown);
    let next = trainer.step < phase.steps ? await make() : undefined;
    while (trainer.step < phase.steps && next) {
      const started = performance.now();
      const batch = next;
      const running = trainer.train(batch.training, this.#parts.options.signal);
      // The next batch is made while native code runs.
      const upcoming = make();
      const [metrics, following] = await Promise.all([running, upcoming]).catch(async (error: unknown) => {
        await Promise.allSettled([running, upcoming]);
        if (error instanceof MomeError && error.code === 'MOME_ABORTED')
          await saveRun(checkpoint, trainer, this.#position);
        throw error;
      });
      next = following;
      const seconds = (performance.now() - started) / 1000;
      this.#samples += batch.training.texts.length;
      this.#seconds += seconds;
      if (metrics.gradientNorm === undefined) continue;
      // The trainer goes on from its last optimiser step, and so must the data.
      this.#position = batch.position;
      this.#done++;
      this.#countFailure(metrics.applied, metrics.gradientNorm);
      const samplesPerSecond = batch.training.texts.length / seconds;
      this.#parts.progress.update(this.#done, { ...metrics, samplesPerSecond });
      await this.#parts.log.write({
        phase: index,
        ...metrics,
        step: this.#done,
        epoch: batch.position.epoch,
        samplesPerSecond: Math.round(samplesPerSecond),
      });
      await this.#milestones(trainer, phase, checkpoint);
    }
  }

  async #milestones(trainer: Trainer, phase: Phase, checkpoint: string): Promise<void> {
    const last = trainer.step === phase.steps;
    if (last || trainer.step % this.#parts.recipe.checkpointEvery === 0)
      await saveRun(checkpoint, trainer, this.#position);
    const { evaluateEvery } = this.#parts.recipe;
    if (this.#parts.options.onEvaluate && (last || (evaluateEvery > 0 && trainer.step % evaluateEvery === 0))) {
      await this.#writeModel(await trainer.parameters());
      const scores = await this.#parts.options.onEvaluate(this.#parts.options.output, this.#done);
      await this.#parts.log.write({ step: this.#done, evaluation: scores });
    }
  }

  #countFailure(applied: boolean, gradientNorm: number): void {
    this.#failures = applied ? 0 : this.#failures + 1;
    check(
      this.#failures < 10,
      'MOME_NON_FINITE',
      `train: expected finite gradients, got a norm of ${gradientNorm} ten times in a row`,
    );
  }

  async #writeModel(parameters: ReadonlyMap<string, Float32Array>): Promise<void> {
    await writeModel(this.#parts.options.output, this.#parts.config, parameters, {
      dtype: this.#parts.recipe.dtype,
      vocabularyFiles: [this.#parts.vocabularyFile],
    });
  }
}

/** Turns indices into pixels and token ids; the same position of the same recipe always gives the same batch. */
class Feeder {
  readonly #augmenter: Augmenter;
  readonly #captions: CaptionOptions;

  readonly recipe: Recipe;
  readonly config: VlmoConfig;
  readonly dataset: PairDataset | EmojiPairs;
  readonly tokenizer: Tokenizer;

  constructor(recipe: Recipe, config: VlmoConfig, dataset: PairDataset | EmojiPairs, tokenizer: Tokenizer) {
    this.recipe = recipe;
    this.config = config;
    this.dataset = dataset;
    this.tokenizer = tokenizer;
    const augment: Partial<AugmentOptions> = { ...augmentDefaults, ...recipe.augment };
    this.#augmenter = createAugmenter({
      sourceSize: dataset.size,
      size: config.imageSize,
      channels: dataset.channels,
      options: augment,
    });
    this.#captions = { ...captionDefaults, ...recipe.captions };
  }

  /** @param shown whether the step reads pictures */
  async batch(
    batch: Batch,
    shown: boolean,
  ): Promise<{ readonly training: TrainingBatch; readonly position: BatchPosition }> {
    const pixels = shown ? 3 * this.config.imageSize ** 2 : 0;
    const bytes = new Uint8Array(batch.indices.length * pixels);
    const texts: Int32Array[] = [];
    const groups = new Int32Array(batch.indices.length);
    const random = createRandom(this.recipe.seed, batch.epoch, batch.step, 1);
    for (const [i, index] of batch.indices.entries()) {
      if (shown) this.#augmenter.apply(await this.dataset.image(index), random, bytes, i * pixels);
      texts.push(this.tokenizer.encode(this.#caption(index, random)));
      groups[i] = this.dataset.group(index);
    }
    return { training: { bytes, texts, groups }, position: batch.next };
  }

  #caption(index: number, random: ReturnType<typeof createRandom>): string {
    if ('entry' in this.dataset) return sampleCaption(this.dataset.entry(index), random, this.#captions);
    return random.pick(this.dataset.captions(index));
  }
}

async function openDataset(recipe: Recipe, folder: string): Promise<PairDataset | EmojiPairs> {
  const modelSize = typeof recipe.model === 'string' ? 224 : Number(recipe.model.imageSize);
  const size = recipe.sourceSize ?? Math.round(1.5 * modelSize);
  if ('emoji' in recipe.data)
    return loadEmojiPairs({ styles: recipe.data.emoji, size, cacheDir: resolve(folder, '.cache') });
  const { pairs: file, images, splits } = recipe.data;
  const pairs = await openPairs(resolve(folder, file), {
    size,
    ...(images !== undefined && { images: resolve(folder, images) }),
    ...(splits && { splits }),
  });
  return recipe.captionItems === 'each' ? everyCaption(pairs) : pairs;
}

/** The file of word pieces the run uses, in the output folder. */
async function prepareVocabulary(
  recipe: Recipe,
  folder: string,
  output: string,
  dataset: PairDataset,
  resume: boolean,
): Promise<string> {
  if (typeof recipe.vocabulary === 'string') return resolve(folder, recipe.vocabulary);
  const file = join(output, 'vocab.txt');
  if (resume && (await exists(file))) return file;
  const captions = function* () {
    for (let index = 0; index < dataset.length; index++) yield* dataset.captions(index);
  };
  const text = `${buildVocabulary(captions(), recipe.vocabulary).join('\n')}\n`;
  await replaceFile(file, (temporary) => writeFile(temporary, text));
  return file;
}
