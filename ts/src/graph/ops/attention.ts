/**
 * attention: `softmax(scale q k^T + bias) v` per sequence and head, over ragged rows.
 */
import type { Tensor } from '../onnx/builder.ts';
import { type Emission, sizesOf } from '../onnx/emission.ts';
import { expandBias, type Token, tableRows } from '../onnx/relative-position.ts';
import type { Activation, Dim, Input, Parameter, Value } from '../value.ts';
import type { KernelOp, Node } from './op.ts';
import { elementsOf, sizeOf } from './work.ts';

type AttentionNode = Node<
  { readonly qkv: Value; readonly sequences: Input; readonly table: Parameter | undefined },
  { readonly out: Activation; readonly lse: Activation },
  {
    readonly heads: number;
    readonly scale: number;
    readonly table_column: number;
    readonly grid: number;
    readonly text_init_length: number;
  }
>;

/** Arguments of attention besides the rows. */
export interface AttentionOptions {
  readonly heads: number;
  /** Index of the block: selects its columns of the relative table. */
  readonly layer: number;
  readonly width: Dim<'width'>;
  /** `relative_position_bias_table` [positions, heads x layers]; undefined with absolute positions. */
  readonly table: Parameter<['positions', 'tableColumns']> | undefined;
  /** Patches along one side of the picture. */
  readonly grid: number;
  /** Text length the text part of the table was sized for. */
  readonly textInitLength: number;
}

/**
 * Self-attention inside every sequence of the batch.
 *
 * @param projected rows x 3 width, from `qkv`
 * @param sequences [sequences, 4]: text begin, text length, image begin, image length of each sequence, in rows
 * @returns rows x width
 * @see arXiv 2111.02358, section 2.2; relative positions as in BEiT (arXiv 2106.08254)
 */
export function attention<R extends string>(
  projected: Value<[R, 'qkv']>,
  sequences: Input<['sequences', 'range'], 'i32'>,
  options: AttentionOptions,
): Activation<[R, 'width']> {
  const { graph } = projected;
  const rows = projected.shape[0];
  const out = graph.activation<[R, 'width']>([rows, options.width]);
  const lse = graph.activation<[R, 'heads']>([rows, { name: 'heads', size: options.heads }]);
  graph.push(attentionOp, {
    operands: { qkv: projected, sequences, table: options.table },
    results: { out, lse },
    attributes: {
      heads: options.heads,
      scale: (sizeOf(options.width, {}) / options.heads) ** -0.5,
      table_column: options.layer * options.heads,
      grid: options.grid,
      text_init_length: options.textInitLength,
    },
  });
  return out;
}

export const attentionOp = {
  name: 'attention',
  build: attention,
  operands: { qkv: 'rows', sequences: 'input', table: 'parameter' },
  results: { out: 'required', lse: 'optional' },

  gradient({ operands, results: { out, lse }, attributes }, context) {
    const dout = context.gradient(out);
    if (dout === undefined) return;
    context.emit(attentionOp, {
      operands: { ...operands, out, lse, dout, ...context.parameterGradients(operands) },
      gradients: { dqkv: operands.qkv },
      attributes,
    });
  },

  /** Needs `scorePairs` in the binding: the sum over sequences of tokens squared. */
  cost({ operands: { qkv }, results: { out }, attributes: { heads } }, binding) {
    const pairs = sizeOf({ name: 'scorePairs', size: undefined }, binding);
    const width = sizeOf(out.shape[1]!, binding);
    return {
      flops: pairs * (4 * width + 5 * heads),
      bytes: 4 * (elementsOf(qkv.shape, binding) + elementsOf(out.shape, binding)),
    };
  },

  onnx(node, emission) {
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
} as const satisfies KernelOp<'attention', AttentionNode>;

/** Added to the scores of keys that are padding: their weight underflows to exactly 0. */
const paddingScore = -1e9;

/** The layer's bias [1, heads, tokens, tokens], expanded from the table at export and cut to the text of the run. */
function relativeBias(node: AttentionNode, emission: Emission): Tensor | undefined {
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

/** Added to the scores of every key, [batch, 1, 1, tokens]: 0, and much less for padding. */
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

function sequenceTokens(imageTokens: number, textTokens: number): readonly Token[] {
  const of = (part: Token['part'], count: number) => Array.from({ length: count }, (_, index) => ({ part, index }));
  return [...of('image', imageTokens), ...of('text', textTokens)];
}
