/** Bulk jobs: embeddings of more inputs than one process or one machine should hold. */
export { type BulkInputs, type InputOptions, openInputs } from './inputs.ts';
export { type BulkOptions, type BulkProgress, type BulkResult, runBulkJob } from './job.ts';
export { type Format, formats } from './parts.ts';
export { parseShard, type Shard } from './shards.ts';
