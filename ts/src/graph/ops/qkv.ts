/**
 * qkv: `y = x W^T + bias` with a bias on queries and values only.
 */

import { sizesOf } from '../onnx/emission.ts';
import { product } from '../onnx/operators.ts';
import type { Activation, Parameter, Value } from '../value.ts';
import { expectSame, type KernelOp, type Node } from './op.ts';
import { productCost } from './work.ts';

type QkvNode = Node<
  { readonly x: Value; readonly weight: Parameter; readonly q_bias: Parameter; readonly v_bias: Parameter },
  { readonly y: Activation }
>;

/** The joint query, key and value projection of a block: keys have no bias. */
export interface Qkv {
  readonly weight: Parameter<['qkv', 'width']>;
  readonly qBias: Parameter<['width']>;
  readonly vBias: Parameter<['width']>;
}

/**
 * Queries, keys and values of every row in one projection.
 *
 * @param x rows x width
 * @returns rows x 3 width: queries, keys, values, each ordered by head
 * @see arXiv 2111.02358, section 2.2
 */
export function qkv<R extends string>(x: Value<[R, 'width']>, map: Qkv): Activation<[R, 'qkv']> {
  expectSame('qkv: inputs of weight', x.shape[1], map.weight.shape[1]);
  const y = x.graph.activation<[R, 'qkv']>([x.shape[0], map.weight.shape[0]]);
  x.graph.push(qkvOp, {
    operands: { x, weight: map.weight, q_bias: map.qBias, v_bias: map.vBias },
    results: { y },
    attributes: {},
  });
  return y;
}

export const qkvOp = {
  name: 'qkv',
  build: qkv,
  operands: { x: 'rows', weight: 'matrix', q_bias: 'parameter', v_bias: 'parameter' },
  results: { y: 'required' },

  gradient({ operands, results }, context) {
    const { x, weight } = operands;
    const dy = context.gradient(results.y);
    if (dy === undefined) return;
    context.emit(qkvOp, {
      operands: { x, weight, dy, ...context.parameterGradients(operands) },
      gradients: { dx: x },
      attributes: {},
    });
  },

  cost: ({ operands: { x, weight }, results: { y } }, binding) => productCost(x, weight, y, binding),

  onnx({ operands: { x, weight, q_bias, v_bias } }, emission) {
    const [width] = sizesOf(q_bias.shape);
    const bias = emission.weight(q_bias, {
      suffix: 'qkv',
      shape: [3 * width!],
      with: v_bias,
      from: (q, v) => {
        const joint = new Float32Array(3 * width!);
        joint.set(q);
        joint.set(v!, 2 * width!);
        return joint;
      },
    });
    return emission.onnx.op('Add', [product(emission.tensor(x), weight, undefined, emission), bias]);
  },
} as const satisfies KernelOp<'qkv', QkvNode>;
