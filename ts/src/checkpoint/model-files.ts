/**
 * A model as files: `config.json`, weights, vocabulary and answers, in one folder or beside a checkpoint.
 */
import { readdir, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { z } from 'zod';
import { configFromArch, configLimits, parseConfig, type VlmoConfig } from '../architecture/config.ts';
import { isBlockMatrix, parameterShapes } from '../architecture/parameters.ts';
import { type DType, dtypes } from '../runtime/addon.ts';
import { type Kinds, kinds, oneOf, takeOptions, takePath } from '../runtime/arguments.ts';
import { type Commit, finishAbandoned, readCommit } from '../runtime/commit.ts';
import { check, MomeError, requireNotAborted } from '../runtime/errors.ts';
import { replaceFile, writeTogether } from '../runtime/files.ts';
import { InputFile, readText, type TextFile } from '../runtime/input-file.ts';
import { type JsonLimits, parseJson, readJsonFile } from '../runtime/json.ts';
import { openCheckpoint } from './checkpoint.ts';
import { configOfFile, inferConfig } from './infer-config.ts';
import { takeParameters, valuesOf } from './parameters.ts';
import { quantiseRows, scaleName } from './quantise.ts';
import { type TensorToWrite, writeNewSafetensors } from './safetensors.ts';

const weightsName = 'model.safetensors';
const configName = 'config.json';
const vocabularyNames = ['tokenizer.json', 'vocab.txt'];
const answersName = 'answers.json';
/** What `config.json` may hold: it has some 20 values. */
const configJsonLimits: JsonLimits = { bytes: 2 ** 16, depth: 16, values: 2 ** 12 };
/** What `answers.json` may hold: that of VQA 2 has 3,129 answers and 40,000 bytes. */
const answersLimits: JsonLimits = { bytes: 4 * 2 ** 20, depth: 1, values: configLimits.answers + 1 };
/** Largest vocabulary taken in, in bytes. */
const vocabularyOptions = { what: 'a vocabulary', maxBytes: 8 * 2 ** 20 } as const;
/** How often files that change while they are opened are opened again, and the pause before, in milliseconds. */
const maxOpenings = 100;
const pause = 10;

/** The parts of a model, open: all of one moment, also where others replace the files meanwhile. */
export interface ModelFiles {
  /** Path of the weights. */
  readonly weights: string;
  readonly weightsFile: InputFile;
  /** What `config.json` says; undefined when there is none. @throws MomeError `MOME_INVALID_CONFIG`, `MOME_INVALID_FILE` */
  readonly readConfig: () => Promise<VlmoConfig | undefined>;
  /** How both encoders order candidates, where `config.json` says so. @throws MomeError `MOME_INVALID_CONFIG`, `MOME_INVALID_FILE` */
  readonly readFusion: () => Promise<FusionSettings>;
  /** Path of the vocabulary. */
  readonly vocabulary: string | undefined;
  /** The vocabulary, read once. @throws MomeError `MOME_INVALID_FILE`, `MOME_TOO_LARGE`, `MOME_IO` */
  readonly readVocabulary: () => Promise<TextFile | undefined>;
  readonly answers: readonly string[] | undefined;
  /** Closes the files. What is dropped without it closes them when it is collected. */
  close(): void;
}

/**
 * Opens a model's files: `path` is a folder, or a checkpoint whose neighbours are looked at. Where files are replaced meanwhile, as a
 * deployment does, they are opened again until all are of one moment.
 *
 * @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE`, `MOME_TOO_LARGE`, `MOME_IO`
 */
export async function openModelFiles(path: string): Promise<ModelFiles> {
  const info = await stat(path).catch(() => undefined);
  const folder = info?.isDirectory() ? path : dirname(path);
  const find = (view: FolderView): string => (info?.isDirectory() ? weightsIn(view, path) : basename(path));
  const isPending = !info && (await readCommit(folder))?.temporaries.has(basename(path));
  check(info || isPending, 'MOME_NOT_FOUND', `${path}: expected a model folder or a checkpoint, found nothing`);
  for (let opening = 1; opening <= maxOpenings; opening++) {
    const view = await viewOf(folder);
    let files: OpenFiles | undefined;
    let failure: unknown;
    try {
      files = await openFiles(view, find(view));
    } catch (error) {
      failure = error;
    }
    const now = await viewOf(folder);
    if (files && isSame(view, now, find) && (await areCurrent(files, find(view), now)))
      return await modelFilesOf(folder, files, find(view));
    for (const file of files?.values() ?? []) file.close();
    if (failure !== undefined && isSame(view, now, find)) throw failure;
    await setTimeout(pause);
  }
  throw new MomeError(
    'MOME_IO',
    `${path}: expected files that stay as they are while they are opened, they changed ${maxOpenings} times`,
  );
}

/** The names in a folder, with a change that was not finished taken as finished. */
interface FolderView {
  readonly folder: string;
  readonly names: ReadonlySet<string>;
  readonly commit: Commit | undefined;
  has(name: string): boolean;
}

/** Open files by the names they stand for. */
type OpenFiles = ReadonlyMap<string, InputFile>;

async function viewOf(folder: string): Promise<FolderView> {
  const commit = await readCommit(folder);
  if (commit) await finishAbandoned(folder, commit);
  const listed = await readdir(folder).catch((error: unknown) => {
    throw new MomeError('MOME_IO', `${folder}: expected a folder that can be listed`, { cause: error });
  });
  const names = new Set(listed);
  const has = (name: string) => names.has(name) || names.has(commit?.temporaries.get(name) ?? name);
  return { folder, names, commit, has };
}

/** Where the file that counts as `name` lies. */
function placeOf({ folder, names, commit }: FolderView, name: string): string {
  const temporary = commit?.temporaries.get(name);
  return join(folder, temporary !== undefined && names.has(temporary) ? temporary : name);
}

async function openFiles(view: FolderView, weights: string): Promise<OpenFiles> {
  const vocabulary = vocabularyNames.find((name) => view.has(name));
  const wanted: [name: string, what: string][] = [];
  if (view.has(configName)) wanted.push([configName, 'a configuration']);
  if (vocabulary !== undefined) wanted.push([vocabulary, 'a vocabulary']);
  if (view.has(answersName)) wanted.push([answersName, 'a list of answers']);
  // Last: when they are opened they are current, and so are the others if they still are afterwards.
  wanted.push([weights, 'a checkpoint']);
  const files = new Map<string, InputFile>();
  try {
    for (const [name, what] of wanted) files.set(name, await InputFile.open(placeOf(view, name), what));
    return files;
  } catch (error) {
    for (const file of files.values()) file.close();
    throw error;
  }
}

/** Whether two views name the same parts of a model. */
function isSame(a: FolderView, b: FolderView, find: (view: FolderView) => string): boolean {
  const weights = (view: FolderView) => {
    try {
      return find(view);
    } catch (error) {
      return (error as Error).message;
    }
  };
  const parts = [configName, answersName, ...vocabularyNames];
  return (
    a.commit?.owner === b.commit?.owner &&
    weights(a) === weights(b) &&
    parts.every((name) => a.has(name) === b.has(name))
  );
}

/** Whether the names of all files but the weights still stand for them: a change that is being finished moves them. */
async function areCurrent(files: OpenFiles, weights: string, view: FolderView): Promise<boolean> {
  for (const [name, file] of files) {
    if (name === weights) continue;
    const temporary = view.commit?.temporaries.get(name);
    const places = [name, ...(temporary === undefined ? [] : [temporary])];
    const found = await Promise.all(places.map((place) => file.isAt(join(view.folder, place))));
    if (!found.includes(true)) return false;
  }
  return true;
}

async function modelFilesOf(folder: string, files: OpenFiles, weights: string): Promise<ModelFiles> {
  try {
    const textOf = async (name: string, what: string, maxBytes: number) => {
      const file = files.get(name);
      return file && (await readText(file, { what, maxBytes }));
    };
    const configText = await textOf(configName, 'a configuration', configJsonLimits.bytes);
    const answersText = await textOf(answersName, 'a list of answers', answersLimits.bytes);
    const vocabulary = vocabularyNames.find((name) => files.has(name));
    let vocabularyText: Promise<TextFile | undefined> | undefined;
    const weightsFile = files.get(weights)!;
    const at = (text: TextFile, name: string): TextFile => ({ ...text, path: join(folder, name) });
    return {
      weights: join(folder, weights),
      weightsFile,
      readConfig: async () => configText && readConfig(at(configText, configName)),
      readFusion: async () => readFusion(configText && at(configText, configName), folder),
      vocabulary: vocabulary && join(folder, vocabulary),
      readVocabulary: () => {
        vocabularyText ??= (async () => {
          const file = vocabulary && files.get(vocabulary);
          return file ? at(await readText(file, vocabularyOptions), vocabulary) : undefined;
        })();
        return vocabularyText;
      },
      answers: answersText && (await readAnswers(at(answersText, answersName))),
      close: () => {
        for (const file of files.values()) file.close();
      },
    };
  } catch (error) {
    for (const file of files.values()) file.close();
    throw error;
  }
}

function weightsIn(view: FolderView, folder: string): string {
  if (view.has(weightsName)) return weightsName;
  const others = [...view.names].filter((name) => /\.(?:safetensors|pt|pth|ckpt|bin)$/.test(name));
  const shards = [...view.names].some((name) => name.endsWith('.index.json'));
  check(
    others.length === 1,
    'MOME_NOT_FOUND',
    shards
      ? `${folder}: expected ${weightsName} or one checkpoint, found one in ${others.length} parts; save it as one file`
      : `${folder}: expected ${weightsName} or one checkpoint, found ${others.length || 'none'}`,
  );
  return others[0]!;
}

/** Reads a configuration in this library's names or in those of the original code. */
async function readConfig(file: TextFile): Promise<VlmoConfig> {
  const { path } = file;
  const json = await parseJson(file.text, path, configJsonLimits);
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

async function readFusion(file: TextFile | undefined, folder: string): Promise<FusionSettings> {
  const path = file?.path ?? folder;
  const parsed = fusionSchema.safeParse(file ? await parseJson(file.text, path, configJsonLimits) : {});
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
  const json = await readJsonFile(path, 'the configuration of a model folder', configJsonLimits);
  check(typeof json === 'object' && json !== null, 'MOME_INVALID_CONFIG', `${path}: expected an object`);
  await replaceFile(path, (temporary) =>
    writeFile(temporary, `${JSON.stringify({ ...json, matchCalibration }, null, 2)}\n`, { flag: 'wx' }),
  );
}

async function readAnswers(file: TextFile): Promise<readonly string[]> {
  const parsed = z.array(z.string()).safeParse(await parseJson(file.text, file.path, answersLimits));
  check(parsed.success, 'MOME_INVALID_FILE', `${file.path}: expected a list of answers`);
  return parsed.data;
}

export interface WriteOptions {
  readonly dtype: DType;
  /** Files copied beside the weights: paths, or contents that were read before. */
  readonly vocabularyFiles: readonly (string | Pick<TextFile, 'path' | 'bytes'>)[];
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
 * Writes a model folder. All its files change together or not at all: a process that is stopped in between leaves the old model or the
 * new one, and a full disk the old one. Other files of the folder stay. Vectors stay float32 in bfloat16 models: they are few and scale whole rows. In int8 models the matrices of
 * the blocks have 8 bits and a scale per row, and everything else stays float32.
 *
 * @throws MomeError `MOME_IO` saying that the disk is full or which right is missing, `MOME_INVALID_SHAPE`, `MOME_NOT_FOUND` and
 *   `MOME_INVALID_FILE` for vocabulary files, `MOME_ABORTED`
 */
export async function writeModel(
  folder: string,
  config: VlmoConfig,
  parameters: ReadonlyMap<string, Float32Array>,
  options: WriteOptions,
): Promise<void> {
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
  const { fusionWeight = 1, matchCalibration } = options;
  const fusion = { ...(fusionWeight !== 1 && { fusionWeight }), ...(matchCalibration && { matchCalibration }) };
  const written = { modelType: 'vlmo', ...config, ...fusion };
  const texts = new Map<string, string | Uint8Array>([[configName, `${JSON.stringify(written, null, 2)}\n`]]);
  if (options.answers) texts.set(answersName, `${JSON.stringify(options.answers)}\n`);
  for (const file of options.vocabularyFiles) {
    const { path, bytes } = typeof file === 'string' ? { path: file, bytes: undefined } : file;
    // One that lies there already stays as it is.
    if (bytes === undefined && resolve(path) === resolve(folder, basename(path))) continue;
    texts.set(basename(path), bytes ?? (await readText(path, vocabularyOptions)).bytes);
  }
  await writeTogether(folder, async (fileIn) => {
    await writeNewSafetensors(fileIn(weightsName), tensors, { format: 'pt', ...options.metadata });
    for (const [name, content] of texts) await writeFile(fileIn(name), content, { flag: 'wx' });
    requireNotAborted(options.signal, 'convert');
  });
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
  try {
    const checkpoint = await openCheckpoint(files.weightsFile);
    const base = options.config ?? (await files.readConfig()) ?? inferConfig(checkpoint);
    const config = configOfFile(
      parseConfig({
        ...base,
        ...(options.imageSize !== undefined && { imageSize: options.imageSize }),
        ...(options.maxTextLength !== undefined && { maxTextLength: options.maxTextLength }),
      }),
      checkpoint,
    );
    const taken = await takeParameters(checkpoint, config);
    check(taken.sources.size > 0, 'MOME_INVALID_FILE', `${source}: expected parameters of a VLMo model, found none`);
    const values = new Map<string, Float32Array>();
    for (const [name, entry] of taken.sources) {
      requireNotAborted(signal, 'convert');
      values.set(name, await valuesOf(entry));
    }
    await files.weightsFile.requireUnchanged();
    const vocabulary = await files.readVocabulary();
    await writeModel(folder, config, values, {
      dtype: options.dtype ?? 'float32',
      vocabularyFiles: vocabulary === undefined ? [] : [vocabulary],
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
  } finally {
    files.close();
  }
}
