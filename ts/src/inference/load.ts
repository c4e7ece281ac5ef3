/**
 * From a path to a model ready to run: files, configuration, weights on an engine, tokenizer.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { parseConfig, type VlmoConfig } from '../architecture/config.ts';
import { parameterShapes } from '../architecture/parameters.ts';
import {
  type Checkpoint,
  inferConfig,
  type ModelFiles,
  openCheckpoint,
  openModelFiles,
  takeParameters,
  valuesOf,
} from '../checkpoint/index.ts';
import { onAbort } from '../runtime/abort.ts';
import { type DType, type FileRegion, packageRoot } from '../runtime/addon.ts';
import { type DeviceName, resolveDevice } from '../runtime/device.ts';
import { Engine, type Weights } from '../runtime/engine.ts';
import { check, MomeError, requireNotAborted } from '../runtime/errors.ts';
import { loadTokenizer, type Tokenizer } from '../text/tokenizer.ts';
import type { MatchCalibration } from './fused-score.ts';

export interface LoadOptions {
  /** Where to run; `auto`, the default, takes the first CUDA device that models run on, else this processor. */
  readonly device?: DeviceName;
  /** Bytes a CUDA device may hold for this model; default: what there is. */
  readonly memoryLimit?: number;
  /** What weight matrices are kept as; default: `int8` where the file holds 8-bit weights, else `float32`. */
  readonly dtype?: DType;
  /** Worker threads; default: the physical cores this process may use. */
  readonly threads?: number;
  /** Kernel set: `ref`, `avx2`, `avx512` or `avx512_vnni`; default: the fastest of this processor, or `MOME_TARGET`. */
  readonly target?: string;
  /** Takes positions to another picture size. */
  readonly imageSize?: number;
  /** Sizes, where neither `config.json` nor the tensors' shapes tell. */
  readonly config?: VlmoConfig;
  /** Stops loading; it rejects with `MOME_ABORTED`. */
  readonly signal?: AbortSignal;
}

/** What a model is made of. */
export interface ModelParts {
  readonly config: VlmoConfig;
  readonly dtype: DType;
  readonly engine: Engine;
  readonly weights: Weights;
  readonly tokenizer: Tokenizer | undefined;
  readonly answers: readonly string[] | undefined;
  readonly fingerprint: string;
  readonly similarityScale: number;
  readonly fusionWeight: number;
  readonly matchCalibration: MatchCalibration | undefined;
}

/** Raised when preprocessing or tokenisation changes what embeddings mean. */
const preprocessingVersion = 1;

/** The model that ships with the library. */
const defaultModel = 'emoji-tiny';

/** Parameters without which nothing works; heads may be missing. */
const core = /^(?:text_embeddings|token_type_embeddings|transformer|relative_position_bias_table)/;

/** A model's files and sizes, before any weight is read. */
export interface OpenModel {
  readonly path: string;
  readonly files: ModelFiles;
  readonly checkpoint: Checkpoint;
  readonly config: VlmoConfig;
}

/** @param model folder or checkpoint; default: the model that ships with the library */
export async function openModel(
  model: string | undefined,
  options: Pick<LoadOptions, 'config' | 'imageSize'> = {},
): Promise<OpenModel> {
  const path = model ?? join(packageRoot(), 'models', defaultModel);
  const files = await openModelFiles(path);
  const checkpoint = await openCheckpoint(files.weights);
  const base = (options.config && given(options.config)) ?? (await files.readConfig()) ?? inferConfig(checkpoint);
  const config = options.imageSize === undefined ? base : given({ ...base, imageSize: options.imageSize });
  return { path, files, checkpoint, config };
}

/** Sizes that options gave: where they make no sense, the argument is wrong and not a file. */
function given(config: VlmoConfig): VlmoConfig {
  try {
    return parseConfig(config, 'load');
  } catch (error) {
    throw new MomeError('MOME_INVALID_ARGUMENT', (error as Error).message, { cause: error });
  }
}

