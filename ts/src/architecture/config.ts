/**
 * The architecture of one VLMo model: every size the graph needs, and how it is read from the files that describe it.
 */
import { z } from 'zod';
import { check, MomeError } from '../runtime/errors.ts';

/** How the model knows where a token stands. */
export type Positions = 'relative' | 'absolute';

/** Sizes of a VLMo model. Letters in shape comments: D = width, H = heads, F = hidden, N = layers, V = vocabulary. */
export interface VlmoConfig {
  /** Side of the square input picture, in pixels (S). */
  readonly imageSize: number;
  /** Side of a square patch, in pixels (P). */
  readonly patchSize: number;
  /** Width of a token (D). */
  readonly width: number;
  /** Number of blocks (N). */
  readonly layers: number;
  /** Attention heads per block (H). */
  readonly heads: number;
  /** Hidden width of an expert divided by `width`. */
  readonly hiddenRatio: number;
  /** First block in which a fused sequence reads the `vl` expert. */
  readonly firstVlLayer: number;
  readonly positions: Positions;
  /** Initial value of `gamma_1` and `gamma_2`; null when the model has no layer scale. */
  readonly layerScale: number | null;
  /** Longest text, in tokens with CLS and SEP (L). */
  readonly maxTextLength: number;
  /** Text length for which the text part of the relative table was sized. */
  readonly maxTextLengthOfInit: number;
  /** Word pieces (V). */
  readonly vocabularySize: number;
  /** Answers of the VQA head. */
  readonly answers: number;
  /**
   * Rows of `token_type_embeddings`: text, picture and, where the model compares two pictures, the second picture. Official files have 3
   * where they are tuned for NLVR2, else 2. Default: 3, or as many as the checkpoint holds.
   */
  readonly tokenTypes?: 2 | 3;
  /**
   * Visual tokens that masked patches are told apart by: with it, the model has a mask token and a head over them. Official files, which
   * are trained on, lack both. Default: none.
   */
  readonly visualTokens?: number;
  /**
   * One feed-forward layer a block that all rows read, in place of experts by modality: as much work for a row, for comparison. Default: false.
   */
  readonly sharedFfn?: boolean;
}

/** Largest sizes of a model. Official ones stay far below: 24 layers, width 1,024, 30,522 word pieces, 3,129 answers. */
export const configLimits = {
  imageSize: 4096,
  patchSize: 512,
  /** Patches along one side of a picture. */
  grid: 256,
  width: 8192,
  layers: 128,
  heads: 256,
  hiddenRatio: 16,
  maxTextLength: 4096,
  vocabularySize: 2 ** 18,
  answers: 100_000,
  /** BEiT has 8,192. */
  visualTokens: 2 ** 16,
  /** Values of a table of positions. */
  positionValues: 2 ** 27,
  /** Parameters of the model together. */
  parameters: 2 ** 36,
} as const;

const limits = configLimits;
const size = z.number().int().positive();

const configSchema = z.strictObject({
  imageSize: size.max(limits.imageSize),
  patchSize: size.max(limits.patchSize),
  width: size.max(limits.width),
  layers: size.max(limits.layers),
  heads: size.max(limits.heads),
  hiddenRatio: size.max(limits.hiddenRatio),
  firstVlLayer: z.number().int().min(0).max(limits.layers),
  positions: z.enum(['relative', 'absolute']),
  layerScale: z.number().positive().nullable(),
  maxTextLength: size.min(2).max(limits.maxTextLength),
  maxTextLengthOfInit: size.min(2).max(limits.maxTextLength),
  vocabularySize: size.max(limits.vocabularySize),
  answers: size.max(limits.answers),
  tokenTypes: z.union([z.literal(2), z.literal(3)]).exactOptional(),
  visualTokens: size.min(2).max(limits.visualTokens).exactOptional(),
  sharedFfn: z.boolean().exactOptional(),
});

/** Argument names of the original training code, as golden cases and official configurations use them. */
const archSchema = z.object({
  image_size: size.max(limits.imageSize),
  patch_size: size.max(limits.patchSize),
  embed_dim: size.max(limits.width),
  depth: size.max(limits.layers),
  num_heads: size.max(limits.heads),
  mlp_ratio: size.max(limits.hiddenRatio).default(4),
  vlffn_start_layer_index: z.number().int().min(0).max(limits.layers),
  use_abs_pos_emb: z.boolean(),
  need_relative_position_embed: z.boolean(),
  layer_scale_init_values: z.number().positive().nullish(),
  max_text_len: size.min(2).max(limits.maxTextLength),
  max_text_len_of_initckpt: size.min(2).max(limits.maxTextLength).default(196),
  vocab_size: size.max(limits.vocabularySize).default(30522),
  vqav2_label_size: size.max(limits.answers).default(3129),
});

const common = {
  imageSize: 224,
  patchSize: 16,
  hiddenRatio: 4,
  maxTextLength: 40,
  maxTextLengthOfInit: 196,
  vocabularySize: 30522,
  answers: 3129,
} as const;

/** The architectures of the official checkpoints, at 224 pixels. */
export const presets = {
  base: { ...common, width: 768, layers: 12, heads: 12, firstVlLayer: 10, positions: 'relative', layerScale: 0.1 },
  base_plus: {
    ...common,
    width: 544,
    layers: 24,
    heads: 16,
    firstVlLayer: 21,
    positions: 'absolute',
    layerScale: null,
  },
  large: { ...common, width: 1024, layers: 24, heads: 16, firstVlLayer: 21, positions: 'relative', layerScale: 0.1 },
} as const satisfies Record<string, VlmoConfig>;

