/**
 * From a path to a model ready to run: files, configuration, weights on an engine, tokenizer.
 */
import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { basename, isAbsolute, join } from 'node:path';
import { parseConfig, type VlmoConfig } from '../architecture/config.ts';
import { parameterShapes } from '../architecture/parameters.ts';
import {
  type Checkpoint,
  configToRun,
  hashFile,
  inferConfig,
  type MatchCalibration,
  type ModelFiles,
  openCheckpoint,
  openModelFiles,
  type ParameterSource,
  type TakenParameters,
  type TensorEntry,
  takeParameters,
  valuesOf,
} from '../checkpoint/index.ts';
import { modelPath } from '../registry/index.ts';
import type { DType, FileRegion } from '../runtime/addon.ts';
import { report } from '../runtime/arguments.ts';
import { cudaInfo, type DeviceName, resolveDevice } from '../runtime/device.ts';
import { Engine, type Weights } from '../runtime/engine.ts';
import { check, MomeError, requireNotAborted } from '../runtime/errors.ts';
import { type Log, type Logger, logTo } from '../runtime/logger.ts';
import { packageRoot } from '../runtime/package-files.ts';
import { createTokenizer, type Tokenizer } from '../text/tokenizer.ts';
import { type Ability, abilitiesOf, missingOfEncoder } from './abilities.ts';

export interface LoadOptions {
  /** Where to run; `auto`, the default, takes the first CUDA device that models run on, else this processor. */
  readonly device?: DeviceName;
  /** Bytes a CUDA device may hold for this model; default: what there is. */
  readonly memoryLimit?: number;
  /** What weight matrices are kept as; default: `int8` where the file holds 8-bit weights, else `float32`. */
  readonly dtype?: DType;
  /** Worker threads; default: the physical cores this process may use. */
  readonly threads?: number;
  /** Kernel set, such as `ref`, `avx2` or `neon`; default: the fastest of this processor, or `MOME_TARGET`. */
  readonly target?: string;
  /** Takes positions to another picture size. */
  readonly imageSize?: number;
  /** Sizes, where neither `config.json` nor the tensors' shapes tell. */
  readonly config?: VlmoConfig;
  /** Whether a model that is named, such as `vlmo-base-coco`, is downloaded where it is not there yet; default: no, `mome pull` does it. */
  readonly download?: boolean;
  /** Stops loading; it rejects with `MOME_ABORTED`. */
  readonly signal?: AbortSignal;
  /** Called as loading goes on. It waits for a promise that this returns, and rejects with what it throws. */
  readonly onProgress?: (progress: LoadProgress) => void;
  /** Is told what the model does: `info` of loading and disposing, `warn` of a device that cannot be used, `debug` of each run. */
  readonly logger?: Logger;
}

/** How far loading has come: a file that is downloaded, or the weights that are read and checked. */
export interface LoadProgress {
  readonly stage: 'download' | 'read';
  /** Name of the file. */
  readonly file: string;
  /** Bytes done, and in all. */
  readonly done: number;
  readonly total: number;
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
  readonly abilities: ReadonlySet<Ability>;
  readonly log: Log;
}

/** Raised when preprocessing or tokenisation changes what embeddings mean. */
const preprocessingVersion = 1;

/** The model that ships with the library. */
const defaultModel = 'emoji-tiny';

/** A model's files and sizes, before any weight is read. */
export interface OpenModel {
  readonly path: string;
  readonly files: ModelFiles;
  readonly checkpoint: Checkpoint;
  readonly config: VlmoConfig;
}

const shippedModel = (): string => join(packageRoot(), 'models', defaultModel);

/**
 * Where a model is that somebody has named: a path from `folder`, which wins, the name of a registered model, or that of the one that ships
 * with the library.
 *
 * @throws MomeError `MOME_NOT_FOUND` for a registered model that is not there and may not be downloaded, and for a name much like one
 */
export async function pathOfModel(
  where: string,
  model: string,
  folder: string,
  options: Pick<LoadOptions, 'download' | 'signal' | 'onProgress'> = {},
): Promise<string> {
  const path = isAbsolute(model) ? model : join(folder, model);
  if (await stat(path).catch(() => undefined)) return path;
  if (model === defaultModel) return shippedModel();
  const named = await modelPath(where, model, pulling(options));
  return named === model ? path : named;
}

/** @param model folder, checkpoint or registered name; default: the model that ships with the library. The caller closes `files`. */
export async function openModel(
  model: string | undefined,
  options: Pick<LoadOptions, 'config' | 'imageSize' | 'download' | 'signal' | 'onProgress'> = {},
): Promise<OpenModel> {
  const path = model === undefined ? shippedModel() : await pathOfModel('load', model, '.', options);
  const files = await openModelFiles(path);
  try {
    const checkpoint = await openCheckpoint(files.weightsFile);
    const base = (options.config && given(options.config)) ?? (await files.readConfig()) ?? inferConfig(checkpoint);
    const sized = options.imageSize === undefined ? base : given({ ...base, imageSize: options.imageSize });
    return { path, files, checkpoint, config: configToRun(sized, checkpoint) };
  } catch (error) {
    files.close();
    throw error;
  }
}

function pulling({ download, signal, onProgress }: Pick<LoadOptions, 'download' | 'signal' | 'onProgress'>) {
  return {
    ...(download !== undefined && { download }),
    ...(signal && { signal }),
    ...(onProgress && {
      onProgress: (file: string, done: number, total: number) => onProgress({ stage: 'download', file, done, total }),
    }),
  };
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
  const open = await openModel(model, options);
  try {
    return await partsOf(open, options);
  } finally {
    open.files.close();
  }
}

