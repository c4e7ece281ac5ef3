/** The data of a run: opened once, and read as batches by each phase. */
import { resolve } from 'node:path';
import type { VlmoConfig } from '../architecture/config.ts';
import { check } from '../runtime/errors.ts';
import type { Tokenizer } from '../text/tokenizer.ts';
import { type Augmenter, type AugmentOptions, augmentDefaults, createAugmenter } from './data/augment.ts';
import { type CaptionOptions, captionDefaults, sampleCaption } from './data/captions.ts';
import { type EmojiPairs, loadEmojiPairs } from './data/emoji.ts';
import { openPairs } from './data/pair-files.ts';
import { type Batch, type BatchPosition, everyCaption, type PairDataset, sampleBatches } from './data/pairs.ts';
import { objectiveNeeds } from './objectives/step.ts';
import { createRandom } from './random.ts';
import type { Phase, Recipe } from './recipe.ts';
import { hashOf } from './run-identity.ts';
import type { BatchSource, RunBatch } from './run-loop.ts';

export interface RunData {
  /** Items of an epoch. */
  readonly items: number;
  /** Damaged items that were left out. */
  readonly skipped: number;
  readonly hasTexts: boolean;
  /** The answers that the items of questions count. */
  readonly answers: readonly string[] | undefined;
  /** All texts, for learning a vocabulary. */
  texts(): AsyncIterable<string> | Iterable<string>;
  /** Changes when the data change. */
  fingerprint(): Promise<string>;
  openBatches(phase: Phase, from: BatchPosition, config: VlmoConfig, tokenizer: Tokenizer | undefined): BatchSource;
  close(): void;
}

/** @param folder paths in the recipe are relative to it */
export async function openRunData(recipe: Recipe, folder: string, imageSize: number): Promise<RunData> {
  const dataset = await openDataset(recipe, folder, imageSize);
  return {
    items: dataset.length,
    skipped: 0,
    hasTexts: true,
    answers: undefined,
    *texts() {
      for (let index = 0; index < dataset.length; index++) yield* dataset.captions(index);
    },
    fingerprint: () => hashOf(dataset),
    openBatches: (phase, from, config, tokenizer) => {
      const feeder = new Feeder(recipe, config, dataset, tokenizer!);
      const { batchSize, seed, neighbours } = recipe;
      const batches = sampleBatches(dataset, { batchSize, seed, neighbours, from });
      const shown = phase.objectives.some((objective) => objectiveNeeds[objective].picturesPerText > 0);
      return { next: () => feeder.batch(batches.next().value as Batch, shown), close: () => {} };
    },
    close: () => {},
  };
}

async function openDataset(recipe: Recipe, folder: string, imageSize: number): Promise<PairDataset | EmojiPairs> {
  const size = recipe.sourceSize ?? Math.round(1.5 * imageSize);
  if ('emoji' in recipe.data)
    return loadEmojiPairs({ styles: recipe.data.emoji, size, cacheDir: resolve(folder, '.cache') });
  check('pairs' in recipe.data && typeof recipe.data.pairs === 'string', 'MOME_INVALID_CONFIG', 'data: expected pairs');
  const { pairs: file, images, splits } = recipe.data;
  const pairs = await openPairs(resolve(folder, file), {
    size,
    ...(images !== undefined && { images: resolve(folder, images) }),
    ...(splits && { splits }),
  });
  return recipe.captionItems === 'each' ? everyCaption(pairs) : pairs;
}

/** Turns indices into pixels and token ids; the same position of the same recipe always gives the same batch. */
class Feeder {
  readonly #augmenter: Augmenter;
  readonly #captions: CaptionOptions;

  readonly recipe: Recipe;
  readonly config: VlmoConfig;
  readonly dataset: PairDataset | EmojiPairs;
  readonly tokenizer: Tokenizer;

  constructor(recipe: Recipe, config: VlmoConfig, dataset: PairDataset | EmojiPairs, tokenizer: Tokenizer) {
    this.recipe = recipe;
    this.config = config;
    this.dataset = dataset;
    this.tokenizer = tokenizer;
    const augment: Partial<AugmentOptions> = {
      ...augmentDefaults,
      ...(typeof recipe.augment === 'object' && recipe.augment),
    };
    this.#augmenter = createAugmenter({
      sourceSize: dataset.size,
      size: config.imageSize,
      channels: dataset.channels,
      options: augment,
    });
    this.#captions = { ...captionDefaults, ...recipe.captions };
  }

  /** @param shown whether the step reads pictures */
  async batch(batch: Batch, shown: boolean): Promise<RunBatch> {
    const pixels = shown ? 3 * this.config.imageSize ** 2 : 0;
    const bytes = new Uint8Array(batch.indices.length * pixels);
    const texts: Int32Array[] = [];
    const groups = new Int32Array(batch.indices.length);
    const random = createRandom(this.recipe.seed, batch.epoch, batch.step, 1);
    for (const [i, index] of batch.indices.entries()) {
      if (shown) this.#augmenter.apply(await this.dataset.image(index), random, bytes, i * pixels);
      texts.push(this.tokenizer.encode(this.#caption(index, random)));
      groups[i] = this.dataset.group(index);
    }
    const origins = [...batch.indices].map((index) => this.dataset.source?.(index) ?? `item ${index}`);
    const { epoch, next: position } = batch;
    return { training: { bytes, texts, groups }, position, epoch, items: texts.length, origins };
  }

  #caption(index: number, random: ReturnType<typeof createRandom>): string {
    if ('entry' in this.dataset) return sampleCaption(this.dataset.entry(index), random, this.#captions);
    return random.pick(this.dataset.captions(index));
  }
}
