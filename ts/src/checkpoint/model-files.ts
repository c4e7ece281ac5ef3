/**
 * A model as files: `config.json`, weights, vocabulary and answers, in one folder or beside a checkpoint.
 */
import { copyFile, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import { configFromArch, parseConfig, type VlmoConfig } from '../architecture/config.ts';
import { isBlockMatrix, parameterShapes } from '../architecture/parameters.ts';
import { type DType, dtypes } from '../runtime/addon.ts';
import { type Kinds, kinds, oneOf, takeOptions, takePath } from '../runtime/arguments.ts';
import { check, MomeError, requireNotAborted } from '../runtime/errors.ts';
import { exists, makeFolder } from '../runtime/files.ts';
import { type Checkpoint, openCheckpoint } from './checkpoint.ts';
import { inferConfig } from './infer-config.ts';
import { takeParameters, valuesOf } from './parameters.ts';
import { quantiseRows, scaleName } from './quantise.ts';
import { type TensorToWrite, writeSafetensors } from './safetensors.ts';

const weightsName = 'model.safetensors';
const configName = 'config.json';
const vocabularyNames = ['tokenizer.json', 'vocab.txt'];
const answersName = 'answers.json';
/** Largest JSON file taken in, in bytes. */
const maxJsonBytes = 16 * 2 ** 20;

/** Where the parts of a model lie. */
export interface ModelFiles {
  readonly weights: string;
  /** What `config.json` says; undefined when there is none. @throws MomeError `MOME_INVALID_CONFIG`, `MOME_INVALID_FILE` */
  readonly readConfig: () => Promise<VlmoConfig | undefined>;
  /** How both encoders order candidates, where `config.json` says so. @throws MomeError `MOME_INVALID_CONFIG`, `MOME_INVALID_FILE` */
  readonly readFusion: () => Promise<FusionSettings>;
  readonly vocabulary: string | undefined;
  readonly answers: readonly string[] | undefined;
}

/**
 * Finds a model's files: `path` is a folder, or a checkpoint whose neighbours are looked at.
 *
 * @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE`
 */
export async function openModelFiles(path: string): Promise<ModelFiles> {
  const info = await stat(path).catch((error: unknown) => {
    throw new MomeError('MOME_NOT_FOUND', `${path}: expected a model folder or a checkpoint, found nothing`, {
      cause: error,
    });
  });
  const folder = info.isDirectory() ? path : dirname(path);
  const names = new Set(await readdir(folder));
  const weights = info.isDirectory() ? join(path, weightsIn(names, path)) : path;
  const vocabulary = vocabularyNames.find((name) => names.has(name));
  return {
    weights,
    readConfig: async () => (names.has(configName) ? readConfig(join(folder, configName)) : undefined),
    readFusion: async () => parseFusion(names.has(configName) ? await readJson(join(folder, configName)) : {}, folder),
    vocabulary: vocabulary && join(folder, vocabulary),
    answers: names.has(answersName) ? await readAnswers(join(folder, answersName)) : undefined,
  };
}

function weightsIn(names: ReadonlySet<string>, folder: string): string {
  if (names.has(weightsName)) return weightsName;
  const others = [...names].filter((name) => /\.(?:safetensors|pt|pth|ckpt|bin)$/.test(name));
  check(
    others.length === 1,
    'MOME_NOT_FOUND',
    `${folder}: expected ${weightsName} or one checkpoint, found ${others.length || 'none'}`,
  );
  return others[0]!;
}

async function readJson(path: string): Promise<unknown> {
  const { size } = await stat(path);
  check(size <= maxJsonBytes, 'MOME_TOO_LARGE', `${path}: expected at most ${maxJsonBytes} bytes, got ${size}`);
  try {
    return JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    throw new MomeError('MOME_INVALID_FILE', `${path}: expected JSON`, { cause: error });
  }
}

/** Reads a configuration in this library's names or in those of the original code. */
async function readConfig(path: string): Promise<VlmoConfig> {
  const json = await readJson(path);
  check(typeof json === 'object' && json !== null, 'MOME_INVALID_CONFIG', `${path}: expected an object`);
  if ('arch' in json) return configFromArch(json.arch, path);
  if ('embed_dim' in json) return configFromArch(json, path);
  const { modelType: _, fusionWeight: __, matchCalibration: ___, ...config } = json as Record<string, unknown>;
  return parseConfig(config, path);
}

const finite = z.number().min(-1000).max(1000);
const fusionSchema = z.object({
  fusionWeight: z.number().min(0).max(100).default(1),
  matchCalibration: z.strictObject({ slope: finite.positive(), offset: finite }).optional(),
});

/** What `config.json` says of re-ranking beside the sizes of the model, see `fusedScore`. */
export interface FusionSettings {
  /** How much the matching head counts; 1 where nothing is said. */
  readonly fusionWeight: number;
  readonly matchCalibration: { readonly slope: number; readonly offset: number } | undefined;
}

function parseFusion(json: unknown, path: string): FusionSettings {
  const parsed = fusionSchema.safeParse(json);
  check(
    parsed.success,
    'MOME_INVALID_CONFIG',
    `${path}: expected fusionWeight to be a number from 0 to 100, and matchCalibration { slope, offset } with a slope above 0`,
  );
  const { fusionWeight, matchCalibration } = parsed.data;
  return { fusionWeight, matchCalibration };
}

/**
 * Writes a calibration into the `config.json` of a model folder, in one move; all else in it stays.
 *
 * @throws MomeError `MOME_NOT_FOUND` for a folder without one, `MOME_INVALID_FILE`, `MOME_IO`
 */
export async function writeCalibration(
  folder: string,
  matchCalibration: NonNullable<FusionSettings['matchCalibration']>,
): Promise<void> {
  const path = join(folder, configName);
  check(await exists(path), 'MOME_NOT_FOUND', `${path}: expected the configuration of a model folder, found nothing`);
  const json = await readJson(path);
  check(typeof json === 'object' && json !== null, 'MOME_INVALID_CONFIG', `${path}: expected an object`);
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    await writeFile(temporary, `${JSON.stringify({ ...json, matchCalibration }, null, 2)}\n`);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw new MomeError('MOME_IO', `${path}: expected to write here`, { cause: error });
  }
}

