/** The phases of a run: steps, metrics, checkpoints, evaluations and the model folder, from where an older checkpoint left off. */
import { join } from 'node:path';
import type { VlmoConfig } from '../architecture/config.ts';
import { writeModel } from '../checkpoint/index.ts';
import { check, MomeError } from '../runtime/errors.ts';
import type { TextFile } from '../runtime/input-file.ts';
import type { Tokenizer } from '../text/tokenizer.ts';
import type { BatchLoader, LoadedBatch } from './data/loader.ts';
import type { BatchPosition } from './data/pairs.ts';
import type { MaskingVocabulary } from './masking.ts';
import type { MetricsLog, ProgressLine } from './metrics.ts';
import { MovingAverage } from './moving-average.ts';
import { parameterFilter } from './parameter-filter.ts';
import type { PatchTokenizer } from './patch-tokenizer.ts';
import type { ProcessGroup } from './process-group.ts';
import type { Phase, Recipe } from './recipe.ts';
import { checkpointName, keepNewest, listCheckpoints, type RunCheckpoint } from './run-checkpoints.ts';
import type { Scores } from './run-evaluation.ts';
import { loadAverage, loadRun, saveRun } from './state.ts';
import { type StepMetrics, Trainer, type TrainerOptions, type TrainingBatch } from './trainer.ts';

/** The parts of a run. */
export interface RunParts {
  readonly recipe: Recipe;
  readonly config: VlmoConfig;
  readonly tokenizer: Tokenizer | undefined;
  /** Gives visual tokens where the data have none. */
  readonly patchTokenizer: PatchTokenizer | undefined;
  /** The first of its processes writes all files. */
  readonly processGroup: ProcessGroup;
  /** Optimiser steps of each phase. */
  readonly phaseSteps: readonly number[];
  readonly openLoader: (phase: Phase, from: BatchPosition) => BatchLoader;
  readonly log: MetricsLog;
  readonly progress: ProgressLine;
  readonly output: string;
  readonly resume: boolean;
  readonly checkpointActivations: boolean;
  readonly signal: AbortSignal;
  readonly vocabularyFiles: readonly TextFile[];
  readonly answers: readonly string[] | undefined;
  /** Parameters that the model folder does without. */
  readonly omit: (parameter: string) => boolean;
  /** Measures the model folder that it gets. */
  readonly evaluate: ((modelFolder: string, step: number) => Promise<Scores>) | undefined;
  /** Called now and then, after the metrics of a step were written. */
  readonly report: () => Promise<void>;
}

/** Folder, inside the run's, of the model that was best in an evaluation. */
const bestFolder = 'best';
/** Milliseconds between two reports. */
const reportEvery = 30_000;

/** A vocabulary for models that learn from pictures alone. */
const noWords: MaskingVocabulary = {
  vocabularySize: 1,
  maskId: 0,
  isSpecial: () => true,
  isContinuation: () => false,
};

/** The options of a phase's trainer. */
export function trainerOptionsOf(recipe: Recipe, phase: Phase, steps: number): TrainerOptions {
  return {
    objectives: phase.objectives,
    ...(phase.lossWeights && { lossWeights: phase.lossWeights }),
    schedule: {
      learningRate: phase.learningRate,
      totalSteps: steps,
      warmupSteps: phase.warmupSteps,
      decay: phase.decay,
      ...(phase.decayPower !== undefined && { decayPower: phase.decayPower }),
      ...(phase.endLearningRate !== undefined && { endLearningRate: phase.endLearningRate }),
    },
    betas: recipe.betas,
    eps: recipe.eps,
    weightDecay: recipe.weightDecay,
    decayRule: recipe.decayRule,
    clipNorm: recipe.clipNorm,
    accumulate: recipe.accumulate,
    ...(recipe.microBatch !== undefined && { microBatch: recipe.microBatch }),
    headRate: recipe.headRate,
    groups: recipe.groups,
    vlBranch: phase.vlBranch,
    ...(phase.fusedPairs !== undefined && { fusedPairs: phase.fusedPairs }),
    negativeSharpness: phase.negativeSharpness,
    ...(phase.trainable !== undefined && { trainable: parameterFilter(phase.trainable) }),
    maskProbability: recipe.maskProbability,
    masking: recipe.masking,
    ...(recipe.maskedPatchShare !== undefined && { maskedPatchShare: recipe.maskedPatchShare }),
    textDropout: recipe.textDropout,
    dropPath: recipe.dropPath,
    dropExpertsApart: recipe.dropExpertsApart,
    maxLogitScale: recipe.maxLogitScale ?? Number.POSITIVE_INFINITY,
    checkpointActivations: recipe.checkpointActivations,
    ...(recipe.precision !== undefined && { precision: recipe.precision }),
    seed: recipe.seed,
  };
}

