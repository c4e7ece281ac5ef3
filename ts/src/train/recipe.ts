/**
 * A training recipe: one JSON file that says everything a run depends on.
 */
import { RE2JS } from 're2js';
import { z } from 'zod';
import { parseConfig, presets, type VlmoConfig } from '../architecture/config.ts';
import { check, MomeError } from '../runtime/errors.ts';
import { type JsonLimits, readJsonFile } from '../runtime/json.ts';
import { augmentDefaults } from './data/augment.ts';
import { captionDefaults } from './data/captions.ts';
import { emojiStyles } from './data/emoji.ts';

const strength = z.number().min(0);
const count = z.number().int().positive();

/** Some of the strengths that `defaults` names, and no others. */
function strengthsOf<Name extends string>(defaults: Readonly<Record<Name, number>>) {
  return z.partialRecord(z.enum(Object.keys(defaults) as [Name, ...Name[]]), strength);
}

/** Most characters of a pattern for names of parameters. */
const maxPatternLength = 500;

/**
 * Whether a parameter's name contains a match of `pattern`. The syntax is that of RE2, whose time grows with the length of the name alone:
 * no lookahead and no references back. Counted repetition such as `a{9}` is refused too: it makes large programs of short patterns.
 *
 * @throws MomeError `MOME_INVALID_CONFIG` for a text that is no such pattern
 */
