/**
 * cross_entropy, soft_bce and contrastive: scalars that training differentiates.
 */
import type { Activation, Input, Parameter, Value } from '../value.ts';
import { type Binding, type Cost, elementsOf, expectSame, type GradientContext, type NodeOf, sizeOf } from './node.ts';

export type CrossEntropyNode = NodeOf<
  'cross_entropy',
  { readonly logits: Value; readonly labels: Input },
  { readonly loss: Activation }
>;
export type SoftBceNode = NodeOf<
  'soft_bce',
  { readonly logits: Value; readonly targets: Input },
  { readonly loss: Activation }
>;
export type ContrastiveNode = NodeOf<
  'contrastive',
  { readonly image: Value; readonly text: Value; readonly log_scale: Parameter; readonly group: Input | undefined },
  { readonly similarity: Activation; readonly loss: Activation }
>;

/** A scalar loss. */
export type Loss = Activation<['one']>;

const scalar = [{ name: 'one', size: 1 }] as const;

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
  const loss = logits.graph.activation<['one']>(scalar);
  logits.graph.push<'cross_entropy'>({
    op: 'cross_entropy',
    operands: { logits, labels: labels as unknown as Input },
    results: { loss },
    attributes: {},
  });
  return loss;
}

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
  const loss = logits.graph.activation<['one']>(scalar);
  logits.graph.push<'soft_bce'>({
    op: 'soft_bce',
    operands: { logits, targets: targets as unknown as Input },
    results: { loss },
    attributes: {},
  });
  return loss;
}

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
  const loss = graph.activation<['one']>(scalar);
  graph.push<'contrastive'>({
    op: 'contrastive',
    operands: { image, text, log_scale: logScale as unknown as Parameter, group: group as Input | undefined },
    results: { similarity, loss },
    attributes: {},
  });
  return { loss, similarity };
}

export function crossEntropyGradient(node: CrossEntropyNode, context: GradientContext): void {
  const weight = context.lossWeight(node.results.loss);
  if (weight === undefined) return;
  const { logits, labels } = node.operands;
  const dlogits = context.like(logits);
  context.emit({
    op: 'cross_entropy',
    operands: { logits, labels },
    results: { dlogits },
    attributes: { weight },
    inPlace: { dlogits: 'logits' },
  });
  context.add(logits, dlogits);
}

export function softBceGradient(node: SoftBceNode, context: GradientContext): void {
  const weight = context.lossWeight(node.results.loss);
  if (weight === undefined) return;
  const { logits, targets } = node.operands;
  const dlogits = context.like(logits);
  context.emit({ op: 'soft_bce', operands: { logits, targets }, results: { dlogits }, attributes: { weight } });
  context.add(logits, dlogits);
}

export function contrastiveGradient(node: ContrastiveNode, context: GradientContext): void {
  const weight = context.lossWeight(node.results.loss);
  if (weight === undefined) return;
  const { image, text, log_scale, group } = node.operands;
  const dimage = context.like(image);
  const dtext = context.like(text);
  context.emit({
    op: 'contrastive',
    operands: {
      image,
      text,
      log_scale,
      group,
      similarity: node.results.similarity,
      dlog_scale: context.parameterGradient(log_scale),
    },
    results: { dimage, dtext },
    attributes: { weight },
  });
  context.add(image, dimage);
  context.add(text, dtext);
}

export function lossCost(node: CrossEntropyNode | SoftBceNode, binding: Binding): Cost {
  const elements = elementsOf(node.operands.logits.shape, binding);
  return { flops: 10 * elements, bytes: 4 * elements };
}

export function contrastiveCost(node: ContrastiveNode, binding: Binding): Cost {
  const rows = sizeOf(node.operands.image.shape[0]!, binding);
  const elements = elementsOf(node.operands.image.shape, binding);
  return { flops: 2 * rows * elements + 10 * rows * rows, bytes: 8 * elements + 4 * rows * rows };
}
