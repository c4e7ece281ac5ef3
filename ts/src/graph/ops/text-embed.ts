/**
 * text_embed: word pieces to token rows.
 */
import type { Tensor } from '../onnx/builder.ts';
import { type Emission, unsupported } from '../onnx/emission.ts';
import * as operators from '../onnx/operators.ts';
import type { Activation, Input, Parameter } from '../value.ts';
import type { Norm } from './layer-norm.ts';
import type { Attribute, KernelOp, Node } from './op.ts';
import { elementwiseCost } from './work.ts';

type TextEmbedNode = Node<
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

/** The scalar that a run with dropout gives: it chooses the elements that are dropped. */
export const dropoutSeed = { scalar: 'dropoutSeed' } as const;

/**
 * Text rows: word + segment (+ position), LayerNorm (eps 1e-12), dropout, + token type.
 *
 * @param ids word piece of each text row
 * @param index place of each row's token in its text, CLS = 0
 * @param dropout probability of dropping an element; above 0 the run gives the scalar {@link dropoutSeed}
 * @returns text rows x width
 * @see the original code's BertEmbeddings and token_type_embeddings
 */
export function textEmbed<R extends string>(
  ids: Input<[R], 'i32'>,
  index: Input<[R], 'i32'>,
  { norm, ...tables }: TextEmbedding,
  dropout = 0,
): Activation<[R, 'width']> {
  const out = ids.graph.activation<[R, 'width']>([ids.shape[0], tables.word.shape[1]]);
  const { word, segment, position, type } = tables;
  ids.graph.push(textEmbedOp, {
    operands: { ids, index, word, segment, position, gamma: norm.gamma, beta: norm.beta, type },
    results: { out },
    attributes: { eps: 1e-12, dropout, seed: dropout > 0 ? dropoutSeed : 0 },
  });
  return out;
}

export const textEmbedOp = {
  name: 'text_embed',
  build: textEmbed,
  operands: {
    ids: 'input',
    index: 'input',
    word: 'parameter',
    segment: 'parameter',
    position: 'parameter',
    gamma: 'parameter',
    beta: 'parameter',
    type: 'parameter',
  },
  results: { out: 'required' },

  gradient({ operands, results: { out }, attributes }, context) {
    const dout = context.gradient(out);
    if (dout === undefined) return;
    const { beta: _beta, type: _type, ...read } = operands;
    context.emit(textEmbedOp, {
      operands: { ...read, dout, ...context.parameterGradients(operands, { begin: 0, end: out.shape[0]! }) },
      gradients: {},
      attributes,
    });
  },

  cost: ({ results: { out } }, binding) => elementwiseCost(out.shape, 11, 8, binding),

  onnx({ operands: { word, segment, position, gamma, beta, type }, attributes: { eps, dropout } }, emission) {
    const { onnx, ids } = emission;
    if (dropout > 0) throw unsupported('text_embed with dropout');
    const words = onnx.op('Gather', [emission.weight(word), ids]);
    const segmented = onnx.op('Add', [words, operators.rowOf(segment, 0, emission)]);
    const placed = position ? onnx.op('Add', [segmented, textPositions(position, emission)]) : segmented;
    const normed = operators.layerNorm(placed, gamma, beta, eps, emission);
    return onnx.op('Add', [normed, operators.rowOf(type, 0, emission)]);
  },
} as const satisfies KernelOp<'text_embed', TextEmbedNode>;

/** Rows [0, text length) of the position table. */
function textPositions(position: Parameter, emission: Emission): Tensor {
  const { onnx } = emission;
  return onnx.op('Slice', [emission.weight(position), onnx.ints(0), emission.textLength, onnx.ints(0)]);
}
