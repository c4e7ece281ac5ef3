/** What a recipe may say: every field with its kind and its default. */
import { z } from 'zod';
import { configLimits } from '../architecture/config.ts';
import { objectiveNames } from '../model/objectives.ts';
import { augmentDefaults } from './data/augment.ts';
import { captionDefaults } from './data/captions.ts';
import { emojiStyles } from './data/emoji.ts';
import { isParameterPattern, maxPatternLength } from './parameter-filter.ts';

const strength = z.number().min(0);
const count = z.number().int().positive();
/** A number below 1 is a share. */
const countOrShare = z
  .number()
  .min(0)
  .refine((steps) => steps < 1 || Number.isInteger(steps), 'expected a whole number or a share below 1');

/** Some of the strengths that `defaults` names, and no others. */
function strengthsOf<Name extends string>(defaults: Readonly<Record<Name, number>>) {
  return z.partialRecord(z.enum(Object.keys(defaults) as [Name, ...Name[]]), strength);
}

const paths = z.union([z.string(), z.array(z.string()).min(1).max(10_000)]);

/** Columns of Arrow and Parquet files. */
const columns = z
  .strictObject({ image: z.string(), caption: z.string(), visualTokens: z.string(), group: z.string() })
  .partial()
  .optional();

/** Rows of Arrow and Parquet files that stand more than once in an epoch, by the value in a column. */
const repeat = z.strictObject({ column: z.string(), times: z.record(z.string(), count.max(100)) }).optional();

/** Where items come from. What a file holds is told by its ending; patterns such as `part-*.tar` name several. */
export const dataSchema = z.union(
  [
    z.strictObject({ emoji: z.array(z.enum(emojiStyles)).min(1) }),
    /** Pictures with captions; `splits` belongs to a JSON file of Karpathy's splits, `images` to files that name pictures. */
    z.strictObject({
      pairs: paths,
      kind: z.enum(['list']).optional(),
      images: z.string().optional(),
      splits: z.array(z.string()).min(1).optional(),
      columns,
      repeat,
    }),
    /** Pictures alone. */
    z.strictObject({ pictures: paths, columns, repeat }),
    /** Texts alone: an item is a line, or a paragraph. */
    z.strictObject({ texts: paths, unit: z.enum(['line', 'paragraph']).optional(), columns }),
    /**
     * Questions about pictures with people's answers, and the list of answers that a model chooses from: a file, or the answers that so many
     * questions have. Left out, it is that of the model to start from, or as the original makes it.
     */
    z.strictObject({
      questions: paths,
      annotations: paths.optional(),
      images: z.string().optional(),
      answers: z.union([z.string(), z.strictObject({ fewest: count })]).optional(),
      leaveOutLast: count.optional(),
    }),
    /** Statements about two pictures. */
    z.strictObject({ statements: paths, images: z.string().optional() }),
  ],
  {
    error:
      'expected an object with one of pairs, pictures, texts, questions, statements and emoji, and nothing unknown',
  },
);
export type DataDescription = z.infer<typeof dataSchema>;

/** One stretch of a run with its own objectives and schedule. */
export const phaseSchema = z
  .strictObject({
    objectives: z.array(z.enum(objectiveNames)).min(1),
    /** Weights of losses in their sum. */
    lossWeights: z.partialRecord(z.enum(objectiveNames), strength).optional(),
    /** Optimiser steps, or how often every item is read. */
    steps: count.optional(),
    epochs: z.number().positive().max(1e6).optional(),
    learningRate: z.number().positive(),
    /** Below 1 a share of the phase's steps. */
    warmupSteps: countOrShare.default(0),
    decay: z.enum(['polynomial', 'cosine', 'constant']).default('cosine'),
    decayPower: z.number().positive().optional(),
    endLearningRate: z.number().min(0).optional(),
    fusedPairs: count.optional(),
    negativeSharpness: strength.default(1),
    /** Regular expression of the parameters that learn; default all. */
    trainable: z
      .string()
      .refine(
        isParameterPattern,
        `expected a regular expression in the syntax of RE2, of at most ${maxPatternLength} characters, without counted repetition`,
      )
      .optional(),
    vlBranch: z.boolean().default(true),
  })
  .refine(({ steps, epochs }) => (steps === undefined) !== (epochs === undefined), {
    message: 'expected either steps or epochs',
    path: ['steps'],
  });

