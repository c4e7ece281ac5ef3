/**
 * `mome inspect`: what a checkpoint is, and how it fits the library.
 */
import type { VlmoConfig } from '../architecture/config.ts';
import { takePath } from '../runtime/arguments.ts';
import { MomeError } from '../runtime/errors.ts';
import { isBeit } from './beit.ts';
import { openCheckpoint } from './checkpoint.ts';
import { configOfFile, inferConfig } from './infer-config.ts';
import { type ModelFiles, openModelFiles } from './model-files.ts';
import { takeParameters } from './parameters.ts';
import { elementCount } from './tensors.ts';

/** A checkpoint explained. */
export interface CheckpointReport {
  readonly path: string;
  readonly format: 'safetensors' | 'pytorch';
  readonly kind: 'vlmo' | 'beit' | 'unknown';
  readonly wrapper: string | null;
  readonly prefix: string;
  readonly tensors: number;
  readonly values: number;
  readonly types: readonly string[];
  /** Sizes read from `config.json` or off the shapes; null when neither tells. */
  readonly config: VlmoConfig | null;
  readonly configFrom: 'config.json' | 'shapes' | null;
  /** Why there is no configuration or why the tensors do not fit it. */
  readonly problem: string | null;
  readonly missing: readonly string[];
  readonly unexpected: readonly string[];
  readonly otherKeys: readonly string[];
  readonly notes: readonly string[];
  readonly entries: readonly { readonly name: string; readonly dtype: string; readonly shape: readonly number[] }[];
}

/** Explains a checkpoint or model folder. @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE`, `MOME_UNSUPPORTED` */
export async function inspectCheckpoint(model: string | URL): Promise<CheckpointReport> {
  const path = takePath('inspect', model, 'a model folder or checkpoint');
  const files = await openModelFiles(path);
  try {
    return await reportOf(path, files);
  } finally {
    files.close();
  }
}

async function reportOf(path: string, files: ModelFiles): Promise<CheckpointReport> {
  const checkpoint = await openCheckpoint(files.weightsFile);
  const entries = [...checkpoint.entries.values()];
  let config: VlmoConfig | null = null;
  let configFrom: CheckpointReport['configFrom'] = null;
  const notes: string[] = [];
  let missing: readonly string[] = [];
  let unexpected: readonly string[] = [];
  let problem: string | null = null;
  try {
    const written = await files.readConfig();
    config = configOfFile(written ?? inferConfig(checkpoint), checkpoint);
    configFrom = written ? 'config.json' : 'shapes';
    const taken = await takeParameters(checkpoint, config);
    missing = taken.missing;
    unexpected = taken.unexpected;
    notes.push(...taken.notes);
  } catch (error) {
    if (!(error instanceof MomeError)) throw error;
    problem = error.message;
  }
  const isVlmo = checkpoint.entries.has('transformer.blocks.0.attn.qkv.weight');
  return {
    path: files.weights,
    format: checkpoint.format,
    kind: isBeit(checkpoint) ? 'beit' : isVlmo ? 'vlmo' : 'unknown',
    wrapper: checkpoint.wrapper ?? null,
    prefix: checkpoint.prefix,
    tensors: entries.length,
    values: entries.reduce((sum, { shape }) => sum + elementCount(shape, path), 0),
    types: [...new Set([...entries.map(({ dtype }) => dtype), ...checkpoint.foreign.values()])],
    config,
    configFrom,
    problem,
    missing,
    unexpected,
    otherKeys: checkpoint.otherKeys,
    notes,
    entries: entries.map(({ name, dtype, shape }) => ({ name, dtype, shape })),
  };
}