export async function loadModel(model: string | undefined, options: LoadOptions): Promise<ModelParts> {
  const { signal } = options;
  requireNotAborted(signal, 'load');
  const { path, files, checkpoint, config } = await openModel(model, options);
  const { answers } = files;
  check(
    answers === undefined || answers.length === config.answers,
    'MOME_INVALID_FILE',
    `${path}: expected ${config.answers} answers in answers.json, one for each output of the answer head, got ${answers?.length}`,
  );
  const tokenizer =
    files.vocabulary === undefined
      ? undefined
      : await loadTokenizer(files.vocabulary, { maxLength: config.maxTextLength });
  check(
    tokenizer === undefined || tokenizer.vocabularySize <= config.vocabularySize,
    'MOME_INVALID_CONFIG',
    `${path}: expected a vocabulary of at most ${config.vocabularySize} pieces, got ${tokenizer?.vocabularySize}`,
  );
  const dtype = options.dtype ?? ([...checkpoint.entries.values()].some(({ scale }) => scale) ? 'int8' : 'float32');
  const device = resolveDevice(options.device, { target: options.target, dtype });
  const fingerprint = await fingerprintOf(files.weights, files.vocabulary, { config, dtype }, signal);
  const engine = new Engine({
    device,
    ...(options.memoryLimit !== undefined && { memoryLimit: options.memoryLimit }),
    ...(options.threads !== undefined && { threads: options.threads }),
    ...(options.target !== undefined && { target: options.target }),
  });
  try {
    const weights = engine.createWeights(dtype);
    await fillWeights(weights, checkpoint, config, signal);
    requireNotAborted(signal, 'load');
    const hasScale = checkpoint.entries.has('logit_scale');
    const similarityScale = hasScale ? Math.exp((await weights.read('logit_scale'))[0]!) : 1;
    const fusion = await files.readFusion();
    return { config, dtype, engine, weights, tokenizer, answers, fingerprint, similarityScale, ...fusion };
  } catch (error) {
    engine.dispose();
    throw error;
  }
}

/**
 * Puts a checkpoint's parameters into `weights`: dense float tensors are taken straight from the file.
 *
 * @throws MomeError `MOME_INVALID_FILE` when a parameter that is no head is missing, `MOME_ABORTED`
 */
export async function fillWeights(
  weights: Weights,
  checkpoint: Checkpoint,
  config: VlmoConfig,
  signal?: AbortSignal,
): Promise<void> {
  const { sources, missing } = await takeParameters(checkpoint, config);
  requireEncoder(missing, config, checkpoint.path);
  const shapes = parameterShapes(config);
  const regions: FileRegion[] = [];
  for (const [name, source] of sources) {
    requireNotAborted(signal, 'load');
    const shape = shapes.get(name)!;
    if ('values' in source || source.strides) {
      weights.add(name, shape, await valuesOf(source));
    } else if (source.dtype === 'F32' || source.dtype === 'F16' || source.dtype === 'BF16') {
      regions.push({ name, shape, dtype: source.dtype, offset: source.offset });
    } else if (source.dtype === 'I8' && source.scale) {
      regions.push({ name, shape, dtype: 'I8', offset: source.offset, scaleOffset: source.scale.offset });
    } else {
      weights.add(name, shape, await valuesOf(source));
    }
  }
  await weights.map(checkpoint.path, regions);
}

/** Throws unless all that is missing are heads. @throws MomeError `MOME_INVALID_FILE` */
export function requireEncoder(missing: readonly string[], config: VlmoConfig, path: string): void {
  const needed = missing.filter(
    (name) => core.test(name) && !(name.includes('position_embeddings') && config.positions === 'relative'),
  );
  check(
    needed.length === 0,
    'MOME_INVALID_FILE',
    `${path}: expected all of the encoder, ${needed.length} parameters are missing: ${needed.slice(0, 5).join(', ')}`,
  );
}

async function fingerprintOf(
  weights: string,
  vocabulary: string | undefined,
  { config, dtype }: { readonly config: VlmoConfig; readonly dtype: DType },
  signal: AbortSignal | undefined,
): Promise<string> {
  const hash = createHash('sha256');
  const stop = new AbortController();
  const ended = onAbort(signal, () => stop.abort());
  try {
    await pipeline(createReadStream(weights), hash, { end: false, signal: stop.signal });
  } catch (error) {
    requireNotAborted(signal, 'load');
    throw error;
  } finally {
    ended();
  }
  // bfloat16 and int8 give other embeddings than float32.
  hash.update(JSON.stringify({ preprocessingVersion, config, ...(dtype !== 'float32' && { dtype }) }));
  if (vocabulary !== undefined) hash.update(await readFile(vocabulary));
  return hash.digest('hex').slice(0, 32);
}
