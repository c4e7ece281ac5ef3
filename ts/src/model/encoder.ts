/**
 * The stack of blocks over a ragged, modality-sorted batch:
 *
 *   [ text of text-only | text of fused | image of fused | image of image-only ]
 *
 * so that every expert's rows are one contiguous range in every layer. Rows that only round sizes up lie before the first text and behind
 * the last image; they belong to no sequence and no expert.
 */

import type { VlmoConfig } from '../architecture/config.ts';
import {
  type Activation,
  concatRows,
  type Dim,
  type ExpertRange,
  type Graph,
  type Input,
  inputOf,
  layerNorm,
  patchEmbed,
  textEmbed,
} from '../graph/index.ts';
import { block, blockEps, type DropPath, lastBlock } from './block.ts';
import {
  batchDims,
  batchInputs,
  dropPathInput,
  keptDims,
  maskInputs,
  pictureInputs,
  type ResidualBranch,
  type Stream,
} from './contract.ts';
import { type BlockWeights, ModelWeights } from './weights.ts';

export interface EncoderOptions {
  /** Pixels as `u8` [pictures, S, S, 3], or `f32` [pictures, 3, S, S] already normalised. */
  readonly pixels: 'u8' | 'f32';
  /** Probability of dropping an element of the text embedding, in training. */
  readonly textDropout?: number;
  /** Whether runs give drop-path scales. */
  readonly dropPath?: boolean;
  /** Whether runs give `patch_mask`, the patches that have the mask token in place of their projection. */
  readonly maskPatches?: boolean;
}

/** Rows that the encoder leaves behind, before the final normalisation: all of them, or those that are kept. */
export interface Encoded<R extends string = 'rows'> {
  readonly weights: ModelWeights;
  readonly hidden: Activation<[R, 'width']>;
  /** The stack's input at the first VL layer, from which the VL branch leaves. */
  readonly atFirstVlLayer: Activation<['rows', 'width']>;
  readonly sequences: Input<['sequences', 'range'], 'i32'>;
}

/** Embeds and encodes a batch; heads read it. */
export function encode(graph: Graph, config: VlmoConfig, options: EncoderOptions): Encoded {
  return encodeUntil(config.layers, graph, config, options);
}

/**
 * The same where only the `kept` rows of the run are read afterwards: the last block skips all work for other rows.
 * `vlBranch` continues it.
 */
export function encodeKept(graph: Graph, config: VlmoConfig, options: EncoderOptions): Encoded<'kept'> {
  const last = config.layers - 1;
  const { hidden, ...encoded } = encodeUntil(last, graph, config, options);
  const { kept_text_end, kept_fused_end, kept_end } = keptDims;
  const blockWeights = encoded.weights.block(last);
  const fused = last < config.firstVlLayer ? 'text' : 'vl';
  const experts: ExpertRange[] = [
    { begin: 0, end: kept_text_end, expert: blockWeights.expert('text') },
    { begin: kept_text_end, end: kept_fused_end, expert: blockWeights.expert(fused) },
    { begin: kept_fused_end, end: kept_end, expert: blockWeights.expert('image') },
  ];
  return { ...encoded, hidden: lastBlockOf(encoded, hidden, routed(config, experts), options, 'block') };
}

function encodeUntil(layers: number, graph: Graph, config: VlmoConfig, options: EncoderOptions): Encoded {
  const weights = new ModelWeights(graph, config);
  const sequences = inputOf(graph, batchInputs, 'sequences');
  let x = embed(graph, config, weights, options);
  let atFirstVlLayer = x;
  for (let layer = 0; layer < layers; layer++) {
    if (layer === config.firstVlLayer) atFirstVlLayer = x;
    const blockWeights = weights.block(layer);
    const apart = layer < config.firstVlLayer ? expertsBelow(blockWeights) : expertsFrom(blockWeights);
    const experts = routed(config, apart);
    const dropPath = dropPathInputs(graph, layer, options, batchDims.rows, 'block');
    const input = x;
    x = graph.segment(() => block(input, sequences, blockWeights, experts, weights.attentionOptions, dropPath));
  }
  if (layers <= config.firstVlLayer) atFirstVlLayer = x;
  return { weights, hidden: x, atFirstVlLayer, sequences };
}

/**
 * The branch of the VL contrastive loss: every unimodal row leaves at the first VL layer and goes through the `vl` experts, the kept
 * ones to the end. The batch must hold no fused sequences.
 */