export class Run {
  readonly #parts: RunParts;
  #position: BatchPosition = { epoch: 0, step: 0 };
  /** Optimiser steps of all phases. */
  #done = 0;
  #samples = 0;
  #seconds = 0;
  #waited = 0;
  #skipped = 0;
  #failures = 0;
  #average: MovingAverage | undefined;
  #best = Number.NEGATIVE_INFINITY;
  #reported = 0;
  /** Whether the run stopped after its last checkpoint, before an evaluation that may have been due. */
  #owesEvaluation = false;

  constructor(parts: RunParts) {
    this.#parts = parts;
  }

  /** Samples, seconds of their steps, seconds of these that waited for data, and damaged items that were left out. */
  get statistics(): Record<'samples' | 'seconds' | 'waited' | 'skipped', number> {
    return { samples: this.#samples, seconds: this.#seconds, waited: this.#waited, skipped: this.#skipped };
  }

  /** Whether this process writes the files of the run. */
  get #writes(): boolean {
    return this.#parts.processGroup.rank === 0;
  }

  /** @returns optimiser steps of all phases */
  async all(parameters: ReadonlyMap<string, Float32Array>): Promise<number> {
    const { recipe, phaseSteps, output, resume, log, processGroup } = this.#parts;
    const from = resume ? (await listCheckpoints(output)).at(-1) : undefined;
    check(
      from === undefined || from.phase < recipe.phases.length,
      'MOME_INVALID_FILE',
      `${from?.path}: expected a checkpoint of one of ${recipe.phases.length} phases`,
    );
    if (recipe.movingAverage !== undefined)
      this.#average = new MovingAverage(
        recipe.movingAverage,
        from ? await loadAverage(from.path, this.#parts.config) : parameters,
      );
    for (let phase = 0; phase < (from?.phase ?? 0); phase++) this.#done += phaseSteps[phase]!;
    if (this.#writes) {
      const { best, isEvaluated } = await log.goOnAfter(this.#done + (from?.step ?? 0));
      if (best) this.#best = scoreOf(best.evaluation as Scores);
      this.#owesEvaluation = from !== undefined && from.step > 0 && !isEvaluated;
    }
    let current = parameters;
    for (let index = from?.phase ?? 0; index < recipe.phases.length; index++) {
      const trainer = await this.#trainer(recipe.phases[index]!, phaseSteps[index]!, current);
      try {
        await this.#phase(trainer, index, index === from?.phase ? from : undefined);
        current = await trainer.parameters();
      } finally {
        trainer.dispose();
      }
    }
    if (this.#writes) await this.#writeModel(output, this.#average?.values ?? current);
    // The next stage reads what the first process has written.
    await processGroup.barrier();
    return this.#done;
  }

  #trainer(phase: Phase, steps: number, parameters: ReadonlyMap<string, Float32Array>): Promise<Trainer> {
    const { recipe, config, tokenizer, checkpointActivations, processGroup } = this.#parts;
    const own = processGroup.size > 1 ? { checkpointActivations, processGroup } : { checkpointActivations };
    const options = { ...trainerOptionsOf(recipe, phase, steps), ...own };
    const engine = recipe.threads === undefined ? {} : { threads: recipe.threads };
    return Trainer.create(config, parameters, tokenizer ?? noWords, options, engine);
  }

  async #phase(trainer: Trainer, index: number, from: RunCheckpoint | undefined): Promise<void> {
    const { recipe, phaseSteps, openLoader, signal, processGroup } = this.#parts;
    const [phase, steps] = [recipe.phases[index]!, phaseSteps[index]!];
    if (from) {
      this.#position = await loadRun(from.path, trainer);
      this.#done += trainer.step;
      if (this.#owesEvaluation) await this.#evaluateIfDue(trainer, index);
    }
    if (trainer.step >= steps) return;
    const loader = openLoader(phase, this.#position);
    try {
      while (trainer.step < steps) {
        const started = performance.now();
        const batch = await loader.next(signal);
        const metrics = await trainer.train(await this.#trainingOf(batch, phase), signal);
        const seconds = (performance.now() - started) / 1000;
        this.#samples += batch.origins.length * processGroup.size;
        this.#seconds += seconds;
        if (metrics.gradientNorm !== undefined) await this.#afterStep(trainer, metrics, batch, index, seconds);
      }
    } catch (error) {
      if (error instanceof MomeError && error.code === 'MOME_ABORTED' && this.#writes) await this.#save(trainer, index);
      throw error;
    } finally {
      loader.close();
      this.#waited += loader.statistics.waitedSeconds;
      this.#skipped += loader.statistics.skippedCount;
    }
  }

  /** What a trainer takes of a batch, with the visual tokens of pictures whose patches it masks. */
  async #trainingOf({ training, visualTokens }: LoadedBatch, { objectives }: Phase): Promise<TrainingBatch> {
    const { patchTokenizer, config, signal } = this.#parts;
    if (!objectives.includes('mim')) return training;
    const tokens = visualTokens ?? (await patchTokenizer?.encode(training.bytes!, config.imageSize, signal));
    return tokens ? { ...training, visualTokens: tokens } : training;
  }

  async #afterStep(
    trainer: Trainer,
    metrics: StepMetrics,
    batch: LoadedBatch,
    index: number,
    seconds: number,
  ): Promise<void> {
    const { progress, log, processGroup } = this.#parts;
    // The trainer goes on from its last optimiser step, and so must the data.
    const { epoch } = this.#position;
    this.#position = batch.position;
    await this.#average?.update(trainer, this.#done);
    this.#done++;
    this.#countFailure(metrics, batch);
    if (!this.#writes) return;
    const samplesPerSecond = (batch.origins.length * processGroup.size) / seconds;
    progress.update(this.#done, { ...metrics, samplesPerSecond });
    await log.write({
      phase: index,
      ...metrics,
      step: this.#done,
      epoch,
      samplesPerSecond: Number(samplesPerSecond.toPrecision(4)),
    });
    await this.#milestones(trainer, index);
    if (performance.now() - this.#reported > reportEvery) {
      await this.#parts.report();
      this.#reported = performance.now();
    }
  }

  async #milestones(trainer: Trainer, index: number): Promise<void> {
    if (this.#isDue(this.#parts.recipe.checkpointEvery, trainer, index)) await this.#save(trainer, index);
    await this.#evaluateIfDue(trainer, index);
  }

  #isDue(every: number, { step }: Trainer, index: number): boolean {
    return step === this.#parts.phaseSteps[index] || (every > 0 && step % every === 0);
  }

  async #evaluateIfDue(trainer: Trainer, index: number): Promise<void> {
    const { recipe, evaluate } = this.#parts;
    if (evaluate && this.#isDue(recipe.evaluateEvery, trainer, index)) await this.#evaluate(trainer, evaluate);
  }

  /** Writes the model, measures it, and keeps it apart when it is the best so far. */
  async #evaluate(trainer: Trainer, evaluate: NonNullable<RunParts['evaluate']>): Promise<void> {
    const { output, log } = this.#parts;
    const values = this.#average?.values ?? (await trainer.parameters());
    await this.#writeModel(output, values);
    const scores = await evaluate(output, this.#done);
    const score = scoreOf(scores);
    const isBest = score > this.#best;
    await log.write({ step: this.#done, evaluation: scores, ...(isBest && { best: true }) });
    if (!isBest) return;
    this.#best = score;
    await this.#writeModel(join(output, bestFolder), values);
  }

  async #save(trainer: Trainer, index: number): Promise<void> {
    const { output, recipe } = this.#parts;
    const path = join(output, checkpointName(index, trainer.step));
    await saveRun(path, trainer, this.#position, this.#average?.values);
    await keepNewest(output, recipe.keepCheckpoints);
  }

  /** @throws MomeError `MOME_NON_FINITE` naming the batch, after too many steps without finite gradients */
  #countFailure({ applied, gradientNorm, loss }: StepMetrics, batch: LoadedBatch): void {
    const { maxNonFiniteSteps } = this.#parts.recipe;
    this.#failures = applied ? 0 : this.#failures + 1;
    check(
      this.#failures < maxNonFiniteSteps,
      'MOME_NON_FINITE',
      `train: expected finite gradients, got a norm of ${gradientNorm} and a loss of ${loss} ${this.#failures === 1 ? 'once' : `${this.#failures} times in a row`}; the last batch, of step ${this.#done}, has ${batch.origins.slice(0, 8).join(', ')}`,
    );
  }

  async #writeModel(folder: string, parameters: ReadonlyMap<string, Float32Array>): Promise<void> {
    const { config, recipe, vocabularyFiles, answers, omit } = this.#parts;
    const options = { dtype: recipe.dtype, vocabularyFiles, omit, ...(answers && { answers }) };
    await writeModel(folder, config, parameters, options);
  }
}

/** The score that the best model has the highest of. */
function scoreOf(scores: Scores): number {
  return Object.values(scores)[0] ?? Number.NEGATIVE_INFINITY;
}
