/**
 * gather_rows: chosen rows of a matrix.
 */
import { unsupported } from '../onnx/emission.ts';
import type { Activation, Input, Value } from '../value.ts';
import type { KernelOp, Node } from './op.ts';
import { elementwiseCost } from './work.ts';

type GatherRowsNode = Node<{ readonly x: Value; readonly index: Input }, { readonly y: Activation }>;

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
  x.graph.push(gatherRowsOp, { operands: { x, index }, results: { y }, attributes: {} });
  return y;
}

export const gatherRowsOp = {
  name: 'gather_rows',
  build: gatherRows,
  operands: { x: 'rows', index: 'input' },
  results: { y: 'required' },

  gradient({ operands: { x, index }, results: { y } }, context) {
    const dy = context.gradient(y);
    if (dy !== undefined) context.emitInto(x, gatherRowsOp, { operands: { index, dy }, attributes: {} });
  },

  cost: ({ results: { y } }, binding) => elementwiseCost(y.shape, 0, 8, binding),

  onnx({ operands: { x, index } }, emission) {
    const part = emission.layout.firstTokens[index.name];
    if (part === undefined) throw unsupported(`rows picked by "${index.name}"`);
    const token = emission.onnx.int(emission.firstTokenOf(part));
    return emission.onnx.op('Gather', [emission.tensor(x), token], { axis: 1 });
  },
} as const satisfies KernelOp<'gather_rows', GatherRowsNode>;