export const recipeSchema = z.strictObject({
  /** `original`: settings that are not named are those of the original code ({@link originalSettings}). */
  preset: z.enum(['original']).optional(),
  /** A preset, or a configuration; `vocabularySize` may be left to the vocabulary. Left out, it is that of `init`. */
  model: z.union([z.enum(['base', 'base_plus', 'large']), z.record(z.string(), z.unknown())]).optional(),
  /** Sizes that differ from the model's: positions of a checkpoint are taken to them. */
  imageSize: count.max(configLimits.imageSize).optional(),
  maxTextLength: count.min(2).max(configLimits.maxTextLength).optional(),
  /** Number of visual tokens that `mim` predicts. */
  visualTokens: count.optional(),
  /** Whether the model has vision-language experts: pictures alone and texts alone need none, and later stages start them fresh. */
  vlExperts: z.boolean().default(true),
  /** Checkpoint, model folder or name of a model to start from; random weights otherwise. */
  init: z.string().optional(),
  /** vocab.txt or tokenizer.json to use, or how to learn a vocabulary from the training texts. Left out, it is that of `init`. */
  vocabulary: z.union([z.string(), z.strictObject({ size: count, minFrequency: count.default(1) })]).optional(),
  data: dataSchema,
  /** Held-out data of the same kind, measured every `evaluateEvery` steps. */
  evaluation: dataSchema.optional(),
  /** File of the patch tokenizer that gives visual tokens. Left out, those of the data are taken, or a tokenizer is made of their pictures. */
  patchTokenizer: z.string().optional(),
  /** Largest share of items that may be damaged and left out. */
  maxSkippedShare: z.number().min(0).max(1).default(0.01),
  /** Side at which sources are kept for augmentation by strengths; default 1.5 times the model's. */
  sourceSize: count.optional(),
  /** `original`: crops, mirror images and two random operations; `beit`: crops and colours; or strengths for drawings. */
  augment: z.union([z.enum(['none', 'original', 'beit']), strengthsOf(augmentDefaults)]).optional(),
  captions: strengthsOf(captionDefaults).optional(),
  /** `upright`: as inference sees pictures. `original`: EXIF is ignored and transparency dropped. */
  pictureRules: z.enum(['upright', 'original']).default('upright'),
  batchSize: count,
  /** Items that are computed at a time, with the losses of the whole batch: less memory. */
  microBatch: count.optional(),
  phases: z.array(phaseSchema).min(1),
  betas: z.tuple([z.number(), z.number()]).default([0.9, 0.98]),
  eps: z.number().positive().default(1e-8),
  weightDecay: strength.default(0.01),
  /** Which parameters decay: by the rule of VLMo, or of BEiT. */
  decayRule: z.enum(['vlmo', 'beit']).default('vlmo'),
  clipNorm: strength.default(1),
  accumulate: count.default(1),
  /** Factor of the learning rate of the heads of answers and statements. */
  headRate: strength.default(1),
  /** Items that stand together in the data set and stay together in a batch, for harder negatives. */
  neighbours: count.default(1),
  groups: z.boolean().default(true),
  /** `one`: a picture is an item, with one of its captions by chance. `each`: every caption is an item, with its picture. */
  captionItems: z.enum(['one', 'each']).default('one'),
  maskProbability: z.number().min(0).max(1).default(0.15),
  /** Masks a share of the words of a text, or within the original's budget of the padded length. */
  masking: z.enum(['words', 'budget']).default('words'),
  /** Largest share of the patches of a picture that `mim` masks; default: 75 of 196, as in BEiT. */
  maskedPatchShare: z.number().positive().max(1).optional(),
  textDropout: z.number().min(0).max(0.9).default(0),
  dropPath: z.number().min(0).max(0.9).default(0),
  /** Below the first VL layer, drop the text and the image expert of a fused sequence apart. */
  dropExpertsApart: z.boolean().default(false),
  /** Highest value of the logit scales; null for none. */
  maxLogitScale: z.number().nullable().default(Math.log(100)),
  /** Share that the moving average of the weights keeps at each step, such as 0.9999; the model that is written is that average. */
  movingAverage: z.number().min(0).max(0.999_999_9).optional(),
  /** How parameters start that no checkpoint gives. */
  initialValues: z.enum(['mome', 'original']).default('mome'),
  /** Type of the weights that the run leaves. Those of a checkpoint are always float32. */
  dtype: z.enum(['float32', 'bfloat16']).default('bfloat16'),
  /** Type in which matrix products are made, forward and backward; default: float32. Weights, sums and moments stay float32. */
  precision: z.enum(['float32', 'bfloat16']).optional(),
  /** Keep only the blocks' inputs for the backward pass: less memory, one more forward pass, the same numbers. */
  checkpointActivations: z.boolean().default(false),
  seed: z.number().int().min(0).default(0),
  threads: count.optional(),
  /** Steps between checkpoints, and how many of the last ones stay. */
  checkpointEvery: count.default(500),
  keepCheckpoints: count.default(1),
  /** Steps between evaluations; 0 = at the end of a phase. */
  evaluateEvery: z.number().int().min(0).default(0),
  /** Steps in a row without finite gradients that end the run. */
  maxNonFiniteSteps: count.default(10),
});
