/**
 * One MoME Transformer block: shared self-attention, then the feed-forward expert of each row's modality.
 *
 *   x <- x + gamma_1 * proj(attention(qkv(norm1(x))))
 *   x <- x + gamma_2 * ffn_e(norm2_e(x)),  e the expert of the row
 *
 * @see arXiv 2111.02358, section 2.2
 */
import {
  type Activation,
  type AttentionOptions,
  attention,
  type ExpertRange,
  expertFfn,
  gatherRows,
  type Input,
  layerNorm,
  projResidual,
  qkv,
  type Value,
} from '../graph/index.ts';
import type { BlockWeights } from './weights.ts';

/** Epsilon of the blocks' normalisations and of the final one. */
export const blockEps = 1e-6;

/** Drop-path scales of the two branches of a block, given per row at each run. */
export interface DropPath<R extends string = 'rows'> {
  readonly attention: Input<[R], 'f32'>;
  readonly ffn: Input<[R], 'f32'>;
}

/**
 * @param x rows x width
 * @param sequences [sequences, 4] row ranges of each sequence
 * @param experts which rows read which expert
 * @returns rows x width
 */
export function block(
  x: Value<['rows', 'width']>,
  sequences: Input<['sequences', 'range'], 'i32'>,
  weights: BlockWeights,
  experts: readonly ExpertRange[],
  options: Omit<AttentionOptions, 'layer'>,
  dropPath?: DropPath,
): Activation<['rows', 'width']> {
  const normed = layerNorm(x, weights.norm1, blockEps);
  const attended = attention(qkv(normed, weights.qkv), sequences, { ...options, layer: weights.layer });
  const middle = projResidual(x, attended, weights.proj, { gamma: weights.gamma1, rowScale: dropPath?.attention });
  return expertFfn(middle, experts, { gamma: weights.gamma2, rowScale: dropPath?.ffn }, blockEps);
}

/**
 * The last block where only some rows are read afterwards: all rows are attended to, but what follows attention is done for the
 * rows of `keep` alone. They get the numbers that `block` gives them.
 *
 * @param keep [kept] rows of x
 * @param experts which of the kept rows read which expert
 * @returns kept x width
 */
export function lastBlock(
  x: Value<['rows', 'width']>,
  sequences: Input<['sequences', 'range'], 'i32'>,
  weights: BlockWeights,
  keep: Input<['kept'], 'i32'>,
  experts: readonly ExpertRange[],
  options: Omit<AttentionOptions, 'layer'>,
  dropPath?: DropPath<'kept'>,
): Activation<['kept', 'width']> {
  const normed = layerNorm(x, weights.norm1, blockEps);
  const attended = attention(qkv(normed, weights.qkv), sequences, { ...options, layer: weights.layer });
  const middle = projResidual(gatherRows(x, keep), gatherRows(attended, keep), weights.proj, {
    gamma: weights.gamma1,
    rowScale: dropPath?.attention,
  });
  return expertFfn(middle, experts, { gamma: weights.gamma2, rowScale: dropPath?.ffn }, blockEps);
}
