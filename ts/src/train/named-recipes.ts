/**
 * The stages of VLMo's training as recipes with the settings of the original: images alone, texts alone, pairs, and the three tasks.
 */
import type { PresetName } from '../architecture/config.ts';

export const recipeNames = ['image', 'text', 'pairs', 'retrieval', 'vqa', 'nlvr2'] as const;
export type RecipeName = (typeof recipeNames)[number];

/** A setting that depends on the size of the model. */
type BySize = Readonly<Record<PresetName, number>>;

/** The same for every size. */
const all = (value: number): BySize => ({ base: value, base_plus: value, large: value });

/** What the original's settings say of a stage. */
interface StageSettings {
  readonly objectives: readonly string[];
  /** Side of the pictures. */
  readonly imageSize: number;
  /** Longest text, in tokens. */
  readonly maxTextLength: number;
  readonly batchSize: number;
  readonly steps?: number;
  readonly epochs?: number;
  /** Below 1 a share of the steps. */
  readonly warmupSteps: number;
  readonly learningRate: BySize;
  readonly dropPath: BySize;
  /** Fields of the phase that only this stage has. */
  readonly phase?: Readonly<Record<string, unknown>>;
  /** Fields of the recipe that only this stage has. */
  readonly settings?: Readonly<Record<string, unknown>>;
}

/** Parameters that learn from texts alone: those of the text expert, of the text embeddings and what is read by no picture. */
const textParameters =
  'text_embeddings|token_type_embeddings|mlp_text|norm2_text|mlm_score|relative_position_bias_table|transformer\\.norm';

/** The text expert reads sequences of this length before texts of pairs are cut to 40 tokens. */
const longTexts = 196;

const settings: Readonly<Record<RecipeName, StageSettings>> = {
  // BEiT's settings for ImageNet-22k.
  image: {
    objectives: ['mim'],
    imageSize: 224,
    maxTextLength: longTexts,
    batchSize: 2048,
    epochs: 150,
    warmupSteps: 10_000,
    learningRate: all(1.5e-3),
    dropPath: all(0.1),
    phase: { decay: 'cosine', endLearningRate: 1e-5 },
    settings: {
      augment: 'beit',
      betas: [0.9, 0.999],
      clipNorm: 3,
      decayRule: 'beit',
      initialValues: 'mome',
      textDropout: 0,
      visualTokens: 8192,
      vlExperts: false,
      weightDecay: 0.05,
    },
  },
  text: {
    objectives: ['textmlm'],
    imageSize: 224,
    maxTextLength: longTexts,
    batchSize: 1024,
    steps: 200_000,
    warmupSteps: 2500,
    // The original names no rate of a large model.
    learningRate: all(2e-4),
    dropPath: all(0.1),
    phase: { trainable: textParameters },
    settings: { vlExperts: false },
  },
  pairs: {
    objectives: ['itc', 'itm', 'mlm'],
    imageSize: 224,
    maxTextLength: 40,
    batchSize: 1024,
    steps: 200_000,
    warmupSteps: 2500,
    learningRate: { base: 2e-4, base_plus: 1e-4, large: 5e-5 },
    dropPath: all(0.1),
  },
  // COCO's; Flickr30k has half the steps.
  retrieval: {
    objectives: ['irtr'],
    imageSize: 384,
    maxTextLength: 40,
    batchSize: 3072,
    steps: 3000,
    warmupSteps: 300,
    learningRate: { base: 3e-5, base_plus: 3e-5, large: 2e-5 },
    dropPath: all(0.2),
  },
  vqa: {
    objectives: ['vqa'],
    imageSize: 480,
    maxTextLength: 40,
    batchSize: 128,
    epochs: 10,
    warmupSteps: 0.1,
    learningRate: { base: 3e-5, base_plus: 3e-5, large: 1.5e-5 },
    dropPath: all(0.15),
    settings: { headRate: 20 },
  },
  nlvr2: {
    objectives: ['nlvr2'],
    imageSize: 384,
    maxTextLength: 40,
    batchSize: 128,
    epochs: 10,
    warmupSteps: 0.1,
    learningRate: { base: 5e-5, base_plus: 3e-5, large: 3e-5 },
    dropPath: { base: 0.1, base_plus: 0.2, large: 0.15 },
  },
};

/**
 * A recipe without data: the original's settings for a stage, as the JSON that a user may edit.
 *
 * @param size of the model; it decides rates and the share of dropped branches
 * @param options.sizes whether to give the sizes of pictures and texts: left out, they are those of the model
 */
export function namedRecipe(
  name: RecipeName,
  size: PresetName = 'base',
  options: { readonly sizes?: boolean } = {},
): Readonly<Record<string, unknown>> {
  const { objectives, imageSize, maxTextLength, batchSize, steps, epochs, warmupSteps, ...rest } = settings[name];
  return {
    preset: 'original',
    ...((options.sizes ?? true) && { imageSize, maxTextLength }),
    augment: 'original',
    batchSize,
    dropPath: rest.dropPath[size],
    seed: 1,
    ...rest.settings,
    phases: [
      {
        objectives,
        ...(steps === undefined ? { epochs } : { steps }),
        learningRate: rest.learningRate[size],
        warmupSteps,
        ...rest.phase,
      },
    ],
  };
}
