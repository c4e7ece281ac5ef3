/** The model that programs load, the queue in front of it, and the types of what they take and give. */
export type { MatchCalibration } from '../checkpoint/index.ts';
export type { LogFields, Logger } from '../runtime/logger.ts';
export type { ItemStream } from '../runtime/source.ts';
export type { Ability } from './abilities.ts';
export type { MixedItems } from './arguments.ts';
export { BatcherRequest } from './batch-request.ts';
export {
  type BatchedOptions,
  type BatchedRerankOptions,
  type BatchedTopOptions,
  Batcher,
  type BatcherOptions,
  type BatcherState,
  type CallStage,
  type Priority,
  type RequestOptions,
  type RunReport,
} from './batcher.ts';
export type { StreamedEmbedding, StreamOptions } from './embed-stream.ts';
export type { EmbeddingMatrix, Embeddings } from './embeddings.ts';
export type { LoadOptions, LoadProgress } from './load.ts';
export type { MixedResults } from './mixed.ts';
export type { ImageInput } from './pictures.ts';
export type { Profile } from './profile.ts';
export type { RerankQuery } from './rerank.ts';
export type {
  AnswerCandidate,
  CallOptions,
  MaskCandidates,
  ModelState,
  Ranked,
  RerankOptions,
  TopOptions,
} from './results.ts';
export { Vlmo } from './vlmo.ts';
export type { WarmupOptions } from './warmup.ts';
