/**
 * The functions of a model that inference runs, each a graph with named outputs. A count of 0 is allowed everywhere, so one
 * function serves any mix of texts, pictures and pairs.
 */

import type { VlmoConfig } from '../architecture/config.ts';
import { forwardSequence, Graph, gatherRows, type Lowered, lower, perRun } from '../graph/index.ts';
import { type EncoderOptions, encode, encodeKept, finalNorm, keptDims, vlBranch } from './encoder.ts';
import { embedding, itmLogits, mlmLogits, nlvr2Logits, pooled, rowIndex, vqaLogits } from './heads.ts';

/** Per-run dimensions of the heads. */
export const headDims = {
  texts: perRun('texts'),
  imageCount: perRun('imageCount'),
  pairs: perRun('pairs'),
  tokens: perRun('tokens'),
} as const;

/** Builds one function of a model. */
export type ModelFunction = (config: VlmoConfig, options?: Partial<EncoderOptions>) => Graph;

const withDefaults = (options: Partial<EncoderOptions> = {}): EncoderOptions => ({ pixels: 'u8', ...options });

/** Embeddings of texts and pictures apart, in one pass: `text_embed`, `image_embed`. */
export const embed: ModelFunction = (config, options) => {
  const graph = new Graph('embed');
  const { hidden, weights } = encodeKept(graph, config, withDefaults(options));
  const textCls = rowIndex(weights, 'kept_text', headDims.texts);
  const imageCls = rowIndex(weights, 'kept_image', headDims.imageCount);
  graph.output('text_embed', embedding(hidden, textCls, 'itc_text_proj', weights));
  graph.output('image_embed', embedding(hidden, imageCls, 'itc_image_proj', weights));
  return graph;
};

/** Image-text matching logits of pairs: `itm_logits`. */
export const match: ModelFunction = (config, options) => {
  const graph = new Graph('match');
  const { hidden, weights } = encodeKept(graph, config, withDefaults(options));
  const pairCls = rowIndex(weights, 'kept_pair', headDims.pairs);
  graph.output('itm_logits', itmLogits(pooled(hidden, pairCls, weights), weights));
  return graph;
};

/** Embeddings of texts and pictures and matching logits of pairs, all in one pass: `text_embed`, `image_embed`, `itm_logits`. */
export const mixed: ModelFunction = (config, options) => {
  const graph = new Graph('mixed');
  const { hidden, weights } = encodeKept(graph, config, withDefaults(options));
  const textCls = rowIndex(weights, 'kept_text', headDims.texts);
  const imageCls = rowIndex(weights, 'kept_image', headDims.imageCount);
  const pairCls = rowIndex(weights, 'kept_pair', headDims.pairs);
  graph.output('text_embed', embedding(hidden, textCls, 'itc_text_proj', weights));
  graph.output('image_embed', embedding(hidden, imageCls, 'itc_image_proj', weights));
  graph.output('itm_logits', itmLogits(pooled(hidden, pairCls, weights), weights));
  return graph;
};

/** Answer logits of (picture, question) pairs: `vqa_logits`. */
export const answer: ModelFunction = (config, options) => {
  const graph = new Graph('answer');
  const { hidden, weights } = encodeKept(graph, config, withDefaults(options));
  const pairCls = rowIndex(weights, 'kept_pair', headDims.pairs);
  graph.output('vqa_logits', vqaLogits(pooled(hidden, pairCls, weights), weights));
  return graph;
};

/** Truth logits of statements about two pictures: `nlvr2_logits`. Pairs 2 i and 2 i + 1 show the pictures of statement i. */
export const reason: ModelFunction = (config, options) => {
  const graph = new Graph('reason');
  const { hidden, weights } = encodeKept(graph, config, withDefaults(options));
  const pairCls = rowIndex(weights, 'kept_pair', headDims.pairs);
  graph.output('nlvr2_logits', nlvr2Logits(pooled(hidden, pairCls, weights), weights));
  return graph;
};

