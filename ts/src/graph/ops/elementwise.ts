/**
 * tanh, gelu (exact) and l2_normalize: the small ops of the heads.
 */
import type { Activation, Dims, Names, Value } from '../value.ts';
import { type Binding, type Cost, elementsOf, type GradientContext, type NodeOf } from './node.ts';

export type TanhNode = NodeOf<'tanh', { readonly x: Value }, { readonly y: Activation }>;
export type GeluNode = NodeOf<'gelu', { readonly x: Value }, { readonly y: Activation }>;
export type L2NormalizeNode = NodeOf<'l2_normalize', { readonly x: Value }, { readonly y: Activation }>;

function elementwise<S extends Names>(op: 'tanh' | 'gelu' | 'l2_normalize', x: Value<S>): Activation<S> {
  const y = x.graph.activation<S>(x.shape as Dims<S>);
  x.graph.push<typeof op>({
    op,
    operands: { x: x as unknown as Value },
    results: { y: y as unknown as Activation },
    attributes: {},
  });
  return y;
}

/** Hyperbolic tangent of every element. */
export const tanh = <S extends Names>(x: Value<S>): Activation<S> => elementwise('tanh', x);

/** `x Phi(x)` of every element, with the exact normal distribution function (arXiv 1606.08415). */
export const gelu = <S extends Names>(x: Value<S>): Activation<S> => elementwise('gelu', x);

/** Every row divided by its Euclidean length. */
export const l2Normalize = <R extends string, W extends string>(x: Value<[R, W]>): Activation<[R, W]> =>
  elementwise('l2_normalize', x);

export function tanhGradient(node: TanhNode, context: GradientContext): void {
  const dy = context.gradient(node.results.y);
  if (dy === undefined) return;
  const dx = context.like(node.operands.x);
  context.emit({ op: 'tanh', operands: { y: node.results.y, dy }, results: { dx }, attributes: {} });
  context.add(node.operands.x, dx);
}

export function geluGradient(node: GeluNode | L2NormalizeNode, context: GradientContext): void {
  const { x } = node.operands;
  const dy = context.gradient(node.results.y);
  if (dy === undefined) return;
  const dx = context.like(x);
  context.emit({ op: node.op, operands: { x, dy }, results: { dx }, attributes: {} });
  context.add(x, dx);
}

export function elementwiseCost(node: TanhNode | GeluNode | L2NormalizeNode, binding: Binding): Cost {
  const elements = elementsOf(node.operands.x.shape, binding);
  return { flops: (node.op === 'l2_normalize' ? 4 : 20) * elements, bytes: 8 * elements };
}
