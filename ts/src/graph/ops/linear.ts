/**
 * linear: `y = x W^T + bias`; qkv: the same with a bias on queries and values only.
 */
import type { Activation, Parameter, Value } from '../value.ts';
import { type Binding, type Cost, elementsOf, expectSame, type GradientContext, type NodeOf, sizeOf } from './node.ts';

export type LinearNode = NodeOf<
  'linear',
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
  x.graph.push<'linear'>({
    op: 'linear',
    operands: { x, weight: map.weight, bias: map.bias },
    results: { y },
    attributes: {},
  });
  return y;
}

export function linearGradient(node: LinearNode, context: GradientContext): void {
  const { x, weight, bias } = node.operands;
  const dy = context.gradient(node.results.y);
  if (dy === undefined) return;
  const dx = context.wants(x) ? context.like(x) : undefined;
  context.emit({
    op: 'linear',
    operands: { x, weight, dy, dweight: context.parameterGradient(weight), dbias: context.parameterGradient(bias) },
    results: dx ? { dx } : {},
    attributes: {},
  });
  if (dx) context.add(x, dx);
}

export function linearCost(node: LinearNode | QkvNode, binding: Binding): Cost {
  const { x, weight } = node.operands;
  const rows = sizeOf(x.shape[0]!, binding);
  const weights = elementsOf(weight.shape, binding);
  return {
    flops: 2 * rows * weights,
    bytes: 4 * (elementsOf(x.shape, binding) + weights + elementsOf(node.results.y.shape, binding)),
  };
}

export type QkvNode = NodeOf<
  'qkv',
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
  x.graph.push<'qkv'>({
    op: 'qkv',
    operands: { x, weight: map.weight, q_bias: map.qBias, v_bias: map.vBias },
    results: { y },
    attributes: {},
  });
  return y;
}

export function qkvGradient(node: QkvNode, context: GradientContext): void {
  const { x, weight, q_bias, v_bias } = node.operands;
  const dy = context.gradient(node.results.y);
  if (dy === undefined) return;
  const dx = context.like(x);
  context.emit({
    op: 'qkv',
    operands: {
      x,
      weight,
      dy,
      dweight: context.parameterGradient(weight),
      dq_bias: context.parameterGradient(q_bias),
      dv_bias: context.parameterGradient(v_bias),
    },
    results: { dx },
    attributes: {},
  });
  context.add(x, dx);
}
