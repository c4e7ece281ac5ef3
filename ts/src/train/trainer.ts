/**
 * The trainer: contrastive learning, image-text matching with hard negatives, masked language modelling on pairs or on texts alone, masked
 * image modelling on pictures alone, answers to questions, and statements about two pictures.
 *
 * One step runs the programs of its objectives on the same weights. The contrastive one reads texts and pictures apart, and its
 * similarities choose the hard negatives of the fused one behind it. Gradients accumulate, are clipped by their joint norm, and AdamW
 * follows.
 */
import type { VlmoConfig } from '../architecture/config.ts';
import { parameterShapes } from '../architecture/parameters.ts';
import type { TrainingArguments } from '../model/contract.ts';
import { type Objective, parametersWithGradient, type TrainingFunction } from '../model/objectives.ts';
import { kinds, takeOptions } from '../runtime/arguments.ts';
import { Engine, type Program, type Weights } from '../runtime/engine.ts';
import { check, MomeError } from '../runtime/errors.ts';
import type { MaskingVocabulary } from './masking.ts';
import { programsOf } from './objectives/programs.ts';
import type { SamplingOptions, StepContext, StepProgram, StepSetting, TrainingBatch } from './objectives/step.ts';
import { createRandom, type Random, type RandomState } from './random.ts';
import { type DecayRule, learningRateAt, parameterGroups, type Schedule } from './schedule.ts';
import { takeBatch, takeTrainerOptions } from './trainer-arguments.ts';

export type { AnswerTargets, TrainingBatch } from './objectives/step.ts';

export interface TrainerOptions extends SamplingOptions {
  readonly schedule: Schedule;
  readonly betas?: readonly [number, number];
  readonly eps?: number;
  readonly weightDecay?: number;
  /** Largest norm of all gradients together; 0 = no clipping. */
  readonly clipNorm?: number;
  /** Micro-batches per optimiser step: gradients of this many calls of `train` are averaged. */
  readonly accumulate?: number;
  /** Which parameters learn; default all. The others are frozen: nothing is computed for them. */
  readonly trainable?: (parameter: string) => boolean;
  /** Highest value of `logit_scale` and `logit_vl_scale`: ln(100) as in CLIP unless named; Infinity for none, as in the original. */
  readonly maxLogitScale?: number;
  /** Factor of the learning rate of the heads of `vqa` and `nlvr2`; default: 1. */
  readonly headRate?: number;
  /** Which parameters decay; default: `vlmo`. */
  readonly decayRule?: DecayRule;
  readonly seed?: number;
}

/** Report of one step. */
export interface StepMetrics {
  /** Optimiser steps done, this one included. */
  readonly step: number;
  /** Weighted sum of the losses. */
  readonly loss: number;
  readonly losses: Readonly<Record<string, number>>;
  readonly learningRate: number;
  /** Norm of all gradients before clipping; undefined while accumulating. */
  readonly gradientNorm: number | undefined;
  /** Share of pairs whose ITM answer was right; undefined without `itm`. */
  readonly itmAccuracy: number | undefined;
  /** Of `itm` and `nlvr2` the share of right judgements, of `mim` of right tokens, of `vqa` the mean score of the best answers. */
  readonly accuracies: Readonly<Partial<Record<Objective, number>>>;
  /** False when the gradients were not finite and the optimiser step was left out. */
  readonly applied: boolean;
}

/**
 * The state that exact resume needs besides weights and moments: where the trainer stood after its last optimiser step. Gradients that have
 * gathered since are not kept, so going on begins with the first micro-batch after that step.
 */
export interface TrainerState {
  readonly step: number;
  readonly random: RandomState;
}

/** A program of a step, compiled. */
interface Compiled extends StepProgram {
  readonly program: Program<TrainingArguments>;
}

/** Trains the weights of one model on one engine. */
export class Trainer {
  readonly config: VlmoConfig;
  readonly engine: Engine;
  readonly weights: Weights;
  readonly options: TrainerOptions;
  readonly #programs: readonly Compiled[];
  readonly #random: Random;
  #step = 0;
  /** Micro-batches since the last optimiser step, and the generator as that step left it. */
  #microStep = 0;
  #randomAtStep: RandomState;
  /** Parameters that have a gradient since the last optimiser step. */
  #withGradient = new Set<string>();

