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
import { check } from '../runtime/errors.ts';
import type { MaskingVocabulary } from './masking.ts';
import { programsOf } from './objectives/programs.ts';
import type { SamplingOptions, StepContext, StepProgram, StepSetting, TrainingBatch } from './objectives/step.ts';
import { type ProcessGroup, singleProcess } from './process-group.ts';
import { createRandom, type Random, type RandomState } from './random.ts';
import { type DecayRule, learningRateAt, parameterGroups, type Schedule } from './schedule.ts';
import { takeBatch, takeTrainerOptions } from './trainer-arguments.ts';
import { WholeBatch } from './whole-batch.ts';

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
  /**
   * Texts that one run reads at most: a batch is worked through in parts of this size, with the losses and gradients of the undivided
   * batch (the contrastive loss compares all its pairs, hard negatives come from all of it). Less memory, for one more forward pass of
   * the contrastive loss. Default: undivided.
   */
  readonly microBatch?: number;
  /** Processes that train together: each gives `train` its part of the batch. Default: this process alone. */
  readonly processGroup?: ProcessGroup;
  /** Which parameters learn; default all. The others are frozen: nothing is computed for them. */
  readonly trainable?: (parameter: string) => boolean;
  /** Highest value of `logit_scale` and `logit_vl_scale`: ln(100) as in CLIP unless named; Infinity for none, as in the original. */
  readonly maxLogitScale?: number;
  /** Factor of the learning rate of the heads of `vqa` and `nlvr2`; default: 1. */
  readonly headRate?: number;
  /** Which parameters decay; default: `vlmo`. */
  readonly decayRule?: DecayRule;
  /**
   * Type in which matrix products are made, forward and backward; default: float32. Weights, sums, attention and moments stay float32.
   * bfloat16 needs a kernel set that multiplies it (`avx512_bf16`, `amx`, `neon_bf16`): `MOME_UNSUPPORTED` elsewhere.
   */
  readonly precision?: 'float32' | 'bfloat16';
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

/** Trains the weights of one model on one engine. */
export class Trainer {
  readonly config: VlmoConfig;
  readonly engine: Engine;
  readonly weights: Weights;
  readonly options: TrainerOptions;
  readonly #vocabulary: MaskingVocabulary;
  /** Whether the engine and the weights end with this trainer. */
  readonly #ownsWeights: boolean;
  readonly #steps: readonly StepProgram[];
  /** Every parameter that any program has a gradient of, in the order of the model. */
  readonly #gradients: readonly string[];
  readonly #programs = new Map<TrainingFunction, Program<TrainingArguments>>();
  readonly #random: Random;
  #step = 0;
  /** Micro-batches since the last optimiser step, and the generator as that step left it. */
  #microStep = 0;
  #randomAtStep: RandomState;
  /** Parameters that have a gradient since the last optimiser step. */
  #withGradient = new Set<string>();

  private constructor(
    setting: StepSetting,
    engine: Engine,
    weights: Weights,
    options: TrainerOptions,
    ownsWeights: boolean,
  ) {
    this.config = setting.config;
    this.#vocabulary = setting.vocabulary;
    this.#ownsWeights = ownsWeights;
    this.engine = engine;
    this.weights = weights;
    this.options = options;
    this.#random = createRandom(options.seed ?? 0, 0x7261696e);
    this.#randomAtStep = this.#random.save();
    this.#steps = programsOf(setting);
    for (const { functions } of this.#steps)
      for (const each of functions) this.#programs.set(each, engine.createProgram(weights, each.lowered.text));
    const functions = this.#steps.flatMap((step) => step.functions);
    const learning = new Set(functions.flatMap(({ gradients }) => gradients.map(({ parameter }) => parameter.name)));
    this.#gradients = [...parameterShapes(setting.config).keys()].filter((name) => learning.has(name));
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
      const weights = engine.createWeights(options.precision);
      for (const [name, shape] of parameterShapes(config)) {
        const values = parameters.get(name);
        check(values !== undefined, 'MOME_NOT_FOUND', `trainer: expected parameter ${name}, got none`);
        await weights.add(name, shape, values);
      }
      await weights.enableTraining();
      return new Trainer(settingOf(config, vocabulary, options), engine, weights, options, true);
    } catch (error) {
      engine.dispose();
      throw error;
    }
  }

