/** The typed graph: build, differentiate, lower, print and cost it. */
export * from './contract.ts';
export { type GraphCost, graphCost, type Machine, type NodeCost } from './cost.ts';
export {
  forwardSequence,
  parameterGradients,
  type Seed,
  type Sequence,
  trainingSequence,
  type WeightedLoss,
} from './gradient.ts';
export { Graph } from './graph.ts';
export { type Lowered, lower } from './lower.ts';
export * from './onnx/index.ts';
export { type AttentionOptions, attention } from './ops/attention.ts';
export { concatRows } from './ops/concat-rows.ts';
export { contrastive } from './ops/contrastive.ts';
export { crossEntropy } from './ops/cross-entropy.ts';
export { type ExpertRange, type ExpertWeights, expertFfn } from './ops/expert-ffn.ts';
export { gatherRows } from './ops/gather-rows.ts';
export { gelu } from './ops/gelu.ts';
export { l2Normalize } from './ops/l2-normalize.ts';
export { layerNorm, type Norm } from './ops/layer-norm.ts';
export { type Linear, linear } from './ops/linear.ts';
export type { Loss } from './ops/loss.ts';
export type { Instruction, View } from './ops/op.ts';
export { type PatchEmbedding, type PatchMask, type Pixels, patchEmbed } from './ops/patch-embed.ts';
export { projResidual, type Residual } from './ops/proj-residual.ts';
export { type Qkv, qkv } from './ops/qkv.ts';
export { reshape } from './ops/reshape.ts';
export { softBce } from './ops/soft-bce.ts';
export { tanh } from './ops/tanh.ts';
export { dropoutSeed, type TextEmbedding, textEmbed } from './ops/text-embed.ts';
export type { Binding, Cost } from './ops/work.ts';
export { printGraph } from './print.ts';
export {
  type Activation,
  type Dim,
  type Dims,
  type ElementType,
  fixed,
  formatShape,
  type Input,
  type Parameter,
  type ParameterGradient,
  type RowRange,
  type Value,
} from './value.ts';
