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
  fixed,
  type Graph,
  type Input,
  layerNorm,
  patchEmbed,
  perRun,
  textEmbed,
} from '../graph/index.ts';
import { block, blockEps, type DropPath, lastBlock } from './block.ts';
import { type BlockWeights, ModelWeights } from './weights.ts';

/** Per-run dimensions of a batch: sizes, and the row offsets where parts end. */
export const batchDims = {
  rows: perRun('rows'),
  /** Rows of all texts = where the image rows begin. */
  textRows: perRun('textRows'),
  imageRows: perRun('imageRows'),
  /** Where the first text begins. */
  textBegin: perRun('textBegin'),
  /** Where the text-only rows end. */
  textOnlyEnd: perRun('textOnlyEnd'),
  /** Where the image rows of fused sequences end. */
  fusedEnd: perRun('fusedEnd'),
  /** Where the rows of the last image end. */
  imageEnd: perRun('imageEnd'),
  sequences: perRun('sequences'),
  /** Image sequences (fused and image-only). */
  images: perRun('images'),
  /** Distinct pictures given as pixels. */
  pictures: perRun('pictures'),
} as const;

/** Per-run dimensions of the rows that are read after the encoder: of texts, then of pairs (their text's), then of images. */
export const keptDims = {
  kept: perRun('kept'),
  /** Where the rows of texts, of pairs and of images end. */
  keptTextEnd: perRun('keptTextEnd'),
  keptFusedEnd: perRun('keptFusedEnd'),
  keptEnd: perRun('keptEnd'),
} as const;

export interface EncoderOptions {
  /** Pixels as `u8` [pictures, S, S, 3], or `f32` [pictures, 3, S, S] already normalised. */
  readonly pixels: 'u8' | 'f32';
  /** Probability of dropping an element of the text embedding, in training. */
  readonly textDropout?: number;
  /** Whether runs give drop-path scales. */
  readonly dropPath?: boolean;
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
 * The same where only some rows are read afterwards, the `kept` rows of the run: the last block leaves out what none of them needs.
 * `vlBranch` continues it.
 */
export function encodeKept(graph: Graph, config: VlmoConfig, options: EncoderOptions): Encoded<'kept'> {
  const last = config.layers - 1;
  const { hidden, ...encoded } = encodeUntil(last, graph, config, options);
  const { keptTextEnd, keptFusedEnd, keptEnd } = keptDims;
  const blockWeights = encoded.weights.block(last);
  const fused = last < config.firstVlLayer ? 'text' : 'vl';
  const experts: ExpertRange[] = [
    { begin: 0, end: keptTextEnd, expert: blockWeights.expert('text') },
    { begin: keptTextEnd, end: keptFusedEnd, expert: blockWeights.expert(fused) },
    { begin: keptFusedEnd, end: keptEnd, expert: blockWeights.expert('image') },
  ];
  return { ...encoded, hidden: lastBlockOf(encoded, hidden, experts, options, 'block') };
}

function encodeUntil(layers: number, graph: Graph, config: VlmoConfig, options: EncoderOptions): Encoded {
  const weights = new ModelWeights(graph, config);
  const sequences = graph.input('sequences', 'i32', [batchDims.sequences, fixed('range', 4)]);
  let x = embed(graph, config, weights, options);
  let atFirstVlLayer = x;
  for (let layer = 0; layer < layers; layer++) {
    if (layer === config.firstVlLayer) atFirstVlLayer = x;
    const blockWeights = weights.block(layer);
    const experts = layer < config.firstVlLayer ? expertsBelow(blockWeights) : expertsFrom(blockWeights);
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
    const { textBegin, imageEnd } = batchDims;
    const everything: ExpertRange = { begin: textBegin, end: imageEnd, expert: blockWeights.expert('vl') };
    const dropPath = dropPathInputs(graph, layer, options, batchDims.rows, 'branch');
    const input = x;
    x = graph.segment(() => block(input, sequences, blockWeights, [everything], weights.attentionOptions, dropPath));
  }
  const everything: ExpertRange = { begin: 0, end: keptDims.keptEnd, expert: weights.block(last).expert('vl') };
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
  const keep = graph.input('kept', 'i32', [keptDims.kept]);
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
  const { rows, textRows, imageRows, images, pictures } = batchDims;
  const ids = graph.input('text_ids', 'i32', [textRows]);
  const index = graph.input('text_index', 'i32', [textRows]);
  const picture = graph.input('picture', 'i32', [images]);
  const typeIndex = graph.input('type_index', 'i32', [images]);
  const channels = fixed('channels', 3);
  const height = fixed('imageHeight', config.imageSize);
  const width = fixed('imageWidth', config.imageSize);
  const pixels =
    options.pixels === 'u8'
      ? graph.input('bytes', 'u8', [pictures, height, width, channels])
      : graph.input('pixels', 'f32', [pictures, channels, height, width]);
  const text = textEmbed(ids, index, weights.textEmbedding, options.textDropout ?? 0);
  const image = patchEmbed(pixels, picture, typeIndex, imageRows, weights.patchEmbedding, config);
  return concatRows(text, image, rows);
}

/** Below the first VL layer: text rows read `text`, image rows read `image`. */
function expertsBelow(weights: BlockWeights): readonly ExpertRange[] {
  const { textBegin, textRows, imageEnd } = batchDims;
  return [
    { begin: textBegin, end: textRows, expert: weights.expert('text') },
    { begin: textRows, end: imageEnd, expert: weights.expert('image') },
  ];
}

/** From the first VL layer on: fused rows read `vl`, unimodal rows keep their own expert. */
function expertsFrom(weights: BlockWeights): readonly ExpertRange[] {
  const { textBegin, textOnlyEnd, fusedEnd, imageEnd } = batchDims;
  return [
    { begin: textBegin, end: textOnlyEnd, expert: weights.expert('text') },
    { begin: textOnlyEnd, end: fusedEnd, expert: weights.expert('vl') },
    { begin: fusedEnd, end: imageEnd, expert: weights.expert('image') },
  ];
}

type Stream = 'block' | 'branch';

function dropPathInputs<R extends string>(
  graph: Graph,
  layer: number,
  options: EncoderOptions,
  rows: Dim<R>,
  stream: Stream,
): DropPath<R> | undefined {
  if (!options.dropPath) return undefined;
  const scale = (branch: string): Input<[R], 'f32'> =>
    graph.input(`drop_path.${stream}.${layer}.${branch}`, 'f32', [rows]);
  return { attention: scale('attention'), ffn: scale('ffn') };
}