  private constructor(setting: StepSetting, engine: Engine, weights: Weights, options: TrainerOptions) {
    this.config = setting.config;
    this.engine = engine;
    this.weights = weights;
    this.options = options;
    this.#random = createRandom(options.seed ?? 0, 0x7261696e);
    this.#randomAtStep = this.#random.save();
    this.#programs = programsOf(setting).map((program) => ({
      ...program,
      program: engine.createProgram(weights, program.training.lowered.text),
    }));
  }

  /**
   * Takes over `parameters` (all of `parameterShapes(config)`) and prepares the training programs.
   *
   * @throws MomeError `MOME_INVALID_ARGUMENT` for a combination of options that makes no sense
   */
  static async create(
    config: VlmoConfig,
    parameters: ReadonlyMap<string, Float32Array>,
    vocabulary: MaskingVocabulary,
    given: TrainerOptions,
    engineGiven?: { readonly threads?: number; readonly target?: string },
  ): Promise<Trainer> {
    const { options, engineOptions } = takeTrainerOptions(config, parameters, given, engineGiven);
    const engine = new Engine(engineOptions);
    try {
      const weights = engine.createWeights();
      for (const [name, shape] of parameterShapes(config)) {
        const values = parameters.get(name);
        check(values !== undefined, 'MOME_NOT_FOUND', `trainer: expected parameter ${name}, got none`);
        await weights.add(name, shape, values);
      }
      await weights.enableTraining();
      const setting = { config, vocabulary, options, trainable: options.trainable };
      return new Trainer(setting, engine, weights, options);
    } catch (error) {
      engine.dispose();
      throw error;
    }
  }

  /** Optimiser steps done. */
  get step(): number {
    return this.#step;
  }

  get state(): TrainerState {
    return { step: this.#step, random: this.#randomAtStep };
  }

  /** Goes on from a saved state; weights and moments are written apart. */
  restore(state: TrainerState): void {
    this.#random.restore(state.random);
    this.#randomAtStep = state.random;
    this.#step = state.step;
    this.#microStep = 0;
  }

  /**
   * Runs forward and backward on a batch and, when enough gradients have gathered, one optimiser step.
   *
   * A call that is aborted leaves the trainer where its last optimiser step did: with `accumulate`, all micro-batches since then are
   * to be given again, and training goes on as if nothing had happened.
   *
   * @throws MomeError `MOME_INVALID_ARGUMENT`; `MOME_INVALID_SHAPE` for pixels or groups that do not fit the texts; `MOME_ABORTED`
   */
  async train(batch: TrainingBatch, signal?: AbortSignal): Promise<StepMetrics> {
    takeOptions('trainer', { signal }, { signal: kinds.signal });
    const taken = takeBatch(batch, this.config, this.options);
    try {
      return await this.#train(taken, signal);
    } catch (error) {
      // Random numbers were drawn and some gradients added already.
      this.restore(this.state);
      throw error;
    }
  }

  async #train(batch: TrainingBatch, signal?: AbortSignal): Promise<StepMetrics> {
    const { accumulate = 1, schedule, clipNorm = 0 } = this.options;
    if (this.#microStep === 0) {
      await this.weights.zeroGradients();
      this.#withGradient = new Set();
    }
    const losses: Record<string, number> = {};
    const context: StepContext = { batch, random: this.#random, accuracies: {} };
    for (const { program, training, sample, finish } of this.#programs) {
      const args = sample(context);
      const outputs = await program.run(args, signal);
      for (const name of parametersWithGradient(training, args.dims)) this.#withGradient.add(name);
      collect(losses, training, outputs);
      await finish?.(outputs, context, args);
    }
    const { accuracies } = context;
    const itmAccuracy = accuracies.itm;
    const loss = Object.values(losses).reduce((sum, value) => sum + value, 0);
    const learningRate = learningRateAt(schedule, this.#step);
    this.#microStep++;
    if (this.#microStep < accumulate) {
      return {
        step: this.#step,
        loss,
        losses,
        learningRate,
        gradientNorm: undefined,
        itmAccuracy,
        accuracies,
        applied: false,
      };
    }
    const gradientNorm = (await this.weights.gradientNorm()) / accumulate;
    const applied = Number.isFinite(gradientNorm);
    if (applied) {
      const clip = clipNorm > 0 && gradientNorm > clipNorm ? clipNorm / gradientNorm : 1;
      await this.#optimise(learningRate, clip / accumulate);
    }
    this.#step++;
    this.#microStep = 0;
    this.#randomAtStep = this.#random.save();
    return { step: this.#step, loss, losses, learningRate, gradientNorm, itmAccuracy, accuracies, applied };
  }

  /** The weights as they are now, all of `parameterShapes(config)`: what `writeModel` takes. */
  async parameters(): Promise<Map<string, Float32Array>> {
    const values = new Map<string, Float32Array>();
    for (const name of parameterShapes(this.config).keys()) values.set(name, await this.weights.read(name));
    return values;
  }

  /** Frees the engine and the weights. */
  dispose(): void {
    this.engine.dispose();
  }

  async #optimise(learningRate: number, gradientScale: number): Promise<void> {
    const [beta1, beta2] = this.options.betas ?? [0.9, 0.98];
    const highest = this.options.maxLogitScale ?? Math.log(100);
    const scales = ['logit_scale', 'logit_vl_scale'].filter((name) => this.#withGradient.has(name));
    await this.weights.adamw({
      step: this.#step + 1,
      learningRate,
      beta1,
      beta2,
      eps: this.options.eps ?? 1e-8,
      gradientScale,
      groups: parameterGroups(this.#withGradient, this.options.weightDecay ?? 0.01, {
        headRate: this.options.headRate ?? 1,
        rule: this.options.decayRule ?? 'vlmo',
        shapes: parameterShapes(this.config),
      }),
      limits: highest === Number.POSITIVE_INFINITY ? {} : Object.fromEntries(scales.map((name) => [name, highest])),
    });
  }
}

function collect(
  losses: Record<string, number>,
  training: TrainingFunction,
  outputs: Readonly<Record<string, Float32Array>>,
): void {
  for (const { objective, output, weight } of training.losses) {
    const value = outputs[output]?.[0];
    if (value === undefined) throw new MomeError('MOME_INTERNAL', `trainer: expected output ${output}, got none`);
    losses[objective] = (losses[objective] ?? 0) + weight * value;
  }
}