async function readAnswers(path: string): Promise<readonly string[]> {
  const parsed = z.array(z.string()).safeParse(await readJson(path));
  check(parsed.success, 'MOME_INVALID_FILE', `${path}: expected a list of answers`);
  return parsed.data;
}

export interface WriteOptions {
  readonly dtype: DType;
  /** Files copied beside the weights. */
  readonly vocabularyFiles: readonly string[];
  readonly answers?: readonly string[];
  /** Leaves a parameter out, such as a head that was never trained. */
  readonly omit?: (name: string) => boolean;
  readonly metadata?: Readonly<Record<string, string>>;
  /** See `fusedScore`; left out of `config.json` where it is 1. */
  readonly fusionWeight?: number;
  readonly matchCalibration?: FusionSettings['matchCalibration'];
  readonly signal?: AbortSignal;
}

/**
 * Writes a model folder. Vectors stay float32 in bfloat16 models: they are few and scale whole rows. In int8 models the matrices of
 * the blocks have 8 bits and a scale per row, and everything else stays float32.
 */
export async function writeModel(
  folder: string,
  config: VlmoConfig,
  parameters: ReadonlyMap<string, Float32Array>,
  options: WriteOptions,
): Promise<void> {
  await makeFolder(folder);
  const tensors: TensorToWrite[] = [];
  for (const [name, shape] of parameterShapes(config)) {
    requireNotAborted(options.signal, 'convert');
    const data = parameters.get(name);
    if (data === undefined || options.omit?.(name)) continue;
    if (options.dtype === 'int8' && isBlockMatrix(name)) {
      const { values, scales } = await quantiseRows(data, shape[0]!);
      tensors.push({ name, dtype: 'I8', shape, data: values });
      tensors.push({ name: scaleName(name), dtype: 'F32', shape: [shape[0]!], data: scales });
      continue;
    }
    const dtype = options.dtype === 'bfloat16' && shape.length > 1 ? 'BF16' : 'F32';
    tensors.push({ name, dtype, shape, data });
  }
  await writeSafetensors(join(folder, weightsName), tensors, { format: 'pt', ...options.metadata });
  const { fusionWeight = 1, matchCalibration } = options;
  const fusion = { ...(fusionWeight !== 1 && { fusionWeight }), ...(matchCalibration && { matchCalibration }) };
  const written = { modelType: 'vlmo', ...config, ...fusion };
  await writeFile(join(folder, configName), `${JSON.stringify(written, null, 2)}\n`);
  if (options.answers) await writeFile(join(folder, answersName), `${JSON.stringify(options.answers)}\n`);
  for (const file of options.vocabularyFiles) {
    const target = join(folder, basename(file));
    if (file !== target) await copyFile(file, target);
  }
}

