/**
 * The table of ops: one object each. An object that lacks a part of its op, or stands under another name, does not compile.
 */
import { addOp } from './add.ts';
import { attentionOp } from './attention.ts';
import { concatRowsOp } from './concat-rows.ts';
import { contrastiveOp } from './contrastive.ts';
import { crossEntropyOp } from './cross-entropy.ts';
import { expertFfnOp } from './expert-ffn.ts';
import { gatherRowsOp } from './gather-rows.ts';
import { geluOp } from './gelu.ts';
import { l2NormalizeOp } from './l2-normalize.ts';
import { layerNormOp } from './layer-norm.ts';
import { linearOp } from './linear.ts';
import { opTable } from './op.ts';
import { patchEmbedOp } from './patch-embed.ts';
import { projResidualOp } from './proj-residual.ts';
import { qkvOp } from './qkv.ts';
import { reshapeOp } from './reshape.ts';
import { softBceOp } from './soft-bce.ts';
import { tanhOp } from './tanh.ts';
import { textEmbedOp } from './text-embed.ts';

export const ops = opTable({
  patch_embed: patchEmbedOp,
  text_embed: textEmbedOp,
  layer_norm: layerNormOp,
  qkv: qkvOp,
  attention: attentionOp,
  proj_residual: projResidualOp,
  expert_ffn: expertFfnOp,
  gather_rows: gatherRowsOp,
  concat_rows: concatRowsOp,
  reshape: reshapeOp,
  linear: linearOp,
  tanh: tanhOp,
  gelu: geluOp,
  l2_normalize: l2NormalizeOp,
  cross_entropy: crossEntropyOp,
  soft_bce: softBceOp,
  contrastive: contrastiveOp,
  add: addOp,
});
