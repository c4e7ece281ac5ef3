/**
 * How each op is written as ONNX operators over dense [batch, tokens, width] tensors. An op without a rule does not compile.
 */
import type { AnyNode, Node, OpName } from '../ops/index.ts';
import { sizeOf } from '../ops/node.ts';
import type { Parameter } from '../value.ts';
import type { Tensor } from './builder.ts';
import { type Emission, type Form, sizesOf, unsupported } from './emission.ts';
import { expandBias, type Token, tableRows } from './relative-position.ts';

/** Gives the tensor of the result that other nodes read. */
type Rule<K extends OpName> = (node: Node<K>, emission: Emission) => Tensor;

/** Added to the scores of keys that are padding: their weight underflows to exactly 0. */
const paddingScore = -1e9;

export const onnxRules: { readonly [K in OpName]: Rule<K> } = {
  text_embed: (node, emission) => {
    const { onnx, ids } = emission;
    const { word, segment, position, gamma, beta, type } = node.operands;
    if (node.attributes.dropout > 0) throw unsupported('text_embed with dropout');
    const words = onnx.op('Gather', [emission.weight(word), ids]);
    const segmented = onnx.op('Add', [words, firstRow(segment, 0, emission)]);
    const placed = position ? onnx.op('Add', [segmented, textPositions(position, emission)]) : segmented;
    const normed = layerNorm(placed, gamma, beta, node.attributes.eps, emission);
    return onnx.op('Add', [normed, firstRow(type, 0, emission)]);
  },

  patch_embed: (node, emission) => {
    const { onnx, layout } = emission;
    const { weight, bias, cls, position, type, bytes } = node.operands;
    const { image_size, patch_size } = node.attributes;
    if (bytes) throw unsupported('pixels as bytes');
    const [width] = sizesOf(weight.shape);
    const kernel = { suffix: 'kernel', shape: [width!, 3, patch_size, patch_size], from: same };
    const patches = onnx.op(
      'Conv',
      [emission.pixels(3, image_size), emission.weight(weight, kernel), emission.weight(bias)],
      { kernel_shape: [patch_size, patch_size], strides: [patch_size, patch_size] },
    );
    const rows = onnx.op('Transpose', [onnx.op('Reshape', [patches, onnx.ints(0, 0, -1)])], { perm: [0, 2, 1] });
    const batch = onnx.op('Shape', [rows], { start: 0, end: 1 });
    const shape = onnx.op('Concat', [batch, onnx.ints(1, width!)], { axis: 0 });
    const tokens = onnx.op('Concat', [onnx.op('Expand', [emission.weight(cls), shape]), rows], { axis: 1 });
    const placed = position ? onnx.op('Add', [tokens, emission.weight(position)]) : tokens;
    return onnx.op('Add', [placed, firstRow(type, layout.imageType, emission)]);
  },

  concat_rows: (node, emission) => {
    const { first, second } = node.operands;
    const { begin } = node.attributes;
    const pieces = [
      { value: first, parts: emission.partsBetween(0, begin) },
      { value: second, parts: emission.partsBetween(begin, node.results.y.shape[0]!) },
    ].filter(({ parts }) => parts.length > 0);
    return emission.join(pieces.map(({ value, parts }) => ({ parts, tensor: emission.tensor(value) })));
  },

  layer_norm: (node, emission) => {
    const { x, gamma, beta } = node.operands;
    return layerNorm(emission.tensor(x), gamma, beta, node.attributes.eps, emission);
  },

  qkv: (node, emission) => {
    const { x, weight, q_bias, v_bias } = node.operands;
    const [width] = sizesOf(q_bias.shape);
    const bias = emission.weight(q_bias, {
      suffix: 'qkv',
      shape: [3 * width!],
      with: v_bias,
      from: (q, v) => {
        const joint = new Float32Array(3 * width!);
        joint.set(q);
        joint.set(v!, 2 * width!);
        return joint;
      },
    });
    return emission.onnx.op('Add', [product(emission.tensor(x), weight, undefined, emission), bias]);
  },

  attention: (node, emission) => {
    const { onnx } = emission;
    const { heads, scale } = node.attributes;
    const width = sizeOf(node.results.out.shape[1]!, {});
    const byHead = onnx
      .split('Split', [emission.tensor(node.operands.qkv)], 3, { axis: -1 })
      .map((part) => onnx.op('Reshape', [part, onnx.ints(0, 0, heads, width / heads)]));
    const queries = onnx.op('Transpose', [byHead[0]!], { perm: [0, 2, 1, 3] });
    const keys = onnx.op('Transpose', [byHead[1]!], { perm: [0, 2, 3, 1] });
    const values = onnx.op('Transpose', [byHead[2]!], { perm: [0, 2, 1, 3] });
    const products = onnx.op('MatMul', [onnx.op('Mul', [queries, onnx.float(scale)]), keys]);
    const scores = [relativeBias(node, emission), keyMask(emission)]
      .filter((term) => term !== undefined)
      .reduce((sum, term) => onnx.op('Add', [sum, term]), products);
    const attended = onnx.op('MatMul', [onnx.op('Softmax', [scores], { axis: -1 }), values]);
    return onnx.op('Reshape', [onnx.op('Transpose', [attended], { perm: [0, 2, 1, 3] }), onnx.ints(0, 0, width)]);
  },

  proj_residual: (node, emission) => {
    const { x, a, weight, bias, gamma, row_scale } = node.operands;
    if (row_scale) throw unsupported('proj_residual with drop path');
    const branch = linear(emission.tensor(a), weight, bias, emission, gamma);
    return emission.onnx.op('Add', [emission.tensor(x), branch]);
  },

  expert_ffn: (node, emission) => {
    const { onnx } = emission;
    const { x, gamma, row_scale } = node.operands;
    if (row_scale) throw unsupported('expert_ffn with drop path');
    const whole = emission.tensor(x);
    const routed = node.ranges
      .map(({ begin, end, expert }) => ({ expert, parts: emission.partsBetween(begin, end) }))
      .filter(({ parts }) => parts.length > 0)
      .map(({ expert, parts }) => {
        const rows = emission.tokensOf(whole, parts);
        const { norm, fc1, fc2 } = expert;
        const normed = layerNorm(rows, plain(norm.gamma), plain(norm.beta), node.attributes.eps, emission);
        const hidden = gelu(linear(normed, plain(fc1.weight), plain(fc1.bias), emission), emission);
        const branch = linear(hidden, plain(fc2.weight), plain(fc2.bias), emission, gamma as Parameter | undefined);
        return { parts, tensor: onnx.op('Add', [rows, branch]) };
      });
    return emission.join(routed);
  },

  gather_rows: (node, emission) => {
    const { x, index } = node.operands;
    const part = emission.layout.firstTokens[index.name];
    if (part === undefined) throw unsupported(`rows picked by "${index.name}"`);
    const token = emission.onnx.int(emission.firstTokenOf(part));
    return emission.onnx.op('Gather', [emission.tensor(x), token], { axis: 1 });
  },

  reshape: () => {
    throw unsupported('reshape, which puts rows of several sequences together');
  },

  linear: (node, emission) => {
    const { x, weight, bias } = node.operands;
    return linear(emission.tensor(x), weight, bias, emission);
  },

  tanh: (node, emission) => emission.onnx.op('Tanh', [emission.tensor(node.operands.x)]),

  gelu: (node, emission) => gelu(emission.tensor(node.operands.x), emission),

  l2_normalize: (node, emission) =>
    emission.onnx.op('LpNormalization', [emission.tensor(node.operands.x)], { axis: -1, p: 2 }),

  cross_entropy: loss,
  soft_bce: loss,
  contrastive: loss,
};

