/**
 * The trainer: contrastive learning, image-text matching with hard negatives and masked language modelling on image-text pairs.
 *
 * One step runs two programs on the same weights: the contrastive one on texts and pictures apart, whose similarities choose the
 * hard negatives, then the fused one on pairs. Their gradients accumulate, are clipped by their joint norm, and AdamW follows.
 */

import type { VlmoConfig } from '../architecture/config.ts';
import { parameterShapes } from '../architecture/parameters.ts';
import { type BatchInputs, type BatchItems, keepRows, layoutBatch } from '../model/batch.ts';
import {
  contrastiveFunction,
  fusedFunction,
  type ObjectiveOptions,
  type TrainingFunction,
} from '../model/objectives.ts';
import { Engine, type Program, type Weights } from '../runtime/engine.ts';
import { check, MomeError } from '../runtime/errors.ts';
import { dropPathScales } from './drop-path.ts';
import { type MaskingVocabulary, maskWords } from './masking.ts';
import { drawHardNegatives } from './mining.ts';
import { createRandom, type Random, type RandomState } from './random.ts';
import { decays, learningRateAt, type Schedule } from './schedule.ts';

/** Objectives a trainer can combine; `itm` needs `itc`, whose similarities choose its negatives. */
export type PairObjective = 'itc' | 'itm' | 'mlm';

export interface TrainerOptions {
  readonly objectives: readonly PairObjective[];
  readonly schedule: Schedule;
  readonly betas?: readonly [number, number];
  readonly eps?: number;
  readonly weightDecay?: number;
  /** Largest norm of all gradients together; 0 = no clipping. */
  readonly clipNorm?: number;
  /** Micro-batches per optimiser step: gradients of this many calls of `train` are averaged. */
  readonly accumulate?: number;
  /** Joint positives: pairs of the same group match each other. */
  readonly groups?: boolean;
  /** Train the VL branch of the contrastive loss too. */
  readonly vlBranch?: boolean;
  /** How many pairs of a batch the fused objectives read; default all. */
  readonly fusedPairs?: number;
  /** Which parameters learn; default all. The others are frozen: nothing is computed for them. */
  readonly trainable?: (parameter: string) => boolean;
  /** How strongly ITM negatives follow the similarities: 1 as in the paper (default), 0 even. */
  readonly negativeSharpness?: number;
  readonly maskProbability?: number;
  readonly textDropout?: number;
  /** Probability of dropping a residual branch of a sequence, growing linearly with depth up to this. */
  readonly dropPath?: number;
  /** Keep only the blocks' inputs for the backward pass and compute the rest again: the same numbers, less memory. */
  readonly checkpointActivations?: boolean;
  /** Highest value of `logit_scale` and `logit_vl_scale`: ln(100), as in CLIP. */
  readonly maxLogitScale?: number;
  readonly seed?: number;
}

/** A batch of image-text pairs. */
export interface TrainingBatch {
  /** [pairs, S, S, 3] raw pixels. */
  readonly bytes: Uint8Array;
  readonly texts: readonly Int32Array[];
  /** Pairs of the same group are joint positives. */
  readonly groups?: Int32Array;
}

/** What one step reports. */
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
  /** False when the gradients were not finite and the optimiser step was left out. */
  readonly applied: boolean;
}

/**
 * What exact resume needs besides weights and moments: where the trainer stood after its last optimiser step. Gradients that have
 * gathered since are not kept, so going on begins with the first micro-batch after that step.
 */
export interface TrainerState {
  readonly step: number;
  readonly random: RandomState;
}

type Programs = { readonly contrastive: Compiled | undefined; readonly fused: Compiled | undefined };
interface Compiled {
  readonly program: Program;
  readonly training: TrainingFunction;
}

/** Trains the weights of one model on one engine. */
export class Trainer {
  readonly config: VlmoConfig;
  readonly engine: Engine;
  readonly weights: Weights;
  readonly options: TrainerOptions;
  readonly #vocabulary: MaskingVocabulary;
  readonly #programs: Programs;
  readonly #groups: { names: string[]; weightDecay: number; learningRateScale: number }[];
  readonly #random: Random;
  #step = 0;
  /** Micro-batches since the last optimiser step, and the generator as that step left it. */
  #microStep = 0;
  #randomAtStep: RandomState;

