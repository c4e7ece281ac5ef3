/** Bulk jobs: embeddings of more inputs than one process or one machine should hold. */

export { inOrderAhead } from './ahead.ts';
export { type BulkInputs, type InputOptions, openInputs } from './inputs.ts';
export { type BulkOptions, type BulkProgress, type BulkResult, itemErrors, itemsAhead, runBulkJob } from './job.ts';
export { type Format, formats, npyHeader, PartWriter, type Row, writeArrays } from './parts.ts';
export { rowsAsText } from './row-files.ts';
export { parseShard, type Shard } from './shards.ts';