  /**
   * Another trainer of the same weights for another task, with objectives, data, schedule and random numbers of its own: steps of the two
   * alternate, one at a time, so that one model learns both. Moments are those of the weights; each trainer counts its own steps. It ends
   * with this trainer.
   *
   * @throws MomeError `MOME_INVALID_ARGUMENT` for a combination of options that makes no sense, and for another `precision` than this
   *   trainer's
   */
  beside(given: TrainerOptions): Trainer {
    const { options } = takeTrainerOptions(this.config, new Map(), given, undefined);
    const [own, other] = [this.options.precision ?? 'float32', options.precision ?? 'float32'];
    check(
      own === other,
      'MOME_INVALID_ARGUMENT',
      `trainer: expected precision ${own}, that of the weights, got ${other}`,
    );
    return new Trainer(settingOf(this.config, this.#vocabulary, options), this.engine, this.weights, options, false);
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
    const { losses, accuracies } = await this.#runPrograms(batch, this.#microStep === accumulate - 1, signal);
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

  /** Forward and backward of all programs on all micro-batches; the losses and accuracies of the whole batch. */
  async #runPrograms(batch: TrainingBatch, isLastOfStep: boolean, signal: AbortSignal | undefined): Promise<Results> {
    const { processGroup: group = singleProcess, microBatch } = this.options;
    const pictureBytes = 3 * this.config.imageSize ** 2;
    const whole = await WholeBatch.of(group, batch, pictureBytes, microBatch);
    let overlapped = false;
    const context: StepContext = {
      whole,
      isLastProgram: false,
      random: this.#random,
      group,
      losses: {},
      accuracies: {},
      run: async (training, args, { lastGradients = false, countsOnce = false, ...part } = {}) => {
        const summed = lastGradients ? group.overlap(this.#gradients) : {};
        overlapped ||= lastGradients;
        const outputs = await this.#programs.get(training)!.run(args, signal, { ...part, ...summed });
        const names = parametersWithGradient(training, args.dims);
        for (const name of names) this.#withGradient.add(name);
        if (countsOnce && group.rank > 0) for (const name of names) await this.#clearGradient(name);
        return outputs;
      },
    };
    for (const step of this.#steps) {
      context.isLastProgram = isLastOfStep && step === this.#steps.at(-1);
      await step.run(context);
    }
    if (group.size === 1) return context;
    if (isLastOfStep) {
      // A process that had nothing to run in the last program has not begun yet.
      const program = this.#programs.get(this.#steps.at(-1)!.functions[0]!)!;
      await group.reduceGradients(this.#gradients, program, overlapped);
    }
    return this.#together(group, context);
  }

  /** Sums the losses and accuracies of all processes, and joins their parameters that have a gradient. */
  async #together(group: ProcessGroup, { losses, accuracies }: StepContext): Promise<Results> {
    const own: Report = { losses, accuracies, withGradient: [...this.#withGradient] };
    // (JSON knows no NaN.)
    const text = JSON.stringify(own, (_, value) => (typeof value === 'number' ? { number: String(value) } : value));
    const reports = (await group.allGather(Buffer.from(text))).map(
      (bytes) =>
        JSON.parse(Buffer.from(bytes).toString(), (_, value) =>
          value?.number ? Number(value.number) : value,
        ) as Report,
    );
    for (const { withGradient } of reports) for (const name of withGradient) this.#withGradient.add(name);
    return {
      losses: sumOf(reports.map((report) => report.losses)),
      accuracies: sumOf(reports.map((report) => report.accuracies)),
    };
  }

  async #clearGradient(name: string): Promise<void> {
    const shape = parameterShapes(this.config).get(name)!;
    const count = shape.reduce((product, size) => product * size, 1);
    await this.weights.writeState(name, 'gradient', new Float32Array(count));
  }

  /** The weights as they are now, all of `parameterShapes(config)`: what `writeModel` takes. */
  async parameters(): Promise<Map<string, Float32Array>> {
    const values = new Map<string, Float32Array>();
    for (const name of parameterShapes(this.config).keys()) values.set(name, await this.weights.read(name));
    return values;
  }

  /** Frees the engine and the weights; one of {@link beside} leaves them to the trainer that it stands beside. */
  dispose(): void {
    if (this.#ownsWeights) this.engine.dispose();
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

function settingOf(config: VlmoConfig, vocabulary: MaskingVocabulary, options: TrainerOptions): StepSetting {
  const divided = options.microBatch !== undefined || (options.processGroup?.size ?? 1) > 1;
  return { config, vocabulary, options, trainable: options.trainable, divided };
}

type Results = Pick<StepContext, 'losses' | 'accuracies'>;
/** What a process tells the others after the programs of a step. */
type Report = Results & { readonly withGradient: readonly string[] };

/** Sums numbers of the same name, in the order of the processes: all get the same bits. */
function sumOf(parts: readonly Results['losses'][]): Results['losses'] {
  const sums: Results['losses'] = {};
  for (const part of parts)
    for (const [name, value] of Object.entries(part) as [Objective, number][]) sums[name] = (sums[name] ?? 0) + value;
  return sums;
}