  private constructor(
    config: VlmoConfig,
    engine: Engine,
    weights: Weights,
    vocabulary: MaskingVocabulary,
    options: TrainerOptions,
  ) {
    this.config = config;
    this.engine = engine;
    this.weights = weights;
    this.options = options;
    this.#vocabulary = vocabulary;
    this.#random = createRandom(options.seed ?? 0, 0x7261696e);
    this.#randomAtStep = this.#random.save();
    this.#programs = compile(config, engine, weights, options);
    const names = [...parameterShapes(config).keys()].filter(options.trainable ?? (() => true));
    const weightDecay = options.weightDecay ?? 0.01;
    this.#groups = [
      { names: names.filter(decays), weightDecay, learningRateScale: 1 },
      { names: names.filter((name) => !decays(name)), weightDecay: 0, learningRateScale: 1 },
    ];
  }

  /**
   * Takes over `parameters` (all of `parameterShapes(config)`) and prepares the training programs.
   *
   * @throws MomeError `MOME_INVALID_ARGUMENT` for a combination of options that makes no sense
   */
  static create(
    config: VlmoConfig,
    parameters: ReadonlyMap<string, Float32Array>,
    vocabulary: MaskingVocabulary,
    options: TrainerOptions,
    engineOptions: { readonly threads?: number; readonly target?: string } = {},
  ): Trainer {
    check(options.objectives.length > 0, 'MOME_INVALID_ARGUMENT', 'trainer: expected at least one objective, got none');
    check(
      !options.objectives.includes('itm') || options.objectives.includes('itc'),
      'MOME_INVALID_ARGUMENT',
      'trainer: expected "itc" beside "itm", whose hard negatives it chooses, got "itm" alone',
    );
    const engine = new Engine(engineOptions);
    try {
      const weights = engine.createWeights();
      for (const [name, shape] of parameterShapes(config)) {
        const values = parameters.get(name);
        check(values !== undefined, 'MOME_NOT_FOUND', `trainer: expected parameter ${name}, got none`);
        weights.add(name, shape, values);
      }
      weights.enableTraining();
      return new Trainer(config, engine, weights, vocabulary, options);
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
   * @throws MomeError `MOME_INVALID_SHAPE` for pixels or groups that do not fit the texts; `MOME_ABORTED`
   */
  async train(batch: TrainingBatch, signal?: AbortSignal): Promise<StepMetrics> {
    this.#checkBatch(batch);
    try {
      return await this.#train(batch, signal);
    } catch (error) {
      // Random numbers were drawn and some gradients added already.
      this.restore(this.state);
      throw error;
    }
  }

  async #train(batch: TrainingBatch, signal?: AbortSignal): Promise<StepMetrics> {
    const { accumulate = 1, schedule, clipNorm = 0 } = this.options;
    if (this.#microStep === 0) await this.weights.zeroGradients();
    const losses: Record<string, number> = {};
    let itmAccuracy: number | undefined;
    let negatives: ReturnType<typeof drawHardNegatives> | undefined;
    const fusedPairs = Math.min(this.options.fusedPairs ?? batch.texts.length, batch.texts.length);
    if (this.#programs.contrastive) {
      const outputs = await this.#runContrastive(this.#programs.contrastive, batch, signal);
      collect(losses, this.#programs.contrastive.training, outputs);
      if (this.options.objectives.includes('itm')) {
        negatives = drawHardNegatives(
          outputs.similarity!,
          batch.texts.length,
          fusedPairs,
          this.#random,
          this.#groupsOf(batch),
          this.options.negativeSharpness,
        );
      }
    }
    if (this.#programs.fused) {
      const { outputs, labels } = await this.#runFused(this.#programs.fused, batch, fusedPairs, negatives, signal);
      collect(losses, this.#programs.fused.training, outputs);
      if (outputs.itm_logits) itmAccuracy = accuracy(outputs.itm_logits, labels);
    }
    const loss = Object.values(losses).reduce((sum, value) => sum + value, 0);
    const learningRate = learningRateAt(schedule, this.#step);
    this.#microStep++;
    if (this.#microStep < accumulate) {
      return { step: this.#step, loss, losses, learningRate, gradientNorm: undefined, itmAccuracy, applied: false };
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
    return { step: this.#step, loss, losses, learningRate, gradientNorm, itmAccuracy, applied };
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
    await this.weights.adamw({
      step: this.#step + 1,
      learningRate,
      beta1,
      beta2,
      eps: this.options.eps ?? 1e-8,
      gradientScale,
      groups: this.#groups,
    });
    const highest = this.options.maxLogitScale ?? Math.log(100);
    for (const name of ['logit_scale', 'logit_vl_scale']) {
      const [value] = await this.weights.read(name);
      if (value !== undefined && value > highest) await this.weights.write(name, Float32Array.of(highest));
    }
  }

  async #runContrastive({ program }: Compiled, batch: TrainingBatch, signal?: AbortSignal) {
    const pairs = batch.texts.length;
    const items: BatchItems = { texts: batch.texts, images: batch.texts.map((_, picture) => ({ picture })) };
    const layout = layoutBatch(this.config, items, pairs);
    const group = this.#groupsOf(batch);
    const outputs = await program.run(
      {
        dims: { ...layout.dims, pairs },
        inputs: {
          ...layout.inputs,
          bytes: batch.bytes,
          ...(group && { group }),
          ...this.#dropPath(layout, ['block', 'branch']),
        },
        scalars: this.#scalars(),
      },
      signal,
    );
    return outputs;
  }

  async #runFused(
    { program }: Compiled,
    batch: TrainingBatch,
    count: number,
    negatives: ReturnType<typeof drawHardNegatives> | undefined,
    signal?: AbortSignal,
  ) {
    const pairs: { text: Int32Array; picture: number }[] = [];
    const labels: number[] = [];
    if (negatives) {
      for (let i = 0; i < count; i++) pairs.push({ text: batch.texts[i]!, picture: i });
      for (let i = 0; i < count; i++) pairs.push({ text: batch.texts[i]!, picture: negatives.image[i]! });
      for (let i = 0; i < count; i++) pairs.push({ text: batch.texts[negatives.text[i]!]!, picture: i });
      for (let i = 0; i < 3 * count; i++) labels.push(i < count ? 1 : 0);
    }
    const masked = this.options.objectives.includes('mlm')
      ? batch.texts
          .slice(0, count)
          .map((text) => maskWords(text, this.#vocabulary, this.#random, this.options.maskProbability))
      : [];
    const firstMasked = pairs.length;
    for (const [picture, { ids }] of masked.entries()) pairs.push({ text: ids, picture });
    const layout = layoutBatch(this.config, { pairs }, batch.texts.length);
    const itmLabels = Int32Array.from(labels);
    const mlmRows = Int32Array.from(
      masked.flatMap(({ positions }, i) =>
        [...positions].map((position) => layout.pairTextCls[firstMasked + i]! + position),
      ),
    );
    const kept = keepRows({ pairs: { itm: layout.pairTextCls.slice(0, labels.length), mlm: mlmRows } });
    const dims = { ...layout.dims, ...kept.dims, itm_rows: labels.length, mlm_rows: mlmRows.length };
    const inputs = { ...layout.inputs, ...kept.inputs };
    const outputs = await program.run(
      {
        dims,
        inputs: {
          ...inputs,
          bytes: batch.bytes,
          ...(negatives && { itm_labels: itmLabels }),
          ...(this.options.objectives.includes('mlm') && {
            mlm_labels: Int32Array.from(masked.flatMap((text) => [...text.labels])),
          }),
          ...this.#dropPath({ dims, inputs }, ['block']),
        },
        scalars: this.#scalars(),
      },
      signal,
    );
    return { outputs, labels: itmLabels };
  }

  #groupsOf(batch: TrainingBatch): Int32Array | undefined {
    return this.options.groups ? batch.groups : undefined;
  }

  #scalars(): Record<string, number> {
    return (this.options.textDropout ?? 0) > 0 ? { dropoutSeed: this.#random.integer(2 ** 31) } : {};
  }

  #dropPath(batch: BatchInputs, streams: readonly ('block' | 'branch')[]): Record<string, Float32Array> {
    const { dropPath = 0, vlBranch } = this.options;
    if (dropPath === 0) return {};
    const used = streams.filter((stream) => stream === 'block' || vlBranch !== false);
    return dropPathScales(this.config, batch, dropPath, used, this.#random);
  }

  #checkBatch({ bytes, texts, groups }: TrainingBatch): void {
    const pixels = texts.length * 3 * this.config.imageSize ** 2;
    check(texts.length > 0, 'MOME_INVALID_ARGUMENT', 'trainer: expected at least one pair, got none');
    check(
      bytes.length === pixels,
      'MOME_INVALID_SHAPE',
      `trainer: expected ${pixels} pixel bytes for ${texts.length} pairs, got ${bytes.length}`,
    );
    if (this.options.groups) {
      check(
        groups?.length === texts.length,
        'MOME_INVALID_SHAPE',
        `trainer: expected a group for each of ${texts.length} pairs, got ${groups?.length ?? 'none'}`,
      );
    }
  }
}

function compile(config: VlmoConfig, engine: Engine, weights: Weights, options: TrainerOptions): Programs {
  const objectiveOptions: ObjectiveOptions = {
    pixels: 'u8',
    textDropout: options.textDropout ?? 0,
    dropPath: (options.dropPath ?? 0) > 0,
    groups: options.groups ?? false,
    vlBranch: options.vlBranch ?? true,
    checkpointActivations: options.checkpointActivations ?? false,
  };
  const compiled = (training: TrainingFunction): Compiled => ({
    training,
    program: engine.createProgram(weights, training.lowered.text),
  });
  const fused = options.objectives.filter((objective) => objective !== 'itc');
  return {
    contrastive: options.objectives.includes('itc')
      ? compiled(contrastiveFunction(config, 'itc', objectiveOptions, options.trainable))
      : undefined,
    fused: fused.length > 0 ? compiled(fusedFunction(config, fused, objectiveOptions, options.trainable)) : undefined,
  };
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

function accuracy(logits: Float32Array, labels: Int32Array): number {
  let right = 0;
  for (const [i, label] of labels.entries()) if ((logits[2 * i + 1]! > logits[2 * i]! ? 1 : 0) === label) right++;
  return labels.length === 0 ? 0 : right / labels.length;
}
