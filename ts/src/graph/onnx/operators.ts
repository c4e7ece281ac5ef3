/**
 * The ONNX operators that several ops are made of, over dense [batch, tokens, width] tensors.
 */
import type { Parameter } from '../value.ts';
import type { Tensor } from './builder.ts';
import { type Emission, type Form, sizesOf, unsupported } from './emission.ts';

/** The rule of an op that no exported function holds. */
export function refuse(what: string): () => never {
  return () => {
    throw unsupported(what);
  };
}

/** Normalisation of the last axis. */
export function layerNorm(x: Tensor, gamma: Parameter, beta: Parameter, eps: number, emission: Emission): Tensor {
  return emission.onnx.op('LayerNormalization', [x, emission.weight(gamma), emission.weight(beta)], {
    axis: -1,
    epsilon: { float: eps },
  });
}

/** `x W^T`, with layer scale taken into the weight: one pass over the rows less. */
export function product(x: Tensor, weight: Parameter, gamma: Parameter | undefined, emission: Emission): Tensor {
  const [outputs, inputs] = sizesOf(weight.shape);
  const form = {
    suffix: gamma ? 'scaled_transposed' : 'transposed',
    shape: [inputs!, outputs!],
    from: transposed(outputs!, inputs!),
    ...(gamma && { with: gamma }),
  };
  return emission.onnx.op('MatMul', [x, emission.weight(weight, form)]);
}

/** `x W^T + bias`, times layer scale where there is one. */
export function linear(
  x: Tensor,
  weight: Parameter,
  bias: Parameter | undefined,
  emission: Emission,
  gamma?: Parameter,
): Tensor {
  const y = product(x, weight, gamma, emission);
  if (bias === undefined) return y;
  const form = gamma && { suffix: 'scaled', shape: sizesOf(bias.shape), with: gamma, from: scaled };
  return emission.onnx.op('Add', [y, emission.weight(bias, form)]);
}

/** `x Phi(x)` in the five operators that ONNX Runtime makes one kernel of, together with the bias before them. */
export function gelu(x: Tensor, { onnx }: Emission): Tensor {
  const erf = onnx.op('Erf', [onnx.op('Div', [x, onnx.float(Math.SQRT2)])]);
  return onnx.op('Mul', [onnx.op('Mul', [x, onnx.op('Add', [erf, onnx.float(1)])]), onnx.float(0.5)]);
}

/** One row of a table, by which every token is moved. */
export function rowOf(table: Parameter, row: number, emission: Emission): Tensor {
  const [, width] = sizesOf(table.shape);
  const from: Form = (values) => values.slice(row * width!, (row + 1) * width!);
  return emission.weight(table, { suffix: `row_${row}`, shape: [width!], from });
}

const scaled: Form = (values, gamma) => values.map((value, i) => value * gamma![i]!);

/** [outputs, inputs] to [inputs, outputs], output `o` times `gamma[o]` where there is one. */
const transposed =
  (outputs: number, inputs: number): Form =>
  (values, gamma) => {
    const out = new Float32Array(values.length);
    for (let o = 0; o < outputs; o++) {
      const scale = gamma?.[o] ?? 1;
      for (let i = 0; i < inputs; i++) out[i * outputs + o] = values[o * inputs + i]! * scale;
    }
    return out;
  };
