/**
 * cross_entropy: the loss of one right class per row.
 */
import { refuse } from '../onnx/operators.ts';
import type { Activation, Input, Value } from '../value.ts';
import { type Loss, newLoss } from './loss.ts';
import { expectSame, type KernelOp, type Node } from './op.ts';
import { elementwiseCost } from './work.ts';

type CrossEntropyNode = Node<{ readonly logits: Value; readonly labels: Input }, { readonly loss: Activation }>;

/**
 * Mean of `-log softmax(logits)[label]` over the rows whose label is not -100; 0 when there is none.
 *
 * @param logits rows x classes
 * @param labels [rows]
 */
export function crossEntropy<R extends string, C extends string>(
  logits: Value<[R, C]>,
  labels: Input<[R], 'i32'>,
): Loss {
  expectSame('cross_entropy: rows of labels', logits.shape[0], labels.shape[0]);
  const loss = newLoss(logits.graph);
  logits.graph.push(crossEntropyOp, { operands: { logits, labels }, results: { loss }, attributes: {} });
  return loss;
}

export const crossEntropyOp = {
  name: 'cross_entropy',
  build: crossEntropy,
  operands: { logits: 'rows', labels: 'input' },
  results: { loss: 'required' },

  gradient({ operands, results: { loss } }, context) {
    const weight = context.lossWeight(loss);
    if (weight === undefined) return;
    context.emit(crossEntropyOp, {
      operands,
      gradients: { dlogits: operands.logits },
      attributes: { weight },
      inPlace: { dlogits: 'logits' },
    });
  },

  cost: ({ operands: { logits } }, binding) => elementwiseCost(logits.shape, 10, 4, binding),

  onnx: refuse('the loss cross_entropy'),
} as const satisfies KernelOp<'cross_entropy', CrossEntropyNode>;
