/**
 * Any checkpoint as a model folder of this library.
 */
import { parseConfig, type VlmoConfig } from '../architecture/config.ts';
import { type DType, dtypes } from '../runtime/addon.ts';
import { type Kinds, kinds, oneOf, takeOptions, takePath } from '../runtime/arguments.ts';
import { check, requireNotAborted } from '../runtime/errors.ts';
import { openCheckpoint } from './checkpoint.ts';
import { configOfFile, inferConfig } from './infer-config.ts';
import { openModelFiles } from './model-files.ts';
import type { MatchCalibration } from './model-settings.ts';
import { takeParameters, valuesOf } from './parameters.ts';
import { writeModel } from './write-model.ts';

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
  readonly matchCalibration?: MatchCalibration;
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