/** What {@link convertCheckpoint} did. */
export interface Conversion {
  readonly config: VlmoConfig;
  readonly parameters: number;
  readonly missing: readonly string[];
  readonly unexpected: readonly string[];
  readonly notes: readonly string[];
}

export interface ConvertOptions {
  /** What is written; default: `float32`. */
  readonly dtype?: DType;
  /** Sizes, where neither `config.json` nor the tensors' shapes tell. */
  readonly config?: VlmoConfig;
  /** Another picture size to take positions to. */
  readonly imageSize?: number;
  /** A shorter text length. */
  readonly maxTextLength?: number;
  /** Leaves a parameter out, such as a head that was never trained. */
  readonly omit?: (name: string) => boolean;
  /** See `fusedScore`; default: as the source says. */
  readonly fusionWeight?: number;
  /** What makes probabilities of the matching head's log-odds; default: as the source says. */
  readonly matchCalibration?: FusionSettings['matchCalibration'];
  /** Stops the conversion; it rejects with `MOME_ABORTED`. */
  readonly signal?: AbortSignal;
}

const convertKinds: Kinds<ConvertOptions> = {
  dtype: oneOf(dtypes),
  config: kinds.object,
  imageSize: kinds.count,
  maxTextLength: kinds.count,
  omit: kinds.callback,
  fusionWeight: kinds.number,
  matchCalibration: kinds.object,
  signal: kinds.signal,
};

/**
 * Converts any checkpoint to a model folder: names, resized positions, BEiT take-over.
 *
 * @throws MomeError `MOME_INVALID_ARGUMENT`, `MOME_NOT_FOUND`, `MOME_INVALID_FILE`, `MOME_INVALID_CONFIG`, `MOME_INVALID_SHAPE`, `MOME_IO`,
 *   `MOME_ABORTED`
 */
export async function convertCheckpoint(
  from: string | URL,
  to: string | URL,
  given?: ConvertOptions,
): Promise<Conversion> {
  const source = takePath('convert', from, 'a model folder or checkpoint');
  const folder = takePath('convert', to, 'a folder to write to');
  const options = takeOptions('convert', given, convertKinds);
  const { signal } = options;
  requireNotAborted(signal, 'convert');
  const files = await openModelFiles(source);
  const checkpoint: Checkpoint = await openCheckpoint(files.weights);
  const base = options.config ?? (await files.readConfig()) ?? inferConfig(checkpoint);
  const config = parseConfig({
    ...base,
    ...(options.imageSize !== undefined && { imageSize: options.imageSize }),
    ...(options.maxTextLength !== undefined && { maxTextLength: options.maxTextLength }),
  });
  const taken = await takeParameters(checkpoint, config);
  check(taken.sources.size > 0, 'MOME_INVALID_FILE', `${source}: expected parameters of a VLMo model, found none`);
  const values = new Map<string, Float32Array>();
  for (const [name, entry] of taken.sources) {
    requireNotAborted(signal, 'convert');
    values.set(name, await valuesOf(entry));
  }
  await writeModel(folder, config, values, {
    dtype: options.dtype ?? 'float32',
    vocabularyFiles: files.vocabulary === undefined ? [] : [files.vocabulary],
    ...(files.answers && { answers: files.answers }),
    ...(options.omit && { omit: options.omit }),
    ...(signal && { signal }),
    ...(await files.readFusion()),
    ...(options.fusionWeight !== undefined && { fusionWeight: options.fusionWeight }),
    ...(options.matchCalibration && { matchCalibration: options.matchCalibration }),
  });
  return {
    config,
    parameters: taken.sources.size,
    missing: taken.missing,
    unexpected: taken.unexpected,
    notes: taken.notes,
  };
}
