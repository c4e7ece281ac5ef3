/**
 * tanh: the hyperbolic tangent.
 */
import type { Activation, Dims, Names, Value } from '../value.ts';
import type { KernelOp, Node } from './op.ts';
import { elementwiseCost } from './work.ts';

type TanhNode = Node<{ readonly x: Value }, { readonly y: Activation }>;

/** Hyperbolic tangent of every element. */
export function tanh<S extends Names>(x: Value<S>): Activation<S> {
  const y = x.graph.activation<S>(x.shape as Dims<S>);
  x.graph.push(tanhOp, { operands: { x }, results: { y }, attributes: {} });
  return y;
}

export const tanhOp = {
  name: 'tanh',
  build: tanh,
  operands: { x: 'rows' },
  results: { y: 'required' },

  gradient({ operands: { x }, results: { y } }, context) {
    const dy = context.gradient(y);
    if (dy !== undefined) context.emit(tanhOp, { operands: { y, dy }, gradients: { dx: x }, attributes: {} });
  },

  cost: ({ operands: { x } }, binding) => elementwiseCost(x.shape, 20, 8, binding),

  onnx: ({ operands: { x } }, emission) => emission.onnx.op('Tanh', [emission.tensor(x)]),
} as const satisfies KernelOp<'tanh', TanhNode>;
