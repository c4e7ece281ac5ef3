/**
 * gather_rows, and the two ways of seeing rows differently without copying: concat_rows and reshape.
 */
import { check } from '../../runtime/errors.ts';
import { type Activation, type Dim, type Dims, formatShape, type Input, type Names, type Value } from '../value.ts';
import { type Binding, type Cost, elementsOf, type GradientContext, type NodeOf } from './node.ts';

export type GatherRowsNode = NodeOf<
  'gather_rows',
  { readonly x: Value; readonly index: Input },
  { readonly y: Activation }
>;
export type ConcatRowsNode = NodeOf<
  'concat_rows',
  { readonly first: Activation; readonly second: Activation },
  { readonly y: Activation },
  { readonly begin: Dim }
>;
export type ReshapeNode = NodeOf<'reshape', { readonly x: Activation }, { readonly y: Activation }>;

/**
 * Picks rows: CLS rows, or the masked rows of a text.
 *
 * @param x rows x width
 * @param index [count] rows to pick, each in [0, rows)
 * @returns count x width
 */
export function gatherRows<R extends string, W extends string, N extends string>(
  x: Value<[R, W]>,
  index: Input<[N], 'i32'>,
): Activation<[N, W]> {
  const y = x.graph.activation<[N, W]>([index.shape[0], x.shape[1]]);
  x.graph.push<'gather_rows'>({
    op: 'gather_rows',
    operands: { x, index: index as unknown as Input },
    results: { y },
    attributes: {},
  });
  return y;
}

export function gatherRowsGradient(node: GatherRowsNode, context: GradientContext): void {
  const { x, index } = node.operands;
  const dy = context.gradient(node.results.y);
  if (dy === undefined) return;
  const pending = context.pending(x);
  const dx = context.like(x);
  context.emit({
    op: 'gather_rows',
    operands: { index, dy, ...(pending && { pending }) },
    results: { dx },
    attributes: { accumulate_dx: pending !== undefined },
    ...(pending && { accumulate: { dx: 'pending' } }),
  });
  if (pending) context.replace(x, dx);
  else context.add(x, dx);
}

export function gatherRowsCost(node: GatherRowsNode, binding: Binding): Cost {
  return { flops: 0, bytes: 8 * elementsOf(node.results.y.shape, binding) };
}

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
  first.graph.push<'concat_rows'>({
    op: 'concat_rows',
    operands: { first, second },
    results: { y },
    attributes: { begin: first.shape[0] },
  });
  return y;
}

export function concatRowsGradient(node: ConcatRowsNode, context: GradientContext): void {
  const dy = context.gradient(node.results.y);
  if (dy === undefined) return;
  const { first, second } = node.operands;
  context.add(first, context.rowsOf(dy, 0, first.shape));
  context.add(second, context.rowsOf(dy, node.attributes.begin, second.shape));
}

/**
 * The same memory under another shape: two rows of width D as one of width 2 D.
 */
export function reshape<const S extends Names>(x: Activation, shape: Dims<S>): Activation<S> {
  check(shape.length > 0, 'MOME_INVALID_SHAPE', `reshape: expected at least one dimension, got ${formatShape(shape)}`);
  const y = x.graph.activation<S>(shape);
  x.graph.push<'reshape'>({
    op: 'reshape',
    operands: { x },
    results: { y: y as unknown as Activation },
    attributes: {},
  });
  return y;
}

export function reshapeGradient(node: ReshapeNode, context: GradientContext): void {
  const dy = context.gradient(node.results.y);
  if (dy !== undefined) context.add(node.operands.x, context.reshaped(dy, node.operands.x.shape));
}

/** Views move no data. */
export const viewCost = (): Cost => ({ flops: 0, bytes: 0 });
