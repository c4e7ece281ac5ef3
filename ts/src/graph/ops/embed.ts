/**
 * text_embed and patch_embed: word pieces and pictures to token rows.
 */
import type { Activation, Dim, Input, Parameter } from '../value.ts';
import type { Norm } from './layer-norm.ts';
import type { Linear } from './linear.ts';
import {
  type Attribute,
  type Binding,
  type Cost,
  elementsOf,
  expectSame,
  type GradientContext,
  type NodeOf,
  sizeOf,
} from './node.ts';

export type TextEmbedNode = NodeOf<
  'text_embed',
  {
    readonly ids: Input;
    readonly index: Input;
    readonly word: Parameter;
    readonly segment: Parameter;
    readonly position: Parameter | undefined;
    readonly gamma: Parameter;
    readonly beta: Parameter;
    readonly type: Parameter;
  },
  { readonly out: Activation },
  { readonly eps: number; readonly dropout: number; readonly seed: Attribute }
>;

/** Weights of the text embedding. */
export interface TextEmbedding {
  /** [vocabulary, width] */
  readonly word: Parameter<['vocabulary', 'width']>;
  /** BERT's own type table; row 0 is used. */
  readonly segment: Parameter<['segments', 'width']>;
  /** [positions, width] with absolute positions, else undefined. */
  readonly position: Parameter<['textPositions', 'width']> | undefined;
  readonly norm: Norm<'width'>;
  /** VLMo's type table; row 0 is added to text rows. */
  readonly type: Parameter<['types', 'width']>;
}

/**
 * Text rows: word + segment (+ position), LayerNorm (eps 1e-12), dropout, + token type.
 *
 * @param ids word piece of each text row
 * @param index place of each row's token in its text, CLS = 0
 * @param dropout probability of dropping an element; above 0 the run gives the scalar `dropoutSeed`
 * @returns text rows x width
 * @see the original code's BertEmbeddings and token_type_embeddings
 */
export function textEmbed<R extends string>(
  ids: Input<[R], 'i32'>,
  index: Input<[R], 'i32'>,
  weights: TextEmbedding,
  dropout = 0,
): Activation<[R, 'width']> {
  const out = ids.graph.activation<[R, 'width']>([ids.shape[0], weights.word.shape[1]]);
  ids.graph.push<'text_embed'>({
    op: 'text_embed',
    operands: {
      ids: ids as unknown as Input,
      index: index as unknown as Input,
      word: weights.word as unknown as Parameter,
      segment: weights.segment as unknown as Parameter,
      position: weights.position as unknown as Parameter | undefined,
      gamma: weights.norm.gamma as unknown as Parameter,
      beta: weights.norm.beta as unknown as Parameter,
      type: weights.type as unknown as Parameter,
    },
    results: { out },
    attributes: { eps: 1e-12, dropout, seed: dropout > 0 ? { scalar: 'dropoutSeed' } : 0 },
  });
  return out;
}

export function textEmbedGradient(node: TextEmbedNode, context: GradientContext): void {
  const { ids, index, word, segment, position, gamma, beta, type } = node.operands;
  const dout = context.gradient(node.results.out);
  if (dout === undefined) return;
  const rows = { begin: 0, end: dout.shape[0]! } as const;
  context.emit({
    op: 'text_embed',
    operands: {
      ids,
      index,
      word,
      segment,
      position,
      gamma,
      dout,
      dword: context.parameterGradient(word, rows),
      dsegment: context.parameterGradient(segment, rows),
      dposition: context.parameterGradient(position, rows),
      dgamma: context.parameterGradient(gamma, rows),
      dbeta: context.parameterGradient(beta, rows),
      dtype: context.parameterGradient(type, rows),
    },
    results: {},
    attributes: node.attributes,
  });
}

export function textEmbedCost(node: TextEmbedNode, binding: Binding): Cost {
  const elements = elementsOf(node.results.out.shape, binding);
  return { flops: 11 * elements, bytes: 8 * elements };
}

