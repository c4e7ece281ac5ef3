/**
 * Training recipes: JSON that says everything a run depends on, one run or a chain of stages.
 */
import { z } from 'zod';
import { parseConfig, presets, type VlmoConfig } from '../architecture/config.ts';
import { check, MomeError } from '../runtime/errors.ts';
import { type JsonLimits, readJsonFile } from '../runtime/json.ts';
import { namedRecipe, recipeNames } from './named-recipes.ts';
import { recipeSchema } from './recipe-schema.ts';

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
  pictureRules: 'original',
} as const satisfies Partial<z.input<typeof recipeSchema>>;
/** The same for each phase. */
const originalPhase = { decay: 'polynomial', decayPower: 1, endLearningRate: 0 } as const;

/** A checked recipe. */
export type Recipe = z.infer<typeof recipeSchema>;
export type Phase = Recipe['phases'][number];

/** A stage of a chain: a run that starts from the weights of the one before it. */
export interface Stage {
  /** Name of its folder, in the chain's. */
  readonly name: string;
  readonly recipe: Recipe;
}

/** What the file of a recipe may hold: those of this library have some 60 values. */
const recipeLimits: JsonLimits = { bytes: 2 ** 18, depth: 16, values: 2 ** 14 };

type Fields = Readonly<Record<string, unknown>>;
const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Reads and checks a recipe. @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE`, `MOME_TOO_LARGE`, `MOME_INVALID_CONFIG` */
export async function readRecipe(path: string): Promise<Recipe> {
  return parseRecipe(await readRecipeJson(path), path);
}

/** The JSON of a recipe's file. @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE`, `MOME_TOO_LARGE` */
export function readRecipeJson(path: string): Promise<unknown> {
  return readJsonFile(path, 'a recipe', recipeLimits);
}

/**
 * A recipe with all its fields. `recipe` names one of the library's ({@link namedRecipe}) whose fields it has unless it names them itself;
 * `phase` changes single fields of that one's phase.
 *
 * @throws MomeError `MOME_INVALID_CONFIG` naming the field that is wrong
 */
export function parseRecipe(value: unknown, where = 'recipe'): Recipe {
  const parsed = recipeSchema.safeParse(withOriginalSettings(withNamedRecipe(value, where)));
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new MomeError(
    'MOME_INVALID_CONFIG',
    `${where}: ${issue?.path.join('.') || '(root)'}: ${issue?.message ?? 'not a recipe'}`,
    { cause: parsed.error },
  );
}

const recipeName = z.enum(recipeNames);

function withNamedRecipe(value: unknown, where: string): unknown {
  if (!isFields(value) || value.recipe === undefined) return value;
  const { recipe, phase, ...own } = value;
  const name = recipeName.safeParse(recipe);
  check(name.success, 'MOME_INVALID_CONFIG', `${where}: recipe: expected one of ${recipeNames.join(', ')}`);
  check(
    phase === undefined || (isFields(phase) && own.phases === undefined),
    'MOME_INVALID_CONFIG',
    `${where}: phase: expected an object, and no phases beside it`,
  );
  const size = typeof own.model === 'string' && own.model in presets ? (own.model as keyof typeof presets) : 'base';
  const { phases, ...named } = namedRecipe(name.data, size, { sizes: !isFields(own.model) });
  return { ...named, phases: (phases as readonly Fields[]).map((each) => mergePhase(each, phase)), ...own };
}

/** Fields of a phase over those of a recipe's; steps take the place of epochs, and epochs that of steps. */
function mergePhase(named: Fields, own: Fields = {}): Fields {
  const { steps, epochs, ...rest } = named;
  const length = own.steps === undefined && own.epochs === undefined ? { steps, epochs } : {};
  return { ...rest, ...length, ...own };
}

function withOriginalSettings(recipe: unknown): unknown {
  if (!isFields(recipe) || recipe.preset !== 'original') return recipe;
  const { phases, dropPath = originalSettings.dropPath } = recipe;
  return {
    ...originalSettings,
    textDropout: dropPath,
    ...recipe,
    phases: Array.isArray(phases)
      ? phases.map((phase) => (isFields(phase) ? { ...originalPhase, ...phase } : phase))
      : phases,
  };
}

const stageName = z
  .string()
  .regex(/^[a-z0-9][a-z0-9_-]{0,63}$/, 'expected letters, digits, - and _')
  .optional();

/** Whether a recipe's JSON is a chain: `{ "stages": [...] }`. */
export const isChain = (value: unknown): value is Fields => isFields(value) && 'stages' in value;

/**
 * The stages of a chain. Fields beside `stages` are those of every stage that does not name them. A stage's `name`, by default its recipe's,
 * is that of its folder, behind its number.
 *
 * @throws MomeError `MOME_INVALID_CONFIG` naming the stage and the field that is wrong
 */
export function parseChain(value: Fields, where = 'recipe'): Stage[] {
  const { stages, ...shared } = value;
  check(
    Array.isArray(stages) && stages.length > 0 && stages.length <= 100,
    'MOME_INVALID_CONFIG',
    `${where}: stages: expected a list of 1 to 100 recipes`,
  );
  return stages.map((stage: unknown, index) => {
    const at = `${where}: stage ${index + 1}`;
    check(isFields(stage), 'MOME_INVALID_CONFIG', `${at}: expected an object`);
    const { name: given = stage.recipe, ...fields } = stage;
    const name = stageName.safeParse(given);
    check(name.success, 'MOME_INVALID_CONFIG', `${at}: name: ${name.error?.issues[0]?.message}`);
    check(
      index === 0 || fields.init === undefined,
      'MOME_INVALID_CONFIG',
      `${at}: init: expected none, it starts from the stage before it`,
    );
    // Weights are handed over as they are; the last stage alone may round them.
    const handedOver = index < stages.length - 1 ? { dtype: 'float32' } : {};
    // What the first stage starts from is no start of the others.
    const { init: _, ...later } = shared;
    const recipe = parseRecipe({ ...(index === 0 ? shared : later), ...fields, ...handedOver }, at);
    return { name: `${index + 1}-${name.data ?? 'stage'}`, recipe };
  });
}

/** The recipe's model: its own or that of the weights it starts from, with the sizes that the recipe and the vocabulary name. */
export function recipeConfig(recipe: Recipe, vocabularySize: number | undefined, init?: VlmoConfig): VlmoConfig {
  const { model, imageSize, maxTextLength, visualTokens, vlExperts } = recipe;
  // Visual tokens are what one stage predicts: the next one's model has no head for them.
  const { visualTokens: _, ...initSizes } = init ?? {};
  const base = typeof model === 'string' ? presets[model] : (model ?? (init && initSizes));
  check(base !== undefined, 'MOME_INVALID_CONFIG', 'recipe: model: expected sizes, or weights to start from by init');
  const sized = {
    // Models of pictures alone have no vocabulary yet, but room for one.
    vocabularySize: presets.base.vocabularySize,
    ...base,
    ...(vocabularySize !== undefined && { vocabularySize }),
    ...(imageSize !== undefined && { imageSize }),
    ...(maxTextLength !== undefined && { maxTextLength }),
    ...(visualTokens !== undefined && { visualTokens }),
  };
  return parseConfig({ ...sized, ...(!vlExperts && { firstVlLayer: (sized as Fields).layers }) }, 'recipe model');
}
