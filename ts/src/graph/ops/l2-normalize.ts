/**
 * l2_normalize: rows of length 1.
 */
import type { Activation, Value } from '../value.ts';
import type { KernelOp, Node } from './op.ts';
import { elementwiseCost } from './work.ts';

type L2NormalizeNode = Node<{ readonly x: Value }, { readonly y: Activation }>;

/** Every row divided by its Euclidean length. */
export function l2Normalize<R extends string, W extends string>(x: Value<[R, W]>): Activation<[R, W]> {
  const y = x.graph.activation(x.shape);
  x.graph.push(l2NormalizeOp, { operands: { x }, results: { y }, attributes: {} });
  return y;
}

export const l2NormalizeOp = {
  name: 'l2_normalize',
  build: l2Normalize,
  operands: { x: 'rows' },
  results: { y: 'required' },

  gradient({ operands: { x }, results: { y } }, context) {
    const dy = context.gradient(y);
    if (dy !== undefined) context.emit(l2NormalizeOp, { operands: { x, dy }, gradients: { dx: x }, attributes: {} });
  },

  cost: ({ operands: { x } }, binding) => elementwiseCost(x.shape, 4, 8, binding),

  onnx: ({ operands: { x } }, emission) =>
    emission.onnx.op('LpNormalization', [emission.tensor(x)], { axis: -1, p: 2 }),
} as const satisfies KernelOp<'l2_normalize', L2NormalizeNode>;
