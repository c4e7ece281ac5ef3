/** The smallest model that training tests use: three blocks, the last one with the vision-language expert. */
import type { VlmoConfig } from '../../src/architecture/config.ts';

/** Its sizes as a recipe names them: the vocabulary gives its own. */
export const tinyRecipeModel = {
  imageSize: 16,
  patchSize: 8,
  width: 32,
  layers: 3,
  heads: 2,
  hiddenRatio: 2,
  firstVlLayer: 2,
  positions: 'absolute',
  layerScale: null,
  maxTextLength: 8,
  maxTextLengthOfInit: 8,
  answers: 1,
} as const satisfies Omit<VlmoConfig, 'vocabularySize'>;

export const tinyConfig: VlmoConfig = { ...tinyRecipeModel, vocabularySize: 40 };
