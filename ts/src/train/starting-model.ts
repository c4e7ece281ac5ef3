/**
 * The start of a training: a model's files, with fresh values for parameters that they lack.
 */

import type { VlmoConfig } from '../architecture/config.ts';
import { type Checkpoint, loadParameterValues } from '../checkpoint/index.ts';
import { type LoadOptions, openModel } from '../inference/load.ts';
import { type InitialScheme, initialParameters } from '../model/initialise.ts';
import { check } from '../runtime/errors.ts';
import { createTokenizer, type Tokenizer } from '../text/tokenizer.ts';
import { createRandom } from './random.ts';

/** Arguments of `Trainer.create`, and those of `writeModel` afterwards. */
export interface StartingModel {
  readonly config: VlmoConfig;
  /** All of the configuration's parameters in float32; those that the checkpoint lacks are random. */
  readonly parameters: ReadonlyMap<string, Float32Array>;
  readonly tokenizer: Tokenizer;
  /** The file the tokenizer was read from. */
  readonly vocabularyFile: string;
  /** See `fusedScore`. */
  readonly fusionWeight: number;
}

/**
 * Opens a model to train it further.
 *
 * @param model folder or checkpoint; default: the model that ships with the library
 * @param options.seed of the parameters that the checkpoint lacks
 * @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE`, `MOME_INVALID_CONFIG`, `MOME_INVALID_SHAPE`
 */
export async function openStartingModel(
  model?: string,
  options: Pick<LoadOptions, 'config' | 'imageSize'> & { readonly seed?: number } = {},
): Promise<StartingModel> {
  const { path, files, checkpoint, config } = await openModel(model, options);
  try {
    const vocabulary = await files.readVocabulary();
    check(vocabulary !== undefined, 'MOME_NOT_FOUND', `${path}: expected tokenizer.json or vocab.txt, found neither`);
    const parameters = await startingParameters(config, checkpoint, options.seed ?? 0);
    await checkpoint.file.requireUnchanged();
    return {
      config,
      parameters,
      tokenizer: await createTokenizer(vocabulary.text, { maxLength: config.maxTextLength }, vocabulary.path),
      vocabularyFile: vocabulary.path,
      fusionWeight: (await files.readFusion()).fusionWeight,
    };
  } finally {
    files.close();
  }
}

/** All parameters of `config`: the checkpoint's where it has them, random ones elsewhere. */
export async function startingParameters(
  config: VlmoConfig,
  checkpoint: Checkpoint | undefined,
  seed: number,
  scheme?: InitialScheme,
): Promise<Map<string, Float32Array>> {
  const parameters = await initialParameters(config, createRandom(seed, 0x696e6974), scheme);
  if (checkpoint)
    for (const [name, values] of await loadParameterValues(checkpoint, config)) parameters.set(name, values);
  return parameters;
}
