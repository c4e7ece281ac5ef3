/**
 * concat_rows: two matrices seen as one, without copying.
 */
import type { Activation, Dim } from '../value.ts';
import type { Node, ViewOp } from './op.ts';

type ConcatRowsNode = Node<
  { readonly first: Activation; readonly second: Activation },
  { readonly y: Activation },
  { readonly begin: Dim }
>;

/**
 * Text rows followed by image rows as one matrix. Both parts are written in place: nothing is copied.
 *
 * @param rows the dimension of all rows
 */
export function concatRows<A extends string, B extends string, W extends string, R extends string>(
  first: Activation<[A, W]>,
  second: Activation<[B, NoInfer<W>]>,
  rows: Dim<R>,
): Activation<[R, W]> {
  const y = first.graph.activation<[R, W]>([rows, first.shape[1]]);
  first.graph.push(concatRowsOp, {
    operands: { first, second },
    results: { y },
    attributes: { begin: first.shape[0] },
  });
  return y;
}

export const concatRowsOp = {
  name: 'concat_rows',
  build: concatRows,

  views: ({ operands: { first, second }, results: { y }, attributes: { begin } }) => [
    { value: first, of: y, begin: 0 },
    { value: second, of: y, begin },
  ],

  gradient({ operands: { first, second }, results: { y }, attributes: { begin } }, context) {
    const dy = context.gradient(y);
    if (dy === undefined) return;
    context.add(first, context.rowsOf(dy, 0, first.shape));
    context.add(second, context.rowsOf(dy, begin, second.shape));
  },

  onnx({ operands: { first, second }, results: { y }, attributes: { begin } }, emission) {
    const pieces = [
      { value: first, parts: emission.partsBetween(0, begin) },
      { value: second, parts: emission.partsBetween(begin, y.shape[0]!) },
    ].filter(({ parts }) => parts.length > 0);
    return emission.join(pieces.map(({ value, parts }) => ({ parts, tensor: emission.tensor(value) })));
  },
} as const satisfies ViewOp<'concat_rows', ConcatRowsNode>;
