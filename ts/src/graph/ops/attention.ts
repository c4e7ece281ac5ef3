/**
 * attention: `softmax(scale q k^T + bias) v` per sequence and head, over ragged rows.
 */
import type { Activation, Dim, Input, Parameter, Value } from '../value.ts';
import { type Binding, type Cost, elementsOf, type GradientContext, type NodeOf, sizeOf } from './node.ts';

export type AttentionNode = NodeOf<
  'attention',
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

/** What attention needs to know besides the rows. */
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
  graph.push<'attention'>({
    op: 'attention',
    operands: {
      qkv: projected,
      sequences: sequences as unknown as Input,
      table: options.table as Parameter | undefined,
    },
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

export function attentionGradient(node: AttentionNode, context: GradientContext): void {
  const { qkv, sequences, table } = node.operands;
  const { out, lse } = node.results;
  const dout = context.gradient(out);
  if (dout === undefined) return;
  const dqkv = context.like(qkv);
  context.emit({
    op: 'attention',
    operands: { qkv, sequences, table, out, lse, dout, dtable: context.parameterGradient(table) },
    results: { dqkv },
    attributes: node.attributes,
  });
  context.add(qkv, dqkv);
}

/** Needs `scorePairs` in the binding: the sum over sequences of tokens squared. */
export function attentionCost(node: AttentionNode, binding: Binding): Cost {
  const pairs = sizeOf({ name: 'scorePairs', size: undefined }, binding);
  const width = sizeOf(node.results.out.shape[1]!, binding);
  return {
    flops: pairs * (4 * width + 5 * node.attributes.heads),
    bytes: 4 * (elementsOf(node.operands.qkv.shape, binding) + elementsOf(node.results.out.shape, binding)),
  };
}