/** Vocabulary logits of chosen text rows, alone or fused: `mlm_logits`. */
export const fillMask: ModelFunction = (config, options) => {
  const graph = new Graph('fill_mask');
  const { hidden, weights } = encode(graph, config, withDefaults(options));
  graph.output('mlm_logits', mlmLogits(hidden, rowIndex(weights, 'mlm_rows', headDims.tokens), weights));
  return graph;
};

const dualNames = ['hidden', 'text_embed', 'image_embed', 'text_embed_vl', 'image_embed_vl'] as const;
const fusionNames = ['hidden', 'pooled', 'itm_logits', 'vqa_logits'] as const;
/** Outputs of {@link dualOutputsOf} and {@link fusionOutputsOf}. */
export type DualOutput = (typeof dualNames)[number];
export type FusionOutput = (typeof fusionNames)[number];

/** What a unimodal batch gives: all hidden rows, both embeddings and those of the VL branch, as far as `wanted` names them. */
export const dualOutputsOf =
  (wanted: readonly DualOutput[]): ModelFunction =>
  (config, options) => {
    const graph = new Graph('dual_outputs');
    const encoderOptions = withDefaults(options);
    const encoded = encode(graph, config, encoderOptions);
    const { hidden, weights } = encoded;
    const has = (name: DualOutput) => wanted.includes(name);
    const textCls = rowIndex(weights, 'text_cls', headDims.texts);
    const imageCls = rowIndex(weights, 'image_cls', headDims.imageCount);
    if (has('hidden')) graph.output('hidden', finalNorm(hidden, weights));
    if (has('text_embed')) graph.output('text_embed', embedding(hidden, textCls, 'itc_text_proj', weights));
    if (has('image_embed')) graph.output('image_embed', embedding(hidden, imageCls, 'itc_image_proj', weights));
    if (!has('text_embed_vl') && !has('image_embed_vl')) return graph;
    const keep = graph.input('kept', 'i32', [keptDims.kept]);
    const branch = vlBranch({ ...encoded, hidden: gatherRows(hidden, keep) }, encoderOptions);
    const keptText = rowIndex(weights, 'kept_text', headDims.texts);
    const keptImage = rowIndex(weights, 'kept_image', headDims.imageCount);
    if (has('text_embed_vl')) graph.output('text_embed_vl', embedding(branch, keptText, 'itc_vl_text_proj', weights));
    if (has('image_embed_vl'))
      graph.output('image_embed_vl', embedding(branch, keptImage, 'itc_vl_image_proj', weights));
    return graph;
  };

/** What a fused batch gives but the NLVR2 and MLM heads: all hidden rows, pooled rows, ITM and VQA logits, as far as `wanted` names them. */
export const fusionOutputsOf =
  (wanted: readonly FusionOutput[]): ModelFunction =>
  (config, options) => {
    const graph = new Graph('fusion_outputs');
    const { hidden, weights } = encode(graph, config, withDefaults(options));
    if (wanted.includes('hidden')) graph.output('hidden', finalNorm(hidden, weights));
    if (wanted.every((name) => name === 'hidden')) return graph;
    const pairs = pooled(hidden, rowIndex(weights, 'pair_cls', headDims.pairs), weights);
    if (wanted.includes('pooled')) graph.output('pooled', pairs);
    if (wanted.includes('itm_logits')) graph.output('itm_logits', itmLogits(pairs, weights));
    if (wanted.includes('vqa_logits')) graph.output('vqa_logits', vqaLogits(pairs, weights));
    return graph;
  };

/** Everything a unimodal batch gives. */
export const dualOutputs = dualOutputsOf(dualNames);
/** Everything a fused batch gives but the NLVR2 and MLM heads. */
export const fusionOutputs = fusionOutputsOf(fusionNames);

/** Lowers a function for inference. */
export function lowerFunction(build: ModelFunction, config: VlmoConfig, options?: Partial<EncoderOptions>): Lowered {
  const graph = build(config, options);
  return lower(graph, forwardSequence(graph));
}
