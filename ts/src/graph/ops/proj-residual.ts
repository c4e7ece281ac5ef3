/**
 * proj_residual: `out = x + row_scale gamma (a W^T + bias)`: the end of a block's attention branch.
 */
import type { Activation, Input, Parameter, Value } from '../value.ts';
import type { Linear } from './linear.ts';
import { type Binding, type Cost, elementsOf, expectSame, type GradientContext, type NodeOf, sizeOf } from './node.ts';

export type ProjResidualNode = NodeOf<
  'proj_residual',
  {
    readonly x: Value;
    readonly a: Value;
    readonly weight: Parameter;
    readonly bias: Parameter;
    readonly gamma: Parameter | undefined;
    readonly row_scale: Input | undefined;
  },
  { readonly out: Activation }
>;

/** Scales of a residual branch. */
export interface Residual<R extends string = string> {
  /** Layer scale [width], undefined when the model has none. */
  readonly gamma: Parameter<['width']> | undefined;
  /** Drop path [rows]: 0 or 1 / keep for the rows of each sequence; undefined outside training. */
  readonly rowScale?: Input<[R], 'f32'> | undefined;
}

/**
 * Projects the attention output and adds it to the residual stream.
 *
 * @param x rows x width, the residual stream
 * @param a rows x width, the attention output
 * @returns rows x width
 * @see arXiv 2111.02358, section 2.2; layer scale: arXiv 2103.17239
 */
export function projResidual<R extends string>(
  x: Value<[R, 'width']>,
  a: Value<[R, 'width']>,
  map: Required<Linear<'width', 'width'>>,
  residual: Residual<R>,
): Activation<[R, 'width']> {
  expectSame('proj_residual: inputs of weight', a.shape[1], map.weight.shape[1]);
  const out = x.graph.activation(x.shape);
  x.graph.push<'proj_residual'>({
    op: 'proj_residual',
    operands: {
      x,
      a,
      weight: map.weight as unknown as Parameter,
      bias: map.bias,
      gamma: residual.gamma,
      row_scale: residual.rowScale as Input | undefined,
    },
    results: { out },
    attributes: {},
  });
  return out;
}

/** The gradient of `x` is that of `out` itself: nothing is computed or copied for it. */
export function projResidualGradient(node: ProjResidualNode, context: GradientContext): void {
  const { x, a, weight, bias, gamma, row_scale } = node.operands;
  const dout = context.gradient(node.results.out);
  if (dout === undefined) return;
  const da = context.like(a);
  context.emit({
    op: 'proj_residual',
    operands: {
      a,
      weight,
      bias,
      gamma,
      row_scale,
      dout,
      dweight: context.parameterGradient(weight),
      dbias: context.parameterGradient(bias),
      dgamma: context.parameterGradient(gamma),
    },
    results: { da },
    attributes: {},
  });
  context.add(a, da);
  context.add(x, dout);
}

export function projResidualCost(node: ProjResidualNode, binding: Binding): Cost {
  const rows = sizeOf(node.operands.a.shape[0]!, binding);
  const weights = elementsOf(node.operands.weight.shape, binding);
  return {
    flops: 2 * rows * weights + 3 * elementsOf(node.results.out.shape, binding),
    bytes: 4 * (weights + 3 * elementsOf(node.results.out.shape, binding)),
  };
}
