/**
 * gelu: `x Phi(x)`, exact.
 */
import * as operators from '../onnx/operators.ts';
import type { Activation, Dims, Names, Value } from '../value.ts';
import type { KernelOp, Node } from './op.ts';
import { elementwiseCost } from './work.ts';

type GeluNode = Node<{ readonly x: Value }, { readonly y: Activation }>;

/** `x Phi(x)` of every element, with the exact normal distribution function (arXiv 1606.08415). */
export function gelu<S extends Names>(x: Value<S>): Activation<S> {
  const y = x.graph.activation<S>(x.shape as Dims<S>);
  x.graph.push(geluOp, { operands: { x }, results: { y }, attributes: {} });
  return y;
}

export const geluOp = {
  name: 'gelu',
  build: gelu,
  operands: { x: 'rows' },
  results: { y: 'required' },

  gradient({ operands: { x }, results: { y } }, context) {
    const dy = context.gradient(y);
    if (dy !== undefined) context.emit(geluOp, { operands: { x, dy }, gradients: { dx: x }, attributes: {} });
  },

  cost: ({ operands: { x } }, binding) => elementwiseCost(x.shape, 20, 8, binding),

  onnx: ({ operands: { x } }, emission) => operators.gelu(emission.tensor(x), emission),
} as const satisfies KernelOp<'gelu', GeluNode>;
