/**
 * expert_ffn: the mixture-of-modality-experts feed-forward layer. Rows are sorted by modality, so an expert is a row range:
 * `out = x + row_scale gamma fc2_e(gelu(fc1_e(layer_norm_e(x))))`.
 */
import { check } from '../../runtime/errors.ts';
import { unsupported } from '../onnx/emission.ts';
import * as operators from '../onnx/operators.ts';
import type { Activation, Input, Parameter, RowRange, Value } from '../value.ts';
import type { Norm } from './layer-norm.ts';
import type { Linear } from './linear.ts';
import type { Attribute, KernelOp, Node } from './op.ts';
import type { Residual } from './proj-residual.ts';
import { elementsOf, sizeOf } from './work.ts';

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

/** Parameters of one expert, each with its role; the operand is `<name>_<place of its range>`. */
const expertRoles = {
  norm_gamma: 'parameter',
  norm_beta: 'parameter',
  fc1: 'matrix',
  fc1_bias: 'parameter',
  fc2: 'matrix',
  fc2_bias: 'parameter',
} as const;
type ExpertKey = keyof typeof expertRoles;
type ExpertOperands<T extends Readonly<Record<ExpertKey, unknown>>> = {
  readonly [K in ExpertKey as `${K}_${0 | 1 | 2}`]: T[K];
};

type ExpertFfnNode = Node<
  { readonly x: Value; readonly gamma: Parameter | undefined; readonly row_scale: Input | undefined } & Partial<
    ExpertOperands<Readonly<Record<ExpertKey, Parameter>>>
  >,
  { readonly out: Activation; readonly pre_activation: Activation },
  Readonly<Record<string, Attribute>> & { readonly eps: number }
> & { readonly ranges: readonly ExpertRange[] };

/**
 * Sends every row through the feed-forward expert of its modality and adds the result to the residual stream.
 *
 * @param x rows x width, the residual stream
 * @param ranges row ranges in ascending order without gaps; a range may be empty. On a processor they cover all rows, on a device the
 *   results of others are undefined
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
  const offsets = ranges.flatMap(({ begin, end }, i) => [
    [`begin${i}`, begin],
    [`end${i}`, end],
  ]);
  graph.push(expertFfnOp, {
    operands: {
      x,
      ...numbered(ranges.map(({ expert }) => parametersOf(expert))),
      gamma: residual.gamma,
      row_scale: residual.rowScale,
    },
    results: { out, pre_activation: preActivation },
    attributes: { ...Object.fromEntries(offsets), eps },
    ranges,
  });
  return out;
}

export const expertFfnOp = {
  name: 'expert_ffn',
  build: expertFfn,
  operands: {
    x: 'rows',
    ...(numbered(Array<typeof expertRoles>(maxExperts).fill(expertRoles)) as ExpertOperands<typeof expertRoles>),
    gamma: 'parameter',
    row_scale: 'input',
  },
  results: { out: { inPlaceOf: 'x' }, pre_activation: 'optional' },

  gradient({ operands, results: { out, pre_activation }, attributes, ranges }, context) {
    const dout = context.gradient(out);
    if (dout === undefined) return;
    const { x, gamma } = operands;
    const experts = ranges.map(({ expert, ...rows }, i) =>
      context.parameterGradients(numbered([parametersOf(expert)], i), rows),
    );
    context.emit(expertFfnOp, {
      operands: {
        ...operands,
        pre_activation,
        dout,
        ...context.parameterGradients({ gamma }),
        ...Object.assign({}, ...experts),
      },
      gradients: { dx: x },
      attributes,
      inPlace: { dx: 'dout' },
    });
  },

  cost({ operands: { x }, ranges }, binding) {
    let flops = 0;
    let bytes = 8 * elementsOf(x.shape, binding);
    for (const { begin, end, expert } of ranges) {
      const rows = sizeOf(end, binding) - (begin === 0 ? 0 : sizeOf(begin, binding));
      const weights = elementsOf(expert.fc1.weight.shape, binding) + elementsOf(expert.fc2.weight.shape, binding);
      flops += rows * (2 * weights + 20 * sizeOf(expert.fc1.weight.shape[0], binding));
      if (rows > 0) bytes += 4 * weights;
    }
    return { flops, bytes };
  },

  onnx({ operands: { x, gamma, row_scale }, attributes: { eps }, ranges }, emission) {
    if (row_scale) throw unsupported('expert_ffn with drop path');
    const whole = emission.tensor(x);
    const routed = ranges
      .map(({ begin, end, expert }) => ({ expert, parts: emission.partsBetween(begin, end) }))
      .filter(({ parts }) => parts.length > 0)
      .map(({ expert: { norm, fc1, fc2 }, parts }) => {
        const rows = emission.tokensOf(whole, parts);
        const normed = operators.layerNorm(rows, norm.gamma, norm.beta, eps, emission);
        const hidden = operators.gelu(operators.linear(normed, fc1.weight, fc1.bias, emission), emission);
        const branch = operators.linear(hidden, fc2.weight, fc2.bias, emission, gamma);
        return { parts, tensor: emission.onnx.op('Add', [rows, branch]) };
      });
    return emission.join(routed);
  },
} as const satisfies KernelOp<'expert_ffn', ExpertFfnNode>;

function parametersOf({ norm, fc1, fc2 }: ExpertWeights): Readonly<Record<ExpertKey, Parameter>> {
  return {
    norm_gamma: norm.gamma,
    norm_beta: norm.beta,
    fc1: fc1.weight,
    fc1_bias: fc1.bias,
    fc2: fc2.weight,
    fc2_bias: fc2.bias,
  };
}

/** The fields of each expert under the names of operands. */
function numbered<T extends Readonly<Record<ExpertKey, unknown>>>(
  experts: readonly T[],
  first = 0,
): Partial<ExpertOperands<T>> {
  const fields = experts.flatMap((expert, i) =>
    Object.entries(expert).map(([key, value]) => [`${key}_${first + i}`, value]),
  );
  return Object.fromEntries(fields);
}