export type PresetName = keyof typeof presets;

/**
 * Checks a configuration read from outside.
 *
 * @throws MomeError `MOME_INVALID_CONFIG` naming the field, what was expected and what was found.
 */
export function parseConfig(value: unknown, where = 'config'): VlmoConfig {
  const parsed = configSchema.safeParse(value);
  if (!parsed.success) throw configError(where, parsed.error);
  return checkConfig(parsed.data, where);
}

/**
 * Reads a configuration that uses the argument names of the original code (`embed_dim`, `depth`, ...).
 *
 * @throws MomeError `MOME_INVALID_CONFIG`.
 */
export function configFromArch(value: unknown, where = 'arch'): VlmoConfig {
  const parsed = archSchema.safeParse(value);
  if (!parsed.success) throw configError(where, parsed.error);
  const arch = parsed.data;
  check(
    arch.use_abs_pos_emb !== arch.need_relative_position_embed,
    'MOME_INVALID_CONFIG',
    `${where}: expected either use_abs_pos_emb or need_relative_position_embed, got ${arch.use_abs_pos_emb} and ${arch.need_relative_position_embed}`,
  );
  return checkConfig(
    {
      imageSize: arch.image_size,
      patchSize: arch.patch_size,
      width: arch.embed_dim,
      layers: arch.depth,
      heads: arch.num_heads,
      hiddenRatio: arch.mlp_ratio,
      firstVlLayer: arch.vlffn_start_layer_index,
      positions: arch.use_abs_pos_emb ? 'absolute' : 'relative',
      layerScale: arch.layer_scale_init_values ?? null,
      maxTextLength: arch.max_text_len,
      maxTextLengthOfInit: arch.max_text_len_of_initckpt,
      vocabularySize: arch.vocab_size,
      answers: arch.vqav2_label_size,
    },
    where,
  );
}

function checkConfig(config: VlmoConfig, where: string): VlmoConfig {
  const expect = (ok: boolean, message: string) => check(ok, 'MOME_INVALID_CONFIG', `${where}: ${message}`);
  expect(
    config.imageSize % config.patchSize === 0,
    `expected imageSize to be a multiple of patchSize, got ${config.imageSize} and ${config.patchSize}`,
  );
  expect(
    config.width % config.heads === 0,
    `expected width to be a multiple of heads, got ${config.width} and ${config.heads}`,
  );
  expect(
    config.firstVlLayer <= config.layers,
    `expected firstVlLayer <= layers, got ${config.firstVlLayer} and ${config.layers}`,
  );
  expect(
    config.positions === 'absolute' || config.maxTextLength <= config.maxTextLengthOfInit,
    `expected maxTextLength <= maxTextLengthOfInit, got ${config.maxTextLength} and ${config.maxTextLengthOfInit}`,
  );
  expect(
    gridOf(config) <= limits.grid,
    `expected at most ${limits.grid} patches along a side, got ${gridOf(config)}: ${config.imageSize} pixels by patches of ${config.patchSize}`,
  );
  const rows = config.positions === 'relative' ? relativePositionsOf(config) : imageTokensOf(config);
  const columns = config.positions === 'relative' ? config.heads * config.layers : config.width;
  expect(
    rows * columns <= limits.positionValues,
    `expected a table of positions of at most 2^27 values, got ${rows} rows of ${columns}`,
  );
  const parameters = roughSize(config);
  expect(parameters <= limits.parameters, `expected at most 2^36 parameters, got about ${parameters}`);
  return config;
}

/** Values of the large matrices: attention and up to three experts in each block, word pieces in and out, answers, visual tokens. */
function roughSize(config: VlmoConfig): number {
  const { width, layers, hiddenRatio, vocabularySize, answers, visualTokens = 0 } = config;
  return layers * width ** 2 * (4 + 6 * hiddenRatio) + width * (2 * vocabularySize + 2 * answers + visualTokens);
}

function configError(where: string, error: z.ZodError): MomeError {
  const issue = error.issues[0];
  const field = issue?.path.join('.') || '(root)';
  return new MomeError('MOME_INVALID_CONFIG', `${where}: ${field}: ${issue?.message ?? 'not a configuration'}`, {
    cause: error,
  });
}

/** Rows of `token_type_embeddings`. */
export const tokenTypesOf = (config: VlmoConfig): 2 | 3 => config.tokenTypes ?? 3;

/** Patches along one side of the picture. */
export const gridOf = (config: VlmoConfig): number => config.imageSize / config.patchSize;

/** Tokens of one picture: CLS and its patches (I). */
export const imageTokensOf = (config: VlmoConfig): number => 1 + gridOf(config) ** 2;

/** Hidden width of an expert (F). */
export const hiddenOf = (config: VlmoConfig): number => config.width * config.hiddenRatio;

/** Rows of `relative_position_bias_table`: image offsets + 3, two cross-modal rows, text offsets. */
export const relativePositionsOf = (config: VlmoConfig): number =>
  (2 * gridOf(config) - 1) ** 2 + 3 + 2 + 2 * config.maxTextLengthOfInit;
