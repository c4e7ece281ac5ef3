/**
 * reshape: the same memory under another shape.
 */
import { check } from '../../runtime/errors.ts';
import { refuse } from '../onnx/operators.ts';
import { type Activation, type Dims, formatShape, type Names } from '../value.ts';
import type { Node, ViewOp } from './op.ts';

type ReshapeNode = Node<{ readonly x: Activation }, { readonly y: Activation }>;

/**
 * The same memory under another shape: two rows of width D as one of width 2 D.
 */
export function reshape<const S extends Names>(x: Activation, shape: Dims<S>): Activation<S> {
  check(shape.length > 0, 'MOME_INVALID_SHAPE', `reshape: expected at least one dimension, got ${formatShape(shape)}`);
  const y = x.graph.activation<S>(shape);
  x.graph.push(reshapeOp, { operands: { x }, results: { y }, attributes: {} });
  return y;
}

export const reshapeOp = {
  name: 'reshape',
  build: reshape,

  views: ({ operands: { x }, results: { y } }) => [{ value: y, of: x, begin: undefined }],

  gradient({ operands: { x }, results: { y } }, context) {
    const dy = context.gradient(y);
    if (dy !== undefined) context.add(x, context.reshaped(dy, x.shape));
  },

  onnx: refuse('reshape, which puts rows of several sequences together'),
} as const satisfies ViewOp<'reshape', ReshapeNode>;
