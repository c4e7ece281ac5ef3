/**
 * expert_ffn: the mixture-of-modality-experts feed-forward layer. Rows are sorted by modality, so an expert is a row range:
 * `out = x + row_scale gamma fc2_e(gelu(fc1_e(layer_norm_e(x))))`.
 */
import { check } from '../../runtime/errors.ts';
import type { Activation, Input, Operand, Parameter, RowRange, Value } from '../value.ts';
import type { Norm } from './layer-norm.ts';
import type { Linear } from './linear.ts';
import {
  type Attribute,
  type Binding,
  type Cost,
  elementsOf,
  type GradientContext,
  type NodeOf,
  sizeOf,
} from './node.ts';
import type { Residual } from './proj-residual.ts';

/** Most experts one call can route to. */
const maxExperts = 3;

/** Normalisation and two linear maps of one modality expert. */
export interface ExpertWeights {
  readonly norm: Norm<'width'>;
  readonly fc1: Required<Linear<'width', 'hidden'>>;
  readonly fc2: Required<Linear<'hidden', 'width'>>;
}

/** Rows [begin, end) and the expert that reads them; a number is 0, a dimension an offset bound per run. */
export interface ExpertRange extends RowRange {
  readonly expert: ExpertWeights;
}

export type ExpertFfnNode = NodeOf<
  'expert_ffn',
  Record<string, Value | Parameter | Input | undefined> & { readonly x: Value },
  { readonly out: Activation; readonly pre_activation: Activation },
  Record<string, Attribute> & { readonly eps: number }
> & { readonly ranges: readonly ExpertRange[] };

/**
 * Sends every row through the feed-forward expert of its modality and adds the result to the residual stream.
 *
 * @param x rows x width, the residual stream
 * @param ranges row ranges in ascending order without gaps; a range may be empty. On a processor they cover all rows, on a device the results
 *   of others are undefined
 * @returns rows x width
 * @see arXiv 2111.02358, section 2.2 (MoME Transformer)
 */
export function expertFfn<R extends string>(
  x: Value<[R, 'width']>,
  ranges: readonly ExpertRange[],
  residual: Residual<R>,
  eps: number,
): Activation<[R, 'width']> {
  const first = ranges[0];
  check(
    first !== undefined && ranges.length <= maxExperts,
    'MOME_INVALID_ARGUMENT',
    `expert_ffn: expected 1 to ${maxExperts} row ranges, got ${ranges.length}`,
  );
  const { graph } = x;
  const out = graph.activation(x.shape);
  const hidden = first.expert.fc1.weight.shape[0];
  const preActivation = graph.activation<[R, 'hidden']>([x.shape[0], hidden]);
  const operands: Record<string, Value | Parameter | Input | undefined> = {};
  const attributes: Record<string, Attribute> = {};
  for (const [i, { begin, end, expert }] of ranges.entries()) {
    attributes[`begin${i}`] = begin;
    attributes[`end${i}`] = end;
    for (const [key, parameter] of expertParameters(expert)) operands[`${key}_${i}`] = parameter;
  }
  graph.push<'expert_ffn'>({
    op: 'expert_ffn',
    operands: {
      x,
      ...operands,
      gamma: residual.gamma as Parameter | undefined,
      row_scale: residual.rowScale as Input | undefined,
    },
    results: { out, pre_activation: preActivation },
    attributes: { ...attributes, eps },
    ranges,
  });
  return out;
}

export function expertFfnGradient(node: ExpertFfnNode, context: GradientContext): void {
  const { x, ...rest } = node.operands;
  const { out, pre_activation } = node.results;
  const dout = context.gradient(out);
  if (dout === undefined) return;
  const gradients: Record<string, Operand | undefined> = {
    dgamma: context.parameterGradient(rest.gamma as Parameter | undefined),
  };
  for (const [i, { expert, ...rows }] of node.ranges.entries()) {
    for (const [key, parameter] of expertParameters(expert))
      gradients[`d${key}_${i}`] = context.parameterGradient(parameter, rows);
  }
  const dx = context.like(x);
  context.emit({
    op: 'expert_ffn',
    operands: { x, ...rest, pre_activation, dout, ...gradients },
    results: { dx },
    attributes: node.attributes,
    inPlace: { dx: 'dout' },
  });
  context.add(x, dx);
}

export function expertFfnCost(node: ExpertFfnNode, binding: Binding): Cost {
  let flops = 0;
  let bytes = 8 * elementsOf(node.operands.x.shape, binding);
  for (const { begin, end, expert } of node.ranges) {
    const rows = sizeOf(end, binding) - (begin === 0 ? 0 : sizeOf(begin, binding));
    const weights = elementsOf(expert.fc1.weight.shape, binding) + elementsOf(expert.fc2.weight.shape, binding);
    flops += rows * (2 * weights + 20 * sizeOf(expert.fc1.weight.shape[0], binding));
    if (rows > 0) bytes += 4 * weights;
  }
  return { flops, bytes };
}

function expertParameters(expert: ExpertWeights): readonly (readonly [string, Parameter])[] {
  return [
    ['norm_gamma', expert.norm.gamma],
    ['norm_beta', expert.norm.beta],
    ['fc1', expert.fc1.weight],
    ['fc1_bias', expert.fc1.bias],
    ['fc2', expert.fc2.weight],
    ['fc2_bias', expert.fc2.bias],
  ] as unknown as readonly (readonly [string, Parameter])[];
}
