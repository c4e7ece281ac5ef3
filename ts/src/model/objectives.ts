/**
 * The training objectives, each a graph with a `loss` output (and outputs that mining or logging reads), lowered with its backward.
 */

import type { VlmoConfig } from '../architecture/config.ts';
import {
  contrastive,
  crossEntropy,
  type Dim,
  Graph,
  type InputOf,
  inputOf,
  type Loss,
  type Lowered,
  lower,
  type ParameterGradient,
  parameterGradients,
  softBce,
  trainingSequence,
} from '../graph/index.ts';
import { check } from '../runtime/errors.ts';
import { type ObjectiveInputs, objectiveInputs, type TrainingArguments } from './contract.ts';
import { type EncoderOptions, encodeKept, vlBranch } from './encoder.ts';
import { embedding, itmLogits, mimLogits, mlmLogits, nlvr2Logits, pooled, vqaLogits } from './heads.ts';

export const objectiveNames = ['itc', 'irtr', 'itm', 'mlm', 'textmlm', 'mim', 'vqa', 'nlvr2'] as const;
export type Objective = (typeof objectiveNames)[number];

/** Weight of each loss in the sum that is differentiated, as in the original code. `itc` has half for each of its two branches. */
export const defaultLossWeights: Readonly<Record<Objective, number>> = {
  itc: 1,
  irtr: 1,
  itm: 1,
  mlm: 0.25,
  textmlm: 1,
  mim: 1,
  vqa: 1,
  nlvr2: 1,
};

export interface ObjectiveOptions extends EncoderOptions {
  /** Rows of the same group are joint positives of the contrastive losses: the run gives `group`. */
  readonly groups?: boolean;
  /** Leave out the VL branch of `itc`. */
  readonly vlBranch?: boolean;
  /** Keep only the blocks' inputs for the backward pass and compute the rest again. */
  readonly checkpointActivations?: boolean;
  /** Weights of losses in the sum that is differentiated; default: {@link defaultLossWeights}. */
  readonly lossWeights?: Partial<Readonly<Record<Objective, number>>>;
}

/** A loss of a program: its output name and its weight in the differentiated sum, times the run's `lossScale`. */
export interface ObjectiveLoss {
  readonly objective: Objective;
  readonly output: string;
  readonly weight: number;
}

/** A lowered training function. */
export interface TrainingFunction {
  readonly graph: Graph;
  readonly lowered: Lowered;
  readonly losses: readonly ObjectiveLoss[];
  /** The gradients of parameters that its kernels add to. */
  readonly gradients: readonly ParameterGradient[];
}

/**
 * The parameters that have a gradient after a run of `training`. An expert that no row of the batch went to has none, like a head that no
 * loss reads: the optimiser leaves them as they are.
 *
 * @param dims the sizes of the run
 */
export function parametersWithGradient(training: TrainingFunction, dims: TrainingArguments['dims']): Set<string> {
  const sizes: Readonly<Record<string, number>> = dims;
  const sizeOf = (dim: Dim | 0) => (dim === 0 ? 0 : (dim.size ?? sizes[dim.name] ?? 0));
  const reached = training.gradients.filter(({ rows }) => !rows || sizeOf(rows.end) > sizeOf(rows.begin));
  return new Set(reached.map(({ parameter }) => parameter.name));
}

/**
 * Contrastive training on unimodal sequences: texts and pictures of the same count, in pairs.
 * Outputs `loss.itc` (and `loss.itc_vl`), `similarity`. With `objective` `irtr` only the plain embeddings are compared.
 */
export function contrastiveFunction(
  config: VlmoConfig,
  objective: 'itc' | 'irtr',
  options: ObjectiveOptions,
  trainable?: (parameter: string) => boolean,
): TrainingFunction {
  const builder = new Builder(objective, config, options);
  const { weights, hidden } = builder.encoded;
  const textCls = builder.input('kept_text');
  const imageCls = builder.input('kept_image');
  const group = options.groups ? builder.input('group') : undefined;
  const plain = contrastive(
    embedding(hidden, imageCls, 'itc_image_proj', weights),
    embedding(hidden, textCls, 'itc_text_proj', weights),
    weights.scalar('logit_scale'),
    group,
  );
  weights.graph.output('similarity', plain.similarity);
  if (objective === 'irtr' || options.vlBranch === false) {
    builder.loss(objective, `loss.${objective}`, plain.loss);
  } else {
    const branch = vlBranch(builder.encoded, options);
    const vl = contrastive(
      embedding(branch, imageCls, 'itc_vl_image_proj', weights),
      embedding(branch, textCls, 'itc_vl_text_proj', weights),
      weights.scalar('logit_vl_scale'),
      group,
    );
    builder.loss('itc', 'loss.itc', plain.loss, 0.5);
    builder.loss('itc', 'loss.itc_vl', vl.loss, 0.5);
  }
  return builder.finish(trainable);
}

