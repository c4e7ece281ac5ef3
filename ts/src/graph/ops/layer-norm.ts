/**
 * layer_norm: `y = (x - mean) / sqrt(var + eps) * gamma + beta` per row.
 */
import type { Activation, Parameter, Value } from '../value.ts';
import { type Binding, type Cost, elementsOf, expectSame, type GradientContext, type NodeOf } from './node.ts';

export type LayerNormNode = NodeOf<
  'layer_norm',
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
  x.graph.push<'layer_norm'>({
    op: 'layer_norm',
    operands: { x, gamma: norm.gamma, beta: norm.beta },
    results: { y },
    attributes: { eps },
  });
  return y;
}

/** Adds into the gradient that the residual branch left on `x`, when there is one: no separate addition is needed. */
export function layerNormGradient(node: LayerNormNode, context: GradientContext): void {
  const { x, gamma, beta } = node.operands;
  const dy = context.gradient(node.results.y);
  if (dy === undefined) return;
  const pending = context.pending(x);
  const dx = context.like(x);
  context.emit({
    op: 'layer_norm',
    operands: {
      x,
      gamma,
      dy,
      dgamma: context.parameterGradient(gamma),
      dbeta: context.parameterGradient(beta),
      ...(pending && { pending }),
    },
    results: { dx },
    attributes: { eps: node.attributes.eps, accumulate_dx: pending !== undefined },
    ...(pending ? { accumulate: { dx: 'pending' } } : { inPlace: {} }),
  });
  if (pending) context.replace(x, dx);
  else context.add(x, dx);
}

export function layerNormCost(node: LayerNormNode, binding: Binding): Cost {
  const elements = elementsOf(node.operands.x.shape, binding);
  return { flops: 8 * elements, bytes: 8 * elements };
}