export function vlBranch(encoded: Encoded<'kept'>, options: EncoderOptions): Activation<['kept', 'width']> {
  const { weights, sequences } = encoded;
  const { config, graph } = weights;
  const last = config.layers - 1;
  if (config.firstVlLayer > last) return encoded.hidden;
  let x = encoded.atFirstVlLayer;
  for (let layer = config.firstVlLayer; layer < last; layer++) {
    const blockWeights = weights.block(layer);
    const { text_begin, image_end } = batchDims;
    const everything: ExpertRange = { begin: text_begin, end: image_end, expert: blockWeights.expert('vl') };
    const dropPath = dropPathInputs(graph, layer, options, batchDims.rows, 'branch');
    const input = x;
    x = graph.segment(() => block(input, sequences, blockWeights, [everything], weights.attentionOptions, dropPath));
  }
  const everything: ExpertRange = { begin: 0, end: keptDims.kept_end, expert: weights.block(last).expert('vl') };
  return lastBlockOf(encoded, x, [everything], options, 'branch');
}

function lastBlockOf(
  { weights, sequences }: Pick<Encoded, 'weights' | 'sequences'>,
  x: Activation<['rows', 'width']>,
  experts: readonly ExpertRange[],
  options: EncoderOptions,
  stream: Stream,
): Activation<['kept', 'width']> {
  const { config, graph, attentionOptions } = weights;
  const last = config.layers - 1;
  const keep = inputOf(graph, batchInputs, 'kept');
  const dropPath = dropPathInputs(graph, last, options, keptDims.kept, stream);
  return graph.segment(() => lastBlock(x, sequences, weights.block(last), keep, experts, attentionOptions, dropPath));
}

/** The final normalisation of any rows. */
export function finalNorm<R extends string>(
  x: Activation<[R, 'width']>,
  weights: ModelWeights,
): Activation<[R, 'width']> {
  return layerNorm(x, weights.finalNorm, blockEps);
}

function embed(
  graph: Graph,
  config: VlmoConfig,
  weights: ModelWeights,
  options: EncoderOptions,
): Activation<['rows', 'width']> {
  const take = <K extends keyof typeof batchInputs>(name: K) => inputOf(graph, batchInputs, name);
  const [ids, index, picture, typeIndex] = [take('text_ids'), take('text_index'), take('picture'), take('type_index')];
  const pictures = pictureInputs(config);
  const pixels = options.pixels === 'u8' ? inputOf(graph, pictures, 'bytes') : inputOf(graph, pictures, 'pixels');
  const text = textEmbed(ids, index, weights.textEmbedding, options.textDropout ?? 0);
  const mask = options.maskPatches && {
    flags: inputOf(graph, maskInputs(weights.dims.patches), 'patch_mask'),
    token: weights.maskToken,
  };
  const image = patchEmbed(
    pixels,
    picture,
    typeIndex,
    batchDims.image_rows,
    weights.patchEmbedding,
    config,
    mask || undefined,
  );
  return concatRows(text, image, batchDims.rows);
}

/** Below the first VL layer: text rows read `text`, image rows read `image`. */
function expertsBelow(weights: BlockWeights): readonly ExpertRange[] {
  const { text_begin, text_rows, image_end } = batchDims;
  return [
    { begin: text_begin, end: text_rows, expert: weights.expert('text') },
    { begin: text_rows, end: image_end, expert: weights.expert('image') },
  ];
}

/** From the first VL layer on: fused rows read `vl`, unimodal rows keep their own expert. */
function expertsFrom(weights: BlockWeights): readonly ExpertRange[] {
  const { text_begin, text_only_end, fused_end, image_end } = batchDims;
  return [
    { begin: text_begin, end: text_only_end, expert: weights.expert('text') },
    { begin: text_only_end, end: fused_end, expert: weights.expert('vl') },
    { begin: fused_end, end: image_end, expert: weights.expert('image') },
  ];
}

/** The ranges of rows by expert; one range where all rows read the same. */
function routed({ sharedFfn }: VlmoConfig, experts: readonly ExpertRange[]): readonly ExpertRange[] {
  const [first, last] = [experts[0]!, experts.at(-1)!];
  return sharedFfn ? [{ begin: first.begin, end: last.end, expert: first.expert }] : experts;
}

function dropPathInputs<R extends string>(
  graph: Graph,
  layer: number,
  options: EncoderOptions,
  rows: Dim<R>,
  stream: Stream,
): DropPath<R> | undefined {
  if (!options.dropPath) return undefined;
  const scale = (branch: ResidualBranch): Input<[R], 'f32'> =>
    graph.input(dropPathInput(stream, layer, branch), 'f32', [rows]);
  return { attention: scale('attention'), ffn: scale('ffn') };
}
