/** The data of a run: opened once, and read as batches by each phase. */
import { resolve } from 'node:path';
import type { VlmoConfig } from '../architecture/config.ts';
import { check } from '../runtime/errors.ts';
import type { Tokenizer } from '../text/tokenizer.ts';
import { augmentDefaults } from './data/augment.ts';
import { captionDefaults } from './data/captions.ts';
import { type Dataset, datasetOfPairs, everyText, textsOf } from './data/dataset.ts';
import { loadEmojiPairs } from './data/emoji.ts';
import { BatchLoader } from './data/loader.ts';
import { openPairs } from './data/pair-files.ts';
import type { BatchPosition } from './data/pairs.ts';
import { objectiveNeeds } from './objectives/step.ts';
import type { Phase, Recipe } from './recipe.ts';

export interface RunData {
  readonly dataset: Dataset;
  /** The answers that the items of questions count. */
  readonly answers: readonly string[] | undefined;
}

/**
 * Opens the data of a recipe.
 *
 * @param folder paths in the recipe are relative to it
 * @param imageSize side of the model's pictures
 */
export async function openRunData(recipe: Recipe, folder: string, imageSize: number): Promise<RunData> {
  const { data } = recipe;
  const size = recipe.sourceSize ?? Math.round(1.5 * imageSize);
  if ('emoji' in data) {
    const pairs = await loadEmojiPairs({ styles: data.emoji, size, cacheDir: resolve(folder, '.cache') });
    return { dataset: datasetOfPairs(pairs), answers: undefined };
  }
  check('pairs' in data && typeof data.pairs === 'string', 'MOME_INVALID_CONFIG', 'data: expected pairs');
  const { pairs: file, images, splits } = data;
  const pairs = datasetOfPairs(
    await openPairs(resolve(folder, file), {
      size,
      ...(images !== undefined && { images: resolve(folder, images) }),
      ...(splits && { splits }),
    }),
  );
  return { dataset: recipe.captionItems === 'each' ? await everyText(pairs) : pairs, answers: undefined };
}

/** All texts of a recipe's data, for learning a vocabulary. */
export async function* textsOfData(recipe: Recipe, folder: string): AsyncGenerator<string, void> {
  const { dataset } = await openRunData(recipe, folder, 1);
  try {
    yield* textsOf(dataset);
  } finally {
    dataset.close();
  }
}

/** Whether any objective of a phase reads texts, and whether any reads pictures. */
function needsOf({ objectives }: Phase): { readonly texts: boolean; readonly pictures: boolean } {
  const needs = objectives.map((objective) => objectiveNeeds[objective]);
  return {
    texts: needs.some(({ withoutTexts }) => !withoutTexts),
    pictures: needs.some(({ picturesPerText }) => picturesPerText > 0),
  };
}

const noTokenizer: Pick<Tokenizer, 'encode'> = { encode: () => new Int32Array(0) };

/** The batches of a phase. */
export function openLoader(
  { dataset }: RunData,
  recipe: Recipe,
  phase: Phase,
  from: BatchPosition,
  config: VlmoConfig,
  tokenizer: Tokenizer | undefined,
): BatchLoader {
  const { batchSize, seed, neighbours, maxSkippedShare, sourceSize, augment } = recipe;
  return new BatchLoader(dataset, {
    ...needsOf(phase),
    config,
    tokenizer: tokenizer ?? noTokenizer,
    batchSize,
    seed,
    neighbours,
    from,
    maxSkippedShare,
    augment: typeof augment === 'string' ? 'none' : { ...augmentDefaults, ...augment },
    captions: { ...captionDefaults, ...recipe.captions },
    ...(sourceSize !== undefined && { sourceSize }),
  });
}
