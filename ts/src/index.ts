/** VLMo for Node.js: image-text search, fusion re-ranking, visual question answering. */

export { type PresetName, presets, type VlmoConfig } from './architecture/config.ts';
export {
  type CheckpointReport,
  type Conversion,
  type ConvertOptions,
  convertCheckpoint,
  inspectCheckpoint,
} from './checkpoint/index.ts';
export {
  type ExportedFunction,
  type ExportOptions,
  exportOnnx,
  type OnnxExport,
} from './export/onnx.ts';
export type { OnnxFunctionName } from './export/onnx-functions.ts';
export { shortName } from './image/input.ts';
export type { RawImage } from './image/pixels.ts';
export { type Fusion, fusedScore, type Judgement } from './inference/fused-score.ts';
export {
  type Ability,
  type AnswerCandidate,
  type BatchedOptions,
  type BatchedRerankOptions,
  type BatchedTopOptions,
  Batcher,
  type BatcherOptions,
  BatcherRequest,
  type BatcherState,
  type CallOptions,
  type CallStage,
  type EmbeddingMatrix,
  type Embeddings,
  type ImageInput,
  type ItemStream,
  type LoadOptions,
  type LoadProgress,
  type LogFields,
  type Logger,
  type MaskCandidates,
  type MatchCalibration,
  type MixedItems,
  type MixedResults,
  type ModelState,
  type Priority,
  type Profile,
  type Ranked,
  type RequestOptions,
  type RerankOptions,
  type RerankQuery,
  type RunReport,
  type StreamedEmbedding,
  type StreamOptions,
  type TopOptions,
  Vlmo,
  type WarmupOptions,
} from './inference/index.ts';
export {
  type BinaryEmbeddings,
  cosineSimilarity,
  hammingDistance,
  type Int8Embeddings,
  type Precision,
  quantizeEmbeddings,
  type VectorLike,
} from './inference/quantize.ts';
export { listModels, type ModelEntry, type PullOptions, pullModel, removeModel } from './registry/index.ts';
export type { CpuInfo, DType } from './runtime/addon.ts';
export type { DeviceName } from './runtime/device.ts';
export { type DoctorCheck, type DoctorReport, diagnose } from './runtime/doctor.ts';
export { type ErrorCode, type ErrorItem, errorCodes, MomeError } from './runtime/errors.ts';
export * from './search/index.ts';
export { type CaseReport, type Check, type VerifyOptions, verifyCase } from './verify/index.ts';