export type PatchEmbedNode = NodeOf<
  'patch_embed',
  {
    readonly pixels?: Input;
    readonly bytes?: Input;
    readonly picture: Input;
    readonly type_index: Input;
    readonly weight: Parameter;
    readonly bias: Parameter;
    readonly cls: Parameter;
    readonly position: Parameter | undefined;
    readonly type: Parameter;
  },
  { readonly out: Activation },
  { readonly image_size: number; readonly patch_size: number }
>;

/** Weights of the image embedding. */
export interface PatchEmbedding {
  /** weight [width, 3 x patch x patch] and bias [width] */
  readonly projection: Required<Linear<'patch', 'width'>>;
  readonly cls: Parameter<['one', 'one', 'width']>;
  /** [1, image tokens, width] with absolute positions, else undefined. */
  readonly position: Parameter<['one', 'imageTokens', 'width']> | undefined;
  readonly type: Parameter<['types', 'width']>;
}

/** Pixels as float32 already normalised, [pictures, 3, S, S], or as bytes, [pictures, S, S, 3]. */
export type Pixels =
  | Input<['pictures', 'channels', 'imageHeight', 'imageWidth'], 'f32'>
  | Input<['pictures', 'imageHeight', 'imageWidth', 'channels'], 'u8'>;

/**
 * Image rows: patches projected, CLS prepended, (+ position), + token type.
 *
 * @param picture which picture each image sequence shows
 * @param typeIndex token type of each image sequence: 1, or 2 for the second picture of a pair
 * @param rows the dimension of the result's rows: image sequences x image tokens
 * @returns image rows x width
 * @see arXiv 2111.02358, section 2.1
 */
export function patchEmbed<R extends string>(
  pixels: Pixels,
  picture: Input<['images'], 'i32'>,
  typeIndex: Input<['images'], 'i32'>,
  rows: Dim<R>,
  weights: PatchEmbedding,
  sizes: { readonly imageSize: number; readonly patchSize: number },
): Activation<[R, 'width']> {
  expectSame('patch_embed: width of bias', weights.projection.weight.shape[0], weights.projection.bias.shape[0]);
  const out = picture.graph.activation<[R, 'width']>([rows, weights.projection.weight.shape[0]]);
  picture.graph.push<'patch_embed'>({
    op: 'patch_embed',
    operands: {
      ...(pixels.dtype === 'u8' ? { bytes: pixels as unknown as Input } : { pixels: pixels as unknown as Input }),
      picture: picture as unknown as Input,
      type_index: typeIndex as unknown as Input,
      weight: weights.projection.weight as unknown as Parameter,
      bias: weights.projection.bias as unknown as Parameter,
      cls: weights.cls as unknown as Parameter,
      position: weights.position as unknown as Parameter | undefined,
      type: weights.type as unknown as Parameter,
    },
    results: { out },
    attributes: { image_size: sizes.imageSize, patch_size: sizes.patchSize },
  });
  return out;
}

export function patchEmbedGradient(node: PatchEmbedNode, context: GradientContext): void {
  const { pixels, bytes, picture, type_index, weight, bias, cls, position, type } = node.operands;
  const dout = context.gradient(node.results.out);
  if (dout === undefined) return;
  const rows = { begin: 0, end: dout.shape[0]! } as const;
  context.emit({
    op: 'patch_embed',
    operands: {
      pixels,
      bytes,
      picture,
      type_index,
      dout,
      dweight: context.parameterGradient(weight, rows),
      dbias: context.parameterGradient(bias, rows),
      dcls: context.parameterGradient(cls, rows),
      dposition: context.parameterGradient(position, rows),
      dtype: context.parameterGradient(type, rows),
    },
    results: {},
    attributes: node.attributes,
  });
}

export function patchEmbedCost(node: PatchEmbedNode, binding: Binding): Cost {
  const rows = sizeOf(node.results.out.shape[0]!, binding);
  const weights = elementsOf(node.operands.weight.shape, binding);
  return {
    flops: 2 * rows * weights,
    bytes:
      4 * (weights + elementsOf(node.results.out.shape, binding)) +
      4 * rows * (weights / sizeOf(node.results.out.shape[1]!, binding)),
  };
}
