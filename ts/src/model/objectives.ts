/**
 * The training objectives, each a graph with a `loss` output (and outputs that mining or logging reads), lowered with its backward.
 */

import type { VlmoConfig } from '../architecture/config.ts';
import {
  type Activation,
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
  type Seed,
  softBce,
  trainingSequence,
  type Value,
} from '../graph/index.ts';
import { check } from '../runtime/errors.ts';
import {
  countDims,
  embeddingInputs,
  type ObjectiveInputs,
  objectiveInputs,
  type TrainingArguments,
} from './contract.ts';
import { type EncoderOptions, encodeKept, vlBranch } from './encoder.ts';
import { embedding, itmLogits, mimLogits, mlmLogits, nlvr2Logits, pooled, vqaLogits } from './heads.ts';
import { ModelWeights } from './weights.ts';

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
  /** Each run gives the weights of its losses, scalars `weight.<output>`: for a batch that is read in parts. */
  readonly runWeights?: boolean;
}

/** A loss of a program: its output name and its weight in the differentiated sum, times the run's `lossScale`. */
export interface ObjectiveLoss {
  readonly objective: Objective;
  readonly output: `loss.${string}`;
  readonly weight: number;
  /** The dimension that counts the rows of which the loss is the mean. */
  readonly rows: string;
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
  const { graph } = builder.encoded.weights;
  const embeddings = contrastiveEmbeddings(builder, objective, options);
  const losses = contrastiveLosses(new ModelWeights(graph, config), embeddings, objective, options);
  for (const { name, loss, share } of losses) builder.loss(objective, `loss.${name}`, loss, countDims.pairs, share);
  return builder.finish(trainable);
}

/**
 * Contrastive training of a batch that is read in parts, as two programs. `encoder` computes the embeddings of one part, stops before
 * instruction `pause`, and goes back from their gradients, which it is given then: inputs `d_image_embed`, `d_text_embed` (and
 * `..._vl`). `loss` compares the embeddings of the whole batch, inputs `image_embed`, `text_embed` (and `..._vl`), and gives those
 * gradients as outputs. Together they are what {@link contrastiveFunction} is for an undivided batch.
 */
export interface DividedContrastive {
  readonly encoder: TrainingFunction & { readonly pause: number };
  readonly loss: TrainingFunction;
  /** The embeddings that are compared. */
  readonly embeddings: readonly EmbeddingName[];
}
export type EmbeddingName = 'image_embed' | 'text_embed' | 'image_embed_vl' | 'text_embed_vl';

export function dividedContrastive(
  config: VlmoConfig,
  objective: 'itc' | 'irtr',
  options: ObjectiveOptions,
  trainable?: (parameter: string) => boolean,
): DividedContrastive {
  const builder = new Builder(`${objective}_encoder`, config, options);
  const { graph } = builder.encoded.weights;
  const inputs = embeddingInputs(builder.encoded.weights.dims.width);
  const found = contrastiveEmbeddings(builder, objective, options);
  const seeds: Seed[] = [];
  const embeddings: EmbeddingName[] = [];
  for (const [name, value] of Object.entries(found) as [EmbeddingName, Computed][]) {
    graph.output(name, value);
    embeddings.push(name);
    seeds.push({ value, gradient: inputOf(graph, inputs, `d_${name}`) as unknown as Seed['gradient'] });
  }
  const encoder = builder.finish(trainable, seeds);
  const begin = encoder.lowered.instructions.findIndex(({ direction }) => direction === 'backward');

  const lossGraph = new Graph(`train_${objective}_loss`);
  const given = Object.fromEntries(embeddings.map((name) => [name, inputOf(lossGraph, inputs, name)]));
  const collected = contrastiveLosses(new ModelWeights(lossGraph, config), given as Embeddings, objective, options);
  const losses = collected.map(({ name, loss, share }) => {
    const weight = share * (options.lossWeights?.[objective] ?? defaultLossWeights[objective]);
    lossGraph.output(`loss.${name}`, loss);
    return { objective, output: `loss.${name}` as const, weight, rows: countDims.pairs.name, loss };
  });
  const wanted = Object.values(given) as unknown as Seed['gradient'][];
  const sequence = trainingSequence(lossGraph, losses, trainable, { inputs: wanted });
  for (const [name, gradient] of sequence.inputGradients) lossGraph.output(`d_${name}`, gradient);
  return {
    encoder: { ...encoder, pause: begin < 0 ? encoder.lowered.instructions.length : begin },
    loss: { graph: lossGraph, lowered: lower(lossGraph, sequence), losses, gradients: parameterGradients(sequence) },
    embeddings,
  };
}

type Embedding = Value<['pairs', 'width']>;
type Embeddings<E = Embedding> = Readonly<Record<'image_embed' | 'text_embed', E>> &
  Readonly<Partial<Record<EmbeddingName, E>>>;
type Computed = Activation<['pairs', 'width']>;

