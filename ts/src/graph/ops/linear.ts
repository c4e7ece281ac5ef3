/**
 * linear: `y = x W^T + bias`.
 */
import * as operators from '../onnx/operators.ts';
import type { Activation, Parameter, Value } from '../value.ts';
import { expectSame, type KernelOp, type Node } from './op.ts';
import { productCost } from './work.ts';

type LinearNode = Node<
  { readonly x: Value; readonly weight: Parameter; readonly bias: Parameter | undefined },
  { readonly y: Activation }
>;

/** Weight [outputs, inputs] and bias [outputs] of a linear map. */
export interface Linear<I extends string = string, O extends string = string> {
  readonly weight: Parameter<[O, I]>;
  readonly bias?: Parameter<[O]>;
}

/**
 * A linear map of every row.
 *
 * @param x rows x inputs
 * @param map weight [outputs, inputs] and, unless the map has none, bias [outputs]
 * @returns rows x outputs
 */
export function linear<R extends string, I extends string, O extends string>(
  x: Value<[R, I]>,
  map: Linear<NoInfer<I>, O>,
): Activation<[R, O]> {
  expectSame('linear: inputs of weight', x.shape[1], map.weight.shape[1]);
  const y = x.graph.activation<[R, O]>([x.shape[0], map.weight.shape[0]]);
  x.graph.push(linearOp, {
    operands: { x, weight: map.weight, bias: map.bias },
    results: { y },
    attributes: {},
  });
  return y;
}

export const linearOp = {
  name: 'linear',
  build: linear,
  operands: { x: 'rows', weight: 'matrix', bias: 'parameter' },
  results: { y: 'required' },

  gradient({ operands, results }, context) {
    const { x, weight } = operands;
    const dy = context.gradient(results.y);
    if (dy === undefined) return;
    context.emit(linearOp, {
      operands: { x, weight, dy, ...context.parameterGradients(operands) },
      gradients: context.wants(x) ? { dx: x } : {},
      attributes: {},
    });
  },

  cost: ({ operands: { x, weight }, results: { y } }, binding) => productCost(x, weight, y, binding),

  onnx: ({ operands: { x, weight, bias } }, emission) => operators.linear(emission.tensor(x), weight, bias, emission),
} as const satisfies KernelOp<'linear', LinearNode>;