/** The rule of one node, applied. */
export function emitNode(node: AnyNode, emission: Emission): Tensor {
  return (onnxRules[node.op] as (node: AnyNode, emission: Emission) => Tensor)(node, emission);
}

function loss(node: AnyNode): never {
  throw unsupported(`the loss ${node.op}`);
}

function layerNorm(x: Tensor, gamma: Parameter, beta: Parameter, eps: number, emission: Emission): Tensor {
  return emission.onnx.op('LayerNormalization', [x, emission.weight(gamma), emission.weight(beta)], {
    axis: -1,
    epsilon: { float: eps },
  });
}

/** `x W^T`, with layer scale taken into the weight: one pass over the rows less. */
function product(x: Tensor, weight: Parameter, gamma: Parameter | undefined, emission: Emission): Tensor {
  const [outputs, inputs] = sizesOf(weight.shape);
  const form = {
    suffix: gamma ? 'scaled_transposed' : 'transposed',
    shape: [inputs!, outputs!],
    from: transposed(outputs!, inputs!),
    ...(gamma && { with: gamma }),
  };
  return emission.onnx.op('MatMul', [x, emission.weight(weight, form)]);
}

function linear(
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
function gelu(x: Tensor, { onnx }: Emission): Tensor {
  const erf = onnx.op('Erf', [onnx.op('Div', [x, onnx.float(Math.SQRT2)])]);
  return onnx.op('Mul', [onnx.op('Mul', [x, onnx.op('Add', [erf, onnx.float(1)])]), onnx.float(0.5)]);
}

/** The layer's bias [1, heads, tokens, tokens], expanded from the table at export and cut to the text of the run. */
function relativeBias(node: Node<'attention'>, emission: Emission): Tensor | undefined {
  const { table } = node.operands;
  if (table === undefined) return undefined;
  const { onnx, layout } = emission;
  const { heads, table_column, grid, text_init_length } = node.attributes;
  const tokens = sequenceTokens(layout.imageTokens, layout.maxTextTokens);
  const columns = sizesOf(table.shape)[1]!;
  const bias = onnx.weight({
    name: `${table.name}.${layout.name}.${table_column / heads}`,
    shape: [1, heads, tokens.length, tokens.length],
    parameters: [table.name],
    values: async (read) => {
      const rows = tableRows({ grid, textInitLength: text_init_length }, tokens);
      return expandBias(await read(table.name), columns, rows, heads, table_column);
    },
  });
  if (layout.maxTextTokens === 0) return bias;
  const ends = emission.once('token_count', () => {
    const count = onnx.op('Add', [emission.textLength, onnx.ints(layout.imageTokens)]);
    return onnx.op('Concat', [count, count], { axis: 0 });
  });
  return onnx.op('Slice', [bias, onnx.ints(0, 0), ends, onnx.ints(2, 3)]);
}

/** What is added to the scores of every key, [batch, 1, 1, tokens]: 0, and much less for padding. */
function keyMask(emission: Emission): Tensor | undefined {
  const { onnx, layout } = emission;
  if (layout.maxTextTokens === 0) return undefined;
  return emission.once('key_mask', () => {
    const absent = onnx.op('Sub', [onnx.op('Cast', [emission.mask], { to: 1 }), onnx.float(1)]);
    const text = onnx.op('Mul', [absent, onnx.float(-paddingScore)]);
    const all = layout.imageTokens === 0 ? text : onnx.op('Pad', [text, onnx.ints(0, layout.imageTokens, 0, 0)]);
    return onnx.op('Unsqueeze', [all, onnx.ints(1, 2)]);
  });
}

/** Rows [0, text length) of the position table. */
function textPositions(position: Parameter, emission: Emission): Tensor {
  const { onnx } = emission;
  return onnx.op('Slice', [emission.weight(position), onnx.ints(0), emission.textLength, onnx.ints(0)]);
}

function sequenceTokens(imageTokens: number, textTokens: number): readonly Token[] {
  const of = (part: Token['part'], count: number) => Array.from({ length: count }, (_, index) => ({ part, index }));
  return [...of('image', imageTokens), ...of('text', textTokens)];
}

/** One row of a table, by which every token is moved. */
function firstRow(table: Parameter, row: number, emission: Emission): Tensor {
  const [, width] = sizesOf(table.shape);
  const from: Form = (values) => values.slice(row * width!, (row + 1) * width!);
  return emission.weight(table, { suffix: `row_${row}`, shape: [width!], from });
}

const same: Form = (values) => values;

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

/** A parameter whose dimension names no rule asks for. */
const plain = (parameter: object): Parameter => parameter as Parameter;
