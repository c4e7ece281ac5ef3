/**
 * The heads on the encoder: embeddings, pooled rows and classifier logits.
 */
import {
  type Activation,
  type Dim,
  fixed,
  gatherRows,
  gelu,
  type Input,
  l2Normalize,
  layerNorm,
  linear,
  reshape,
  tanh,
} from '../graph/index.ts';
import { headDims } from './contract.ts';
import { finalNorm } from './encoder.ts';
import type { ModelWeights } from './weights.ts';

/** Rows of the encoder: all of them, or those that were kept. */
type Hidden = Activation<['rows', 'width']> | Activation<['kept', 'width']>;

/** BERT-style heads normalise with this epsilon, classifiers with PyTorch's default. */
const bertEps = 1e-12;
const classifierEps = 1e-5;

/**
 * Contrastive embedding: CLS row, final norm, `itc_*` projection, L2 normalisation.
 *
 * @param projection `itc_image_proj`, `itc_text_proj`, or their `itc_vl_*` forms for the VL branch
 * @returns count x width, each row of length 1
 */
export function embedding<N extends string>(
  hidden: Hidden,
  cls: Input<[N], 'i32'>,
  projection: 'itc_image_proj' | 'itc_text_proj' | 'itc_vl_image_proj' | 'itc_vl_text_proj',
  weights: ModelWeights,
): Activation<[N, 'width']> {
  const { width } = weights.dims;
  const rows = finalNorm(gatherRows(hidden as Activation<[string, 'width']>, cls), weights);
  return l2Normalize(linear(rows, weights.projection(`${projection}.fc`, width, width)));
}

/** Pooled representation of a fused sequence: final norm of its text CLS row, dense, tanh. */
export function pooled<N extends string>(
  hidden: Hidden,
  cls: Input<[N], 'i32'>,
  weights: ModelWeights,
): Activation<[N, 'width']> {
  const { width } = weights.dims;
  return tanh(
    linear(
      finalNorm(gatherRows(hidden as Activation<[string, 'width']>, cls), weights),
      weights.linear('pooler.dense', width, width),
    ),
  );
}

/** Logits of "does the text describe the picture": [no, yes]. */
export function itmLogits<N extends string>(
  rows: Activation<[N, 'width']>,
  weights: ModelWeights,
): Activation<[N, 'match']> {
  return linear(rows, weights.linear('itm_score.fc', weights.dims.width, fixed('match', 2)));
}

/** Vocabulary logits of chosen text rows: final norm, dense, GELU, LayerNorm, decoder. */
export function mlmLogits<N extends string>(
  hidden: Hidden,
  rows: Input<[N], 'i32'>,
  weights: ModelWeights,
): Activation<[N, 'vocabulary']> {
  const { width, vocabulary } = weights.dims;
  const dense = linear(
    finalNorm(gatherRows(hidden as Activation<[string, 'width']>, rows), weights),
    weights.linear('mlm_score.transform.dense', width, width),
  );
  const transformed = layerNorm(gelu(dense), weights.norm('mlm_score.transform.LayerNorm', width), bertEps);
  return linear(transformed, {
    ...weights.projection('mlm_score.decoder', width, vocabulary),
    bias: weights.graph.parameter('mlm_score.bias', [vocabulary]),
  });
}

/**
 * Logits of the visual tokens of chosen image rows: final norm, one projection.
 *
 * @param visualTokens how many there are, `config.visualTokens`
 * @see arXiv 2106.08254, section 2.3
 */
export function mimLogits<N extends string>(
  hidden: Hidden,
  rows: Input<[N], 'i32'>,
  weights: ModelWeights,
  visualTokens: number,
): Activation<[N, 'visualTokens']> {
  return linear(
    finalNorm(gatherRows(hidden as Activation<[string, 'width']>, rows), weights),
    weights.linear('mim_score.fc', weights.dims.width, fixed('visualTokens', visualTokens)),
  );
}

/** Answer logits of pooled pairs. */
export function vqaLogits<N extends string>(
  rows: Activation<[N, 'width']>,
  weights: ModelWeights,
): Activation<[N, 'answers']> {
  return classifier(rows, 'vqa_classifier', weights, weights.dims.width, weights.dims.answers);
}

/**
 * Logits of "is the statement true of the two pictures": [false, true].
 *
 * @param rows 2 x statements x width: picture 1 then picture 2 of each statement
 */
export function nlvr2Logits(rows: Activation, weights: ModelWeights): Activation<['statements', 'truth']> {
  const { doubleWidth } = weights.dims;
  const joint = reshape(rows, [headDims.statements, doubleWidth]);
  return classifier(joint, 'nlvr2_classifier', weights, doubleWidth, fixed('truth', 2));
}

function classifier<N extends string, I extends string, C extends string>(
  rows: Activation<[N, I]>,
  name: string,
  weights: ModelWeights,
  inputs: Dim<I>,
  classes: Dim<C>,
): Activation<[N, C]> {
  const { doubleWidth } = weights.dims;
  const hidden = layerNorm(
    linear(rows, weights.linear(`${name}.0`, inputs, doubleWidth)),
    weights.norm(`${name}.1`, doubleWidth),
    classifierEps,
  );
  return linear(gelu(hidden), weights.linear(`${name}.3`, doubleWidth, classes));
}
