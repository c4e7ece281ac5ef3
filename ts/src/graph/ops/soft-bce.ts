/**
 * soft_bce: the loss of answers that are right to some degree each.
 */
import { refuse } from '../onnx/operators.ts';
import type { Activation, Input, Value } from '../value.ts';
import { type Loss, newLoss } from './loss.ts';
import { expectSame, type KernelOp, type Node } from './op.ts';
import { elementwiseCost } from './work.ts';

type SoftBceNode = Node<{ readonly logits: Value; readonly targets: Value }, { readonly loss: Activation }>;

/**
 * Binary cross-entropy with logits against soft targets, mean over all elements times the number of answers.
 *
 * @param logits rows x answers
 * @param targets rows x answers, each in [0, 1]
 * @see the original VQA objective
 */
export function softBce<R extends string, C extends string>(
  logits: Value<[R, C]>,
  targets: Input<[R, C], 'f32'>,
): Loss {
  expectSame('soft_bce: answers of targets', logits.shape[1], targets.shape[1]);
  const loss = newLoss(logits.graph);
  logits.graph.push(softBceOp, { operands: { logits, targets }, results: { loss }, attributes: {} });
  return loss;
}

export const softBceOp = {
  name: 'soft_bce',
  build: softBce,
  operands: { logits: 'rows', targets: 'rows' },
  results: { loss: 'required' },

  gradient({ operands, results: { loss } }, context) {
    const weight = context.lossWeight(loss);
    if (weight === undefined) return;
    context.emit(softBceOp, { operands, gradients: { dlogits: operands.logits }, attributes: { weight } });
  },

  cost: ({ operands: { logits } }, binding) => elementwiseCost(logits.shape, 10, 4, binding),

  onnx: refuse('the loss soft_bce'),
} as const satisfies KernelOp<'soft_bce', SoftBceNode>;