export function parameterFilter(pattern: string): (name: string) => boolean {
  check(
    pattern.length <= maxPatternLength && !/\{\d/.test(pattern),
    'MOME_INVALID_CONFIG',
    `trainable: expected at most ${maxPatternLength} characters and no counted repetition`,
  );
  const known = new Map<string, boolean>();
  try {
    const compiled = RE2JS.compile(pattern);
    return (name) => {
      const answer = known.get(name) ?? compiled.matcher(name).find();
      known.set(name, answer);
      return answer;
    };
  } catch (error) {
    throw new MomeError('MOME_INVALID_CONFIG', 'trainable: expected a regular expression in the syntax of RE2', {
      cause: error,
    });
  }
}

function isPattern(text: string): boolean {
  try {
    return Boolean(parameterFilter(text));
  } catch {
    return false;
  }
}

/** Objectives of a phase: those that read pictures with captions, or the captions alone. */
const pairObjectives = ['itc', 'irtr', 'itm', 'mlm', 'textmlm'] as const;

const recipeSchema = z.strictObject({
  /** `original`: settings that are not named are those of the original code ({@link originalSettings}). */
  preset: z.enum(['original']).optional(),
  /** A preset, or a configuration; `vocabularySize` may be left to the vocabulary. */
  model: z.union([z.enum(['base', 'base_plus', 'large']), z.record(z.string(), z.unknown())]),
  /** Checkpoint or model folder to start from; random weights otherwise. */
  init: z.string().optional(),
  /** vocab.txt or tokenizer.json to use, or how to learn a vocabulary from the training captions. */
  vocabulary: z.union([z.string(), z.strictObject({ size: count, minFrequency: count.default(1) })]),
  data: z.union([
    z.strictObject({ emoji: z.array(z.enum(emojiStyles)).min(1) }),
    /** JSONL, CSV or folder of image-text pairs, or a JSON file of Karpathy's splits with the folder of its pictures. */
    z.strictObject({
      pairs: z.string(),
      images: z.string().optional(),
      splits: z.array(z.string()).min(1).optional(),
    }),
  ]),
  /** Side at which sources are kept for augmentation; default 1.5 times the model's. */
  sourceSize: count.optional(),
  augment: strengthsOf(augmentDefaults).optional(),
  captions: strengthsOf(captionDefaults).optional(),
  batchSize: count,
  phases: z
    .array(
      z.strictObject({
        objectives: z.array(z.enum(pairObjectives)).min(1),
        /** Weights of losses in their sum. */
        lossWeights: z.partialRecord(z.enum(pairObjectives), strength).optional(),
        steps: count,
        learningRate: z.number().positive(),
        /** A number below 1 is a share of the phase's steps. */
        warmupSteps: z
          .number()
          .min(0)
          .refine((steps) => steps < 1 || Number.isInteger(steps), 'expected a whole number or a share below 1')
          .default(0),
        decay: z.enum(['polynomial', 'cosine', 'constant']).default('cosine'),
        decayPower: z.number().positive().optional(),
        endLearningRate: z.number().min(0).optional(),
        fusedPairs: count.optional(),
        negativeSharpness: strength.default(1),
        /** Regular expression of the parameters that learn; default all. */
        trainable: z
          .string()
          .refine(
            isPattern,
            `expected a regular expression in the syntax of RE2, of at most ${maxPatternLength} characters, without counted repetition`,
          )
          .optional(),
        vlBranch: z.boolean().default(true),
      }),
    )
    .min(1),
  betas: z.tuple([z.number(), z.number()]).default([0.9, 0.98]),
  eps: z.number().positive().default(1e-8),
  weightDecay: strength.default(0.01),
  clipNorm: strength.default(1),
  accumulate: count.default(1),
  /** Items that stand together in the data set and stay together in a batch, for harder negatives. */
  neighbours: count.default(1),
  groups: z.boolean().default(true),
  /** `one`: a picture is an item, with one of its captions by chance. `each`: every caption is an item, with its picture. */
  captionItems: z.enum(['one', 'each']).default('one'),
  maskProbability: z.number().min(0).max(1).default(0.15),
  /** Masks a share of the words of a text, or within the original's budget of the padded length. */
  masking: z.enum(['words', 'budget']).default('words'),
  textDropout: z.number().min(0).max(0.9).default(0),
  dropPath: z.number().min(0).max(0.9).default(0),
  /** Below the first VL layer, drop the text and the image expert of a fused sequence apart. */
  dropExpertsApart: z.boolean().default(false),
  /** Highest value of the logit scales; null for none. */
  maxLogitScale: z.number().nullable().default(Math.log(100)),
  /** How parameters start that no checkpoint gives. */
  initialValues: z.enum(['mome', 'original']).default('mome'),
  /** Type of the weights that the run leaves. Those of a checkpoint are always float32. */
  dtype: z.enum(['float32', 'bfloat16']).default('bfloat16'),
  /** Keep only the blocks' inputs for the backward pass: less memory, one more forward pass, the same numbers. */
  checkpointActivations: z.boolean().default(false),
  seed: z.number().int().min(0).default(0),
  threads: count.optional(),
  /** Steps between checkpoints. */
  checkpointEvery: count.default(500),
  /** Steps between evaluations, by `mome train` on held-out drawings and for emoji data alone; 0 = at the end of a phase. */
  evaluateEvery: z.number().int().min(0).default(0),
});

/** Defaults under `"preset": "original"`: the behaviour of the original code. `textDropout` follows `dropPath`. */
export const originalSettings = {
  captionItems: 'each',
  clipNorm: 0,
  dropExpertsApart: true,
  dropPath: 0.1,
  dtype: 'float32',
  groups: false,
  initialValues: 'original',
  masking: 'budget',
  maxLogitScale: null,
} as const satisfies Partial<z.input<typeof recipeSchema>>;
/** The same for each phase. */
const originalPhase = { decay: 'polynomial', decayPower: 1, endLearningRate: 0 } as const;

/** A checked recipe. */
export type Recipe = z.infer<typeof recipeSchema>;
/** One stretch of a run with its own objectives and schedule. */
export type Phase = Recipe['phases'][number];

/** What the file of a recipe may hold: those of this library have some 60 values. */
const recipeLimits: JsonLimits = { bytes: 2 ** 18, depth: 16, values: 2 ** 12 };

/** Reads and checks a recipe. @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE`, `MOME_TOO_LARGE`, `MOME_INVALID_CONFIG` */
export async function readRecipe(path: string): Promise<Recipe> {
  return parseRecipe(await readJsonFile(path, 'a recipe', recipeLimits), path);
}

/**
 * @throws MomeError `MOME_INVALID_CONFIG` naming the field that is wrong.
 */
export function parseRecipe(value: unknown, where = 'recipe'): Recipe {
  const parsed = recipeSchema.safeParse(isOriginal(value) ? withOriginalSettings(value) : value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new MomeError(
    'MOME_INVALID_CONFIG',
    `${where}: ${issue?.path.join('.') || '(root)'}: ${issue?.message ?? 'not a recipe'}`,
    {
      cause: parsed.error,
    },
  );
}

const isOriginal = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && 'preset' in value && value.preset === 'original';

function withOriginalSettings(recipe: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const { phases, dropPath = originalSettings.dropPath } = recipe;
  const isPhase = (phase: unknown) => typeof phase === 'object' && phase !== null && !Array.isArray(phase);
  return {
    ...originalSettings,
    textDropout: dropPath,
    ...recipe,
    phases: Array.isArray(phases)
      ? phases.map((phase) => (isPhase(phase) ? { ...originalPhase, ...phase } : phase))
      : phases,
  };
}

/** The recipe's model with the vocabulary's size put in. */
export function recipeConfig(recipe: Recipe, vocabularySize: number): VlmoConfig {
  const base = typeof recipe.model === 'string' ? presets[recipe.model] : recipe.model;
  return parseConfig({ ...base, vocabularySize }, 'recipe model');
}
