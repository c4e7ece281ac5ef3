/**
 * contrastive: the loss of pictures and texts that find each other among all of the batch.
 */
import { refuse } from '../onnx/operators.ts';
import type { Activation, Input, Parameter, Value } from '../value.ts';
import { type Loss, newLoss } from './loss.ts';
import { expectSame, type KernelOp, type Node } from './op.ts';
import { elementsOf, sizeOf } from './work.ts';

type ContrastiveNode = Node<
  { readonly image: Value; readonly text: Value; readonly log_scale: Parameter; readonly group: Input | undefined },
  { readonly similarity: Activation; readonly loss: Activation }
>;

/**
 * Image-text contrastive loss over the batch, both ways.
 *
 * @param image rows x width, L2-normalised
 * @param text rows x width, L2-normalised
 * @param logScale logarithm of the scale applied to the dot products
 * @param group joint positives: rows of the same group match each other; undefined = only the own pair matches
 * @returns the loss, and the scaled similarities rows x rows (image by text)
 * @see arXiv 2111.02358, section 2.3; arXiv 2103.00020
 */
export function contrastive<R extends string, W extends string>(
  image: Value<[R, W]>,
  text: Value<[NoInfer<R>, NoInfer<W>]>,
  logScale: Parameter<[]>,
  group?: Input<[R], 'i32'>,
): { readonly loss: Loss; readonly similarity: Activation<[R, R]> } {
  expectSame('contrastive: rows of text', image.shape[0], text.shape[0]);
  const { graph } = image;
  const similarity = graph.activation<[R, R]>([image.shape[0], text.shape[0]]);
  const loss = newLoss(graph);
  graph.push(contrastiveOp, {
    operands: { image, text, log_scale: logScale, group },
    results: { similarity, loss },
    attributes: {},
  });
  return { loss, similarity };
}

export const contrastiveOp = {
  name: 'contrastive',
  build: contrastive,
  operands: { image: 'rows', text: 'rows', log_scale: 'parameter', group: 'input' },
  results: { similarity: 'required', loss: 'required' },

  gradient({ operands, results: { similarity, loss } }, context) {
    const weight = context.lossWeight(loss);
    if (weight === undefined) return;
    context.emit(contrastiveOp, {
      operands: { ...operands, similarity, ...context.parameterGradients(operands) },
      gradients: { dimage: operands.image, dtext: operands.text },
      attributes: { weight },
    });
  },

  cost({ operands: { image } }, binding) {
    const rows = sizeOf(image.shape[0]!, binding);
    const elements = elementsOf(image.shape, binding);
    return { flops: 2 * rows * elements + 10 * rows * rows, bytes: 8 * elements + 4 * rows * rows };
  },

  onnx: refuse('the loss contrastive'),
} as const satisfies KernelOp<'contrastive', ContrastiveNode>;
