/**
 * layer_norm: `y = (x - mean) / sqrt(var + eps) * gamma + beta` per row.
 */
import * as operators from '../onnx/operators.ts';
import type { Activation, Parameter, Value } from '../value.ts';
import { expectSame, type KernelOp, type Node } from './op.ts';
import { elementwiseCost } from './work.ts';

type LayerNormNode = Node<
  { readonly x: Value; readonly gamma: Parameter; readonly beta: Parameter },
  { readonly y: Activation },
  { readonly eps: number }
>;

/** Scale and shift of one normalisation. */
export interface Norm<W extends string = string> {
  readonly gamma: Parameter<[W]>;
  readonly beta: Parameter<[W]>;
}

/**
 * Normalises each row to mean 0 and variance 1, then scales and shifts it.
 *
 * @param x rows x width
 * @param norm gamma and beta, each [width]
 * @param eps added to the variance: 1e-6 in blocks, 1e-12 in BERT-style heads, 1e-5 in classifiers
 * @returns rows x width
 * @see Ba et al., Layer Normalization, 2016
 */
export function layerNorm<R extends string, W extends string>(
  x: Value<[R, W]>,
  norm: Norm<NoInfer<W>>,
  eps: number,
): Activation<[R, W]> {
  expectSame('layer_norm: width of gamma', x.shape[1], norm.gamma.shape[0]);
  const y = x.graph.activation(x.shape);
  x.graph.push(layerNormOp, {
    operands: { x, gamma: norm.gamma, beta: norm.beta },
    results: { y },
    attributes: { eps },
  });
  return y;
}

export const layerNormOp = {
  name: 'layer_norm',
  build: layerNorm,
  operands: { x: 'rows', gamma: 'parameter', beta: 'parameter' },
  results: { y: 'required' },

  /** Adds into the gradient that the residual branch left on `x`, when there is one: no separate addition is needed. */
  gradient({ operands, results, attributes }, context) {
    const dy = context.gradient(results.y);
    if (dy === undefined) return;
    context.emitInto(operands.x, layerNormOp, {
      operands: { x: operands.x, gamma: operands.gamma, dy, ...context.parameterGradients(operands) },
      attributes,
    });
  },

  cost: ({ operands: { x } }, binding) => elementwiseCost(x.shape, 8, 8, binding),

  onnx: ({ operands: { x, gamma, beta }, attributes: { eps } }, emission) =>
    operators.layerNorm(emission.tensor(x), gamma, beta, eps, emission),
} as const satisfies KernelOp<'layer_norm', LayerNormNode>;
