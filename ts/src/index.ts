/** VLMo for Node.js: image-text search, fusion re-ranking, visual question answering. */
export { type CheckpointReport, convertCheckpoint, inspectCheckpoint } from './checkpoint/index.ts';
export { type PresetName, presets, type VlmoConfig } from './model/config.ts';
export {
  type AnswerCandidate,
  type CallOptions,
  type Embeddings,
  type ImageInput,
  type LoadOptions,
  type MaskCandidates,
  type Ranked,
  Vlmo,
} from './model/vlmo.ts';
export { type RawImage } from './image/decode.ts';
export { type ErrorCode, errorCodes, MomeError } from './runtime/errors.ts';
export { type CaseReport, verifyCase } from './verify/index.ts';
export { diagnose, type DoctorReport } from './runtime/doctor.ts';
export * from './search/index.ts';