async function partsOf({ path, files, checkpoint, config }: OpenModel, options: LoadOptions): Promise<ModelParts> {
  const { signal, onProgress } = options;
  const begun = performance.now();
  const log = logTo(options.logger);
  const { answers } = files;
  check(
    answers === undefined || answers.length === config.answers,
    'MOME_INVALID_FILE',
    `${path}: expected ${config.answers} answers in answers.json, one for each output of the answer head, got ${answers?.length}`,
  );
  const vocabulary = await files.readVocabulary();
  const tokenizer =
    vocabulary && (await createTokenizer(vocabulary.text, { maxLength: config.maxTextLength }, vocabulary.path));
  check(
    tokenizer === undefined || tokenizer.vocabularySize <= config.vocabularySize,
    'MOME_INVALID_CONFIG',
    `${path}: expected a vocabulary of at most ${config.vocabularySize} pieces, got ${tokenizer?.vocabularySize}`,
  );
  const dtype = options.dtype ?? ([...checkpoint.entries.values()].some(({ scale }) => scale) ? 'int8' : 'float32');
  const device = resolveDevice(options.device, { target: options.target, dtype });
  const { devices } = device.kind === 'cpu' && (options.device ?? 'auto') === 'auto' ? cudaInfo() : { devices: [] };
  for (const { name, unfit } of devices)
    if (unfit !== '') log('warn', 'CUDA device not used', () => ({ device: name, reason: unfit }));
  const taken = await takeParameters(checkpoint, config);
  requireEncoder(taken.missing, config, checkpoint.path);
  // Of one descriptor: the header, the hash, and the weights, also those that are read later.
  const hash = createHash('sha256');
  const file = basename(checkpoint.path);
  const total = checkpoint.file.size;
  const read = (done: number) => report(onProgress, { stage: 'read', file, done, total });
  await hashFile(checkpoint.file, mappedOf(taken), hash, signal, onProgress && read);
  // bfloat16 and int8 give other embeddings than float32.
  hash.update(JSON.stringify({ preprocessingVersion, config, ...(dtype !== 'float32' && { dtype }) }));
  if (vocabulary !== undefined) hash.update(vocabulary.bytes);
  const fingerprint = hash.digest('hex').slice(0, 32);
  const engine = new Engine({
    device,
    ...(options.memoryLimit !== undefined && { memoryLimit: options.memoryLimit }),
    ...(options.threads !== undefined && { threads: options.threads }),
    ...(options.target !== undefined && { target: options.target }),
  });
  try {
    const weights = engine.createWeights(dtype);
    await fillWeights(weights, checkpoint, config, signal, taken);
    await checkpoint.file.requireUnchanged();
    requireNotAborted(signal, 'load');
    const hasScale = checkpoint.entries.has('logit_scale');
    const similarityScale = hasScale ? Math.exp((await weights.read('logit_scale'))[0]!) : 1;
    const fusion = await files.readFusion();
    const abilities = abilitiesOf(config, taken.missing);
    log('info', 'model loaded', () => ({
      model: path,
      device: engine.deviceName,
      target: engine.target,
      dtype,
      threads: engine.threads,
      fingerprint,
      milliseconds: Math.round(performance.now() - begun),
    }));
    const own = { config, dtype, engine, weights, tokenizer, answers, fingerprint, similarityScale, abilities, log };
    return { ...own, ...fusion };
  } catch (error) {
    engine.dispose();
    throw error;
  }
}

/** How native code reads a tensor from the file; undefined where it cannot. */
function regionOf(source: ParameterSource): Omit<FileRegion, 'name' | 'shape'> | undefined {
  if ('values' in source || source.strides) return undefined;
  const { dtype, offset, scale } = source;
  if (dtype === 'F32' || dtype === 'F16' || dtype === 'BF16') return { dtype, offset };
  return dtype === 'I8' && scale ? { dtype, offset, scaleOffset: scale.offset } : undefined;
}

/** The tensors that native code reads by itself. */
function mappedOf({ sources }: TakenParameters): TensorEntry[] {
  return [...sources.values()].flatMap((source) => ('values' in source || !regionOf(source) ? [] : [source]));
}

/**
 * Puts a checkpoint's parameters into `weights`: dense float tensors are taken straight from the file.
 *
 * @throws MomeError `MOME_INVALID_FILE` when a parameter that is no head is missing, `MOME_NON_FINITE`, `MOME_ABORTED`
 */
export async function fillWeights(
  weights: Weights,
  checkpoint: Checkpoint,
  config: VlmoConfig,
  signal?: AbortSignal,
  taken?: TakenParameters,
): Promise<void> {
  const { sources, missing } = taken ?? (await takeParameters(checkpoint, config));
  requireEncoder(missing, config, checkpoint.path);
  const shapes = parameterShapes(config);
  const regions: FileRegion[] = [];
  for (const [name, source] of sources) {
    requireNotAborted(signal, 'load');
    const shape = shapes.get(name)!;
    const region = regionOf(source);
    if (region) regions.push({ name, shape, ...region });
    else await weights.add(name, shape, await valuesOf(source));
  }
  await weights.map(checkpoint.file, regions);
}

/** Throws unless all that is missing are heads. @throws MomeError `MOME_INVALID_FILE` */
export function requireEncoder(missing: readonly string[], config: VlmoConfig, path: string): void {
  const needed = missingOfEncoder(config, missing);
  check(
    needed.length === 0,
    'MOME_INVALID_FILE',
    `${path}: expected all of the encoder, ${needed.length} parameters are missing: ${needed.slice(0, 5).join(', ')}`,
  );
}
