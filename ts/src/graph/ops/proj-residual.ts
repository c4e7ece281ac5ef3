/**
 * proj_residual: `out = x + row_scale gamma (a W^T + bias)`: the end of a block's attention branch.
 */
import { unsupported } from '../onnx/emission.ts';
import * as operators from '../onnx/operators.ts';
import type { Activation, Input, Parameter, Value } from '../value.ts';
import type { Linear } from './linear.ts';
import { expectSame, type KernelOp, type Node } from './op.ts';
import { elementsOf, sizeOf } from './work.ts';

type ProjResidualNode = Node<
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
  x.graph.push(projResidualOp, {
    operands: { x, a, weight: map.weight, bias: map.bias, gamma: residual.gamma, row_scale: residual.rowScale },
    results: { out },
    attributes: {},
  });
  return out;
}

export const projResidualOp = {
  name: 'proj_residual',
  build: projResidual,
  operands: { x: 'rows', a: 'rows', weight: 'matrix', bias: 'parameter', gamma: 'parameter', row_scale: 'input' },
  results: { out: { inPlaceOf: 'x' } },

  /** The gradient of `x` is that of `out` itself: nothing is computed or copied for it. */
  gradient({ operands: { x, ...branch }, results: { out } }, context) {
    const dout = context.gradient(out);
    if (dout === undefined) return;
    context.emit(projResidualOp, {
      operands: { ...branch, dout, ...context.parameterGradients(branch) },
      gradients: { da: branch.a },
      attributes: {},
    });
    context.add(x, dout);
  },

  cost({ operands: { a, weight }, results: { out } }, binding) {
    const weights = elementsOf(weight.shape, binding);
    const elements = elementsOf(out.shape, binding);
    return {
      flops: 2 * sizeOf(a.shape[0]!, binding) * weights + 3 * elements,
      bytes: 4 * (weights + 3 * elements),
    };
  },

  onnx({ operands: { x, a, weight, bias, gamma, row_scale } }, emission) {
    if (row_scale) throw unsupported('proj_residual with drop path');
    const branch = operators.linear(emission.tensor(a), weight, bias, emission, gamma);
    return emission.onnx.op('Add', [emission.tensor(x), branch]);
  },
} as const satisfies KernelOp<'proj_residual', ProjResidualNode>;