/**
 * Training on fused sequences: any of `itm`, `mlm`, `vqa`, `nlvr2` in one pass. Each objective reads its own of the kept rows
 * (`keepRows`): `kept_itm`/`itm_labels`, `kept_mlm`/`mlm_labels`, `kept_vqa`/`vqa_targets`, `kept_nlvr2`/`nlvr2_labels` (two rows a
 * statement).
 */
export function fusedFunction(
  config: VlmoConfig,
  objectives: readonly ('itm' | 'mlm' | 'vqa' | 'nlvr2')[],
  options: ObjectiveOptions,
  trainable?: (parameter: string) => boolean,
): TrainingFunction {
  const builder = new Builder(objectives.join('_'), config, options);
  const { weights, hidden } = builder.encoded;
  for (const objective of objectives) {
    switch (objective) {
      case 'itm': {
        const logits = itmLogits(pooled(hidden, builder.input('kept_itm'), weights), weights);
        weights.graph.output('itm_logits', logits);
        builder.loss('itm', 'loss.itm', crossEntropy(logits, builder.input('itm_labels')));
        break;
      }
      case 'mlm':
        builder.maskedLanguage('mlm');
        break;
      case 'vqa': {
        const logits = vqaLogits(pooled(hidden, builder.input('kept_vqa'), weights), weights);
        weights.graph.output('vqa_logits', logits);
        builder.loss('vqa', 'loss.vqa', softBce(logits, builder.input('vqa_targets')));
        break;
      }
      case 'nlvr2': {
        const logits = nlvr2Logits(pooled(hidden, builder.input('kept_nlvr2'), weights), weights);
        weights.graph.output('nlvr2_logits', logits);
        builder.loss('nlvr2', 'loss.nlvr2', crossEntropy(logits, builder.input('nlvr2_labels')));
        break;
      }
      default:
        objective satisfies never;
    }
  }
  return builder.finish(trainable);
}

/** Masked-language training on text alone: `kept_mlm`, `mlm_labels`; output `loss.textmlm`. */
export function textMlmFunction(
  config: VlmoConfig,
  options: ObjectiveOptions,
  trainable?: (parameter: string) => boolean,
): TrainingFunction {
  const builder = new Builder('textmlm', config, options);
  builder.maskedLanguage('textmlm');
  return builder.finish(trainable);
}

/**
 * Masked image modelling on pictures alone, of a configuration with visual tokens: `patch_mask`, `kept_mim`, `mim_labels`; outputs
 * `loss.mim` and `mim_logits`.
 *
 * @throws MomeError `MOME_INVALID_ARGUMENT` for a configuration without visual tokens
 * @see arXiv 2106.08254, section 2.3
 */
export function mimFunction(
  config: VlmoConfig,
  options: ObjectiveOptions,
  trainable?: (parameter: string) => boolean,
): TrainingFunction {
  const { visualTokens } = config;
  check(
    visualTokens !== undefined,
    'MOME_INVALID_ARGUMENT',
    'mim: expected a configuration with visualTokens, whose head predicts them, got one without',
  );
  const builder = new Builder('mim', config, { ...options, maskPatches: true });
  const { hidden, weights } = builder.encoded;
  const logits = mimLogits(hidden, builder.input('kept_mim'), weights, visualTokens);
  weights.graph.output('mim_logits', logits);
  builder.loss('mim', 'loss.mim', crossEntropy(logits, builder.input('mim_labels')));
  return builder.finish(trainable);
}

/** A graph around one encoder pass that collects losses and differentiates their weighted sum. */
class Builder {
  readonly encoded;
  readonly #graph: Graph;
  readonly #options: ObjectiveOptions;
  readonly #losses: (ObjectiveLoss & { readonly loss: Loss })[] = [];

  constructor(name: string, config: VlmoConfig, options: ObjectiveOptions) {
    this.#options = options;
    this.#graph = new Graph(`train_${name}`);
    this.encoded = encodeKept(this.#graph, config, options);
  }

  input<K extends keyof ObjectiveInputs>(name: K): InputOf<ObjectiveInputs[K]> {
    return inputOf(this.#graph, objectiveInputs(this.encoded.weights.dims.answers), name);
  }

  /** @param share of the objective's weight that this loss has */
  loss(objective: Objective, output: string, loss: Loss, share = 1): void {
    const weight = share * (this.#options.lossWeights?.[objective] ?? defaultLossWeights[objective]);
    this.#graph.output(output, loss);
    this.#losses.push({ objective, output, weight, loss });
  }

  maskedLanguage(objective: 'mlm' | 'textmlm'): void {
    const { hidden, weights } = this.encoded;
    const logits = mlmLogits(hidden, this.input('kept_mlm'), weights);
    this.loss(objective, `loss.${objective}`, crossEntropy(logits, this.input('mlm_labels')));
  }

  finish(trainable?: (parameter: string) => boolean): TrainingFunction {
    const { checkpointActivations = false } = this.#options;
    const sequence = trainingSequence(this.#graph, this.#losses, trainable, { checkpointActivations });
    return {
      graph: this.#graph,
      lowered: lower(this.#graph, sequence),
      losses: this.#losses,
      gradients: parameterGradients(sequence),
    };
  }
}
