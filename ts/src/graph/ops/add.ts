/**
 * add: `y = a + b`. Differentiation sums the gradients from several readers of a value with it.
 */
import type { Activation, Dims, Names, Value } from '../value.ts';
import type { KernelOp, Node } from './op.ts';
import { elementwiseCost } from './work.ts';

type AddNode = Node<{ readonly a: Value; readonly b: Value }, { readonly y: Activation }>;

/** The sum of two values of one shape. */
export function add<S extends Names>(a: Value<S>, b: Value<NoInfer<S>>): Activation<S> {
  const y = a.graph.activation<S>(a.shape as Dims<S>);
  a.graph.push(addOp, { operands: { a, b }, results: { y }, attributes: {} });
  return y;
}

export const addOp = {
  name: 'add',
  build: add,
  operands: { a: 'rows', b: 'rows' },
  results: { y: 'required' },

  /** Both operands get the same memory, to which nothing may be added in place. */
  gradient({ operands: { a, b }, results: { y } }, context) {
    const dy = context.gradient(y);
    if (dy === undefined) return;
    context.add(a, context.reshaped(dy, a.shape));
    context.add(b, context.reshaped(dy, b.shape));
  },

  cost: ({ operands: { a } }, binding) => elementwiseCost(a.shape, 1, 12, binding),

  onnx: ({ operands: { a, b } }, emission) => emission.onnx.op('Add', [emission.tensor(a), emission.tensor(b)]),
} as const satisfies KernelOp<'add', AddNode>;