function contrastiveEmbeddings(
  builder: Builder,
  objective: 'itc' | 'irtr',
  options: ObjectiveOptions,
): Embeddings<Computed> {
  const { weights, hidden } = builder.encoded;
  const textCls = builder.input('kept_text');
  const imageCls = builder.input('kept_image');
  const plain = {
    image_embed: embedding(hidden, imageCls, 'itc_image_proj', weights),
    text_embed: embedding(hidden, textCls, 'itc_text_proj', weights),
  };
  if (objective === 'irtr' || options.vlBranch === false) return plain;
  const branch = vlBranch(builder.encoded, options);
  return {
    ...plain,
    image_embed_vl: embedding(branch, imageCls, 'itc_vl_image_proj', weights),
    text_embed_vl: embedding(branch, textCls, 'itc_vl_text_proj', weights),
  };
}

/** The losses of the embeddings of a whole batch, each with its share of the weight of the objective; output `similarity`. */
function contrastiveLosses(
  weights: ModelWeights,
  { image_embed, text_embed, image_embed_vl, text_embed_vl }: Embeddings,
  objective: 'itc' | 'irtr',
  options: ObjectiveOptions,
): { readonly name: string; readonly loss: Loss; readonly share: number }[] {
  const { graph, dims } = weights;
  const group = options.groups ? inputOf(graph, objectiveInputs(dims.answers), 'group') : undefined;
  const plain = contrastive(image_embed, text_embed, weights.scalar('logit_scale'), group);
  graph.output('similarity', plain.similarity);
  if (!image_embed_vl || !text_embed_vl) return [{ name: objective, loss: plain.loss, share: 1 }];
  const vl = contrastive(image_embed_vl, text_embed_vl, weights.scalar('logit_vl_scale'), group);
  return [
    { name: 'itc', loss: plain.loss, share: 0.5 },
    { name: 'itc_vl', loss: vl.loss, share: 0.5 },
  ];
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
        const labels = builder.input('itm_labels');
        builder.loss('itm', 'loss.itm', crossEntropy(logits, labels), labels.shape[0]);
        break;
      }
      case 'mlm':
        builder.maskedLanguage('mlm');
        break;
      case 'vqa': {
        const logits = vqaLogits(pooled(hidden, builder.input('kept_vqa'), weights), weights);
        weights.graph.output('vqa_logits', logits);
        const targets = builder.input('vqa_targets');
        builder.loss('vqa', 'loss.vqa', softBce(logits, targets), targets.shape[0]);
        break;
      }
      case 'nlvr2': {
        const logits = nlvr2Logits(pooled(hidden, builder.input('kept_nlvr2'), weights), weights);
        weights.graph.output('nlvr2_logits', logits);
        const labels = builder.input('nlvr2_labels');
        builder.loss('nlvr2', 'loss.nlvr2', crossEntropy(logits, labels), labels.shape[0]);
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
  const labels = builder.input('mim_labels');
  builder.loss('mim', 'loss.mim', crossEntropy(logits, labels), labels.shape[0]);
  return builder.finish(trainable);
}

type BuiltLoss = ObjectiveLoss & { readonly loss: Loss };

/** The scalar that weighs a loss in a run, of functions with `runWeights`. */
export const weightScalar = (output: ObjectiveLoss['output']) => `weight.${output}` as const;

/** A graph around one encoder pass that collects losses and differentiates their weighted sum. */
class Builder {
  readonly encoded;
  readonly #graph: Graph;
  readonly #options: ObjectiveOptions;
  readonly #losses: BuiltLoss[] = [];

  constructor(name: string, config: VlmoConfig, options: ObjectiveOptions) {
    this.#options = options;
    this.#graph = new Graph(`train_${name}`);
    this.encoded = encodeKept(this.#graph, config, options);
  }

  input<K extends keyof ObjectiveInputs>(name: K): InputOf<ObjectiveInputs[K]> {
    return inputOf(this.#graph, objectiveInputs(this.encoded.weights.dims.answers), name);
  }

  /**
   * @param rows the dimension that counts the rows of which the loss is the mean
   * @param share of the objective's weight that this loss has
   */
  loss(objective: Objective, output: `loss.${string}`, loss: Loss, rows: Dim, share = 1): void {
    const weight = share * (this.#options.lossWeights?.[objective] ?? defaultLossWeights[objective]);
    this.#graph.output(output, loss);
    this.#losses.push({ objective, output, weight, rows: rows.name, loss });
  }

  maskedLanguage(objective: 'mlm' | 'textmlm'): void {
    const { hidden, weights } = this.encoded;
    const logits = mlmLogits(hidden, this.input('kept_mlm'), weights);
    const labels = this.input('mlm_labels');
    this.loss(objective, `loss.${objective}`, crossEntropy(logits, labels), labels.shape[0]);
  }

  /** @param seeds gradients that the run gives, where differentiation begins beside the losses */
  finish(trainable?: (parameter: string) => boolean, seeds: readonly Seed[] = []): TrainingFunction {
    const { checkpointActivations = false, runWeights = false } = this.#options;
    const losses = this.#losses.map(({ loss, output, weight }) => ({
      loss,
      weight: runWeights ? { scalar: weightScalar(output) } : weight,
    }));
    const sequence = trainingSequence(this.#graph, losses, trainable, { checkpointActivations, seeds });
    return {
      graph: this.#graph,
      lowered: lower(this.#graph, sequence),
      losses: this.#losses,
      gradients: parameterGradients(sequence),
    };
  }
}
