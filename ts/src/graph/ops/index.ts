/**
 * The registry of ops: adding one here without its gradient rule or cost rule does not compile.
 */
import { type AttentionNode, attentionCost, attentionGradient } from './attention.ts';
import {
  elementwiseCost,
  type GeluNode,
  geluGradient,
  type L2NormalizeNode,
  type TanhNode,
  tanhGradient,
} from './elementwise.ts';
import {
  type PatchEmbedNode,
  patchEmbedCost,
  patchEmbedGradient,
  type TextEmbedNode,
  textEmbedCost,
  textEmbedGradient,
} from './embed.ts';
import { type ExpertFfnNode, expertFfnCost, expertFfnGradient } from './expert-ffn.ts';
import { type LayerNormNode, layerNormCost, layerNormGradient } from './layer-norm.ts';
import { type LinearNode, linearCost, linearGradient, type QkvNode, qkvGradient } from './linear.ts';
import {
  type ContrastiveNode,
  type CrossEntropyNode,
  contrastiveCost,
  contrastiveGradient,
  crossEntropyGradient,
  lossCost,
  type SoftBceNode,
  softBceGradient,
} from './losses.ts';
import type { Binding, Cost, GradientContext } from './node.ts';
import { type ProjResidualNode, projResidualCost, projResidualGradient } from './proj-residual.ts';
import {
  type ConcatRowsNode,
  concatRowsGradient,
  type GatherRowsNode,
  gatherRowsCost,
  gatherRowsGradient,
  type ReshapeNode,
  reshapeGradient,
  viewCost,
} from './rows.ts';

/** Node type of every op. */
export interface Nodes {
  patch_embed: PatchEmbedNode;
  text_embed: TextEmbedNode;
  layer_norm: LayerNormNode;
  qkv: QkvNode;
  attention: AttentionNode;
  proj_residual: ProjResidualNode;
  expert_ffn: ExpertFfnNode;
  gather_rows: GatherRowsNode;
  concat_rows: ConcatRowsNode;
  reshape: ReshapeNode;
  linear: LinearNode;
  tanh: TanhNode;
  gelu: GeluNode;
  l2_normalize: L2NormalizeNode;
  cross_entropy: CrossEntropyNode;
  soft_bce: SoftBceNode;
  contrastive: ContrastiveNode;
}

export type OpName = keyof Nodes;
export type Node<K extends OpName> = Nodes[K];
export type AnyNode = Nodes[OpName];

/** Ops that only rename memory and never become kernel calls. */
export const viewOps: ReadonlySet<OpName> = new Set<OpName>(['concat_rows', 'reshape']);

/** Gradient rule of every op. */
export const gradientRules: { readonly [K in OpName]: (node: Node<K>, context: GradientContext) => void } = {
  patch_embed: patchEmbedGradient,
  text_embed: textEmbedGradient,
  layer_norm: layerNormGradient,
  qkv: qkvGradient,
  attention: attentionGradient,
  proj_residual: projResidualGradient,
  expert_ffn: expertFfnGradient,
  gather_rows: gatherRowsGradient,
  concat_rows: concatRowsGradient,
  reshape: reshapeGradient,
  linear: linearGradient,
  tanh: tanhGradient,
  gelu: geluGradient,
  l2_normalize: geluGradient,
  cross_entropy: crossEntropyGradient,
  soft_bce: softBceGradient,
  contrastive: contrastiveGradient,
};

/** Cost rule of every op, for its forward kernel. */
export const costRules: { readonly [K in OpName]: (node: Node<K>, binding: Binding) => Cost } = {
  patch_embed: patchEmbedCost,
  text_embed: textEmbedCost,
  layer_norm: layerNormCost,
  qkv: linearCost,
  attention: attentionCost,
  proj_residual: projResidualCost,
  expert_ffn: expertFfnCost,
  gather_rows: gatherRowsCost,
  concat_rows: viewCost,
  reshape: viewCost,
  linear: linearCost,
  tanh: elementwiseCost,
  gelu: elementwiseCost,
  l2_normalize: elementwiseCost,
  cross_entropy: lossCost,
  soft_bce: lossCost,
  contrastive: contrastiveCost,
};

/** The gradient rule of one node. */
export function differentiate(node: AnyNode, context: GradientContext): void {
  (gradientRules[node.op] as (node: AnyNode, context: GradientContext) => void)(node, context);
}

/** The forward cost of one node. */
export function costOf(node: AnyNode, binding: Binding): Cost {
  return (costRules[node.op] as (node: AnyNode, binding: Binding) => Cost)(node, binding);
}
