/** The patch tokenizer of a run on masked images: the one that its recipe names, or one made of its own pictures. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { gridOf, type VlmoConfig } from '../architecture/config.ts';
import { MomeError } from '../runtime/errors.ts';
import { exists } from '../runtime/files.ts';
import type { Dataset } from './data/dataset.ts';
import { BatchLoader } from './data/loader.ts';
import { fitPatchTokenizer, type PatchTokenizerProgress } from './fit-patch-tokenizer.ts';
import { PatchTokenizer } from './patch-tokenizer.ts';
import type { Recipe } from './recipe.ts';

/** Name of a tokenizer that was made, in the folder of its run. */
export const patchTokenizerName = 'patch-tokenizer.safetensors';
/** Patches of the sample for each token, of how many they are drawn, and the fewest pictures that are looked at. */
const [patchesPerToken, drawnFrom, fewestPictures] = [32, 4, 1000];
/** Pictures that are read at a time. */
const batchSize = 16;

export interface TokenizerPlace {
  /** Paths in the recipe are relative to it. */
  readonly folder: string;
  readonly output: string;
  readonly resume: boolean;
  readonly signal: AbortSignal;
}

/** A tokenizer, to be disposed, and the hash of its file. */
export interface RunPatchTokenizer {
  readonly tokenizer: PatchTokenizer;
  readonly hash: string;
}

/**
 * The tokenizer of a run; undefined for runs that predict no visual tokens, and for data that bring them.
 *
 * @throws MomeError as `PatchTokenizer.load` and {@link makePatchTokenizer}
 */
export async function patchTokenizerOf(
  recipe: Recipe,
  dataset: Dataset,
  config: VlmoConfig,
  { folder, output, resume, signal }: TokenizerPlace,
): Promise<RunPatchTokenizer | undefined> {
  if (!recipe.phases.some(({ objectives }) => objectives.includes('mim'))) return undefined;
  if (recipe.patchTokenizer !== undefined) return opened(resolve(folder, recipe.patchTokenizer), recipe, config);
  const first = await dataset.item(0, false).catch(() => undefined);
  if (first?.visualTokens) return undefined;
  const file = join(output, patchTokenizerName);
  if (!resume || !(await exists(file))) {
    const { seed, pictureRules } = recipe;
    await makePatchTokenizer(file, dataset, config, { seed, pictureRules, signal });
  }
  return opened(file, recipe, config);
}

async function opened(file: string, { threads }: Recipe, config: VlmoConfig): Promise<RunPatchTokenizer> {
  const tokenizer = await PatchTokenizer.load(file, threads === undefined ? {} : { threads });
  const { patchSize, tokens } = tokenizer;
  if (patchSize !== config.patchSize || tokens !== config.visualTokens) {
    tokenizer.dispose();
    const [own, its] = [`${config.visualTokens} tokens of ${config.patchSize} pixels`, `${tokens} of ${patchSize}`];
    throw new MomeError('MOME_INVALID_CONFIG', `${file}: expected a patch tokenizer with ${own}, got ${its}`);
  }
  const hash = createHash('sha256').update(await readFile(file));
  return { tokenizer, hash: hash.digest('hex') };
}

/**
 * Makes a tokenizer of a data set's pictures as they are without augmentation, and writes it to a file.
 *
 * @param config its patches, picture size and number of visual tokens
 * @throws MomeError `MOME_INVALID_ARGUMENT` for fewer patches than tokens, `MOME_ABORTED`; as the loader
 */
export async function makePatchTokenizer(
  file: string,
  dataset: Dataset,
  config: Pick<VlmoConfig, 'imageSize' | 'patchSize' | 'visualTokens'>,
  options: Pick<Recipe, 'seed' | 'pictureRules'> & {
    readonly signal: AbortSignal;
    readonly onProgress?: (progress: PatchTokenizerProgress) => void;
  },
): Promise<void> {
  const { seed, pictureRules, signal, onProgress } = options;
  const { imageSize, patchSize, visualTokens: tokens = 8192 } = config;
  const enough = Math.ceil(
    (drawnFrom * patchesPerToken * tokens) / gridOf({ imageSize, patchSize } as VlmoConfig) ** 2,
  );
  const pictures = Math.min(dataset.length, Math.max(fewestPictures, enough));
  const size = Math.min(batchSize, pictures);
  async function* bytes(): AsyncGenerator<Uint8Array, void> {
    const tokenizer = { encode: () => new Int32Array(0) };
    const reading = { config: { imageSize }, tokenizer, seed, pictureRules, texts: false, pictures: true };
    const loader = new BatchLoader(dataset, { ...reading, batchSize: size });
    try {
      for (let read = 0; read + size <= pictures; read += size) yield (await loader.next(signal)).training.bytes!;
    } finally {
      loader.close();
    }
  }
  const progress = onProgress && { onProgress };
  const made = await fitPatchTokenizer(bytes(), { imageSize, patchSize, tokens, seed, signal, ...progress });
  try {
    await made.save(file);
  } finally {
    made.dispose();
  }
}
