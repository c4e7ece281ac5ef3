/**
 * Writes a model as a folder of files.
 */
import { writeFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import type { VlmoConfig } from '../architecture/config.ts';
import { isBlockMatrix, parameterShapes } from '../architecture/parameters.ts';
import { type DType, dtypes } from '../runtime/addon.ts';
import { checkKind, checkSignal, kinds, oneOf, takePath } from '../runtime/arguments.ts';
import { check, requireNotAborted } from '../runtime/errors.ts';
import { exists, replaceFile, writeTogether } from '../runtime/files.ts';
import { readText, type TextFile } from '../runtime/input-file.ts';
import { readJsonFile } from '../runtime/json.ts';
import { answersName, configName, vocabularyOptions, weightsName } from './model-files.ts';
import { configJsonLimits, type MatchCalibration } from './model-settings.ts';
import { quantiseRows, scaleName } from './quantise.ts';
import { type TensorToWrite, writeNewSafetensors } from './safetensors.ts';

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
  readonly matchCalibration?: MatchCalibration | undefined;
  readonly signal?: AbortSignal;
}

/**
 * Writes a model folder. All its files change together or not at all: a process that is stopped in between leaves the old model or the
 * new one, and a full disk leaves the old one. Other files of the folder stay. In bfloat16 models vectors stay float32: they are few, and
 * each of their values scales whole rows. In int8 models the matrices of the blocks have 8 bits and a scale per row; everything else is as in
 * bfloat16 models.
 *
 * @throws MomeError `MOME_IO` saying that the disk is full or which right is missing, `MOME_INVALID_ARGUMENT` for a folder with another
 *   `tokenizer.json`, `MOME_INVALID_SHAPE`, `MOME_NOT_FOUND` and
 *   `MOME_INVALID_FILE` for vocabulary files, `MOME_ABORTED`
 */
export async function writeModel(
  folder: string,
  config: VlmoConfig,
  parameters: ReadonlyMap<string, Float32Array>,
  options: WriteOptions,
): Promise<void> {
  takePath('writeModel', folder, 'a folder');
  checkKind('writeModel', 'parameters', parameters, kinds.map);
  checkKind('writeModel', 'options', options, kinds.object);
  checkKind('writeModel', 'dtype', options.dtype, oneOf(dtypes));
  checkKind('writeModel', 'vocabularyFiles', options.vocabularyFiles, kinds.list);
  if (options.answers !== undefined) checkKind('writeModel', 'answers', options.answers, kinds.list);
  if (options.omit !== undefined) checkKind('writeModel', 'omit', options.omit, kinds.callback);
  checkSignal('writeModel', options.signal);
  checkKind('writeModel', 'config', config, kinds.object);
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
    const dtype = options.dtype !== 'float32' && shape.length > 1 ? 'BF16' : 'F32';
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
  check(
    !texts.has('vocab.txt') || texts.has('tokenizer.json') || !(await exists(join(folder, 'tokenizer.json'))),
    'MOME_INVALID_ARGUMENT',
    `${folder}: expected no tokenizer.json, it would be read in place of this model's vocab.txt; remove it`,
  );
  await writeTogether(folder, async (fileIn) => {
    await writeNewSafetensors(fileIn(weightsName), tensors, { format: 'pt', ...options.metadata });
    for (const [name, content] of texts) await writeFile(fileIn(name), content, { flag: 'wx' });
    requireNotAborted(options.signal, 'convert');
  });
}

/**
 * Writes a calibration into the `config.json` of a model folder, in one move; all else in it stays.
 *
 * @throws MomeError `MOME_NOT_FOUND` for a folder without one, `MOME_INVALID_FILE`, `MOME_IO`
 */
export async function writeCalibration(folder: string, matchCalibration: MatchCalibration): Promise<void> {
  const path = join(folder, configName);
  const json = await readJsonFile(path, 'the configuration of a model folder', configJsonLimits);
  check(typeof json === 'object' && json !== null, 'MOME_INVALID_CONFIG', `${path}: expected an object`);
  await replaceFile(path, (temporary) =>
    writeFile(temporary, `${JSON.stringify({ ...json, matchCalibration }, null, 2)}\n`, { flag: 'wx' }),
  );
}
