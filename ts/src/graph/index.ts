/** The typed graph: build, differentiate, lower, print and cost it. */
export { type GraphCost, graphCost, type Machine, type NodeCost } from './cost.ts';
export {
  forwardSequence,
  parameterGradients,
  type Sequence,
  trainingSequence,
  type View,
  type WeightedLoss,
} from './gradient.ts';
export { Graph } from './graph.ts';
export { type Lowered, lower, snake } from './lower.ts';
export {
  type DenseLayout,
  decodeModel,
  emitOnnx,
  encodeModel,
  type ModelProto,
  type OnnxGraph,
  type OnnxValue,
  type OnnxWeight,
  type Part,
  type ReadParameter,
  toModel,
  type WeightPlace,
} from './onnx/index.ts';
export { type AttentionOptions, attention } from './ops/attention.ts';
export { gelu, l2Normalize, tanh } from './ops/elementwise.ts';
export { type PatchEmbedding, type Pixels, patchEmbed, type TextEmbedding, textEmbed } from './ops/embed.ts';
export { type ExpertRange, type ExpertWeights, expertFfn } from './ops/expert-ffn.ts';
export { layerNorm, type Norm } from './ops/layer-norm.ts';
export { type Linear, linear, type Qkv, qkv } from './ops/linear.ts';
export { contrastive, crossEntropy, type Loss, softBce } from './ops/losses.ts';
export type { Binding, Cost, Instruction } from './ops/node.ts';
export { projResidual, type Residual } from './ops/proj-residual.ts';
export { concatRows, gatherRows, reshape } from './ops/rows.ts';
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
  perRun,
  type RowRange,
  type Value,
} from './value.ts';
