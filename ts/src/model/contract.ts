/**
 * The contract of runs of VLMo's programs. Every dimension and every input is declared here, once: graphs take them from here, batches
 * are laid out for them, and a run with another name or type of array does not compile.
 */
import type { VlmoConfig } from '../architecture/config.ts';
import {
  type Dim,
  type dropoutSeed,
  f32,
  fixed,
  i32,
  type RunArrays,
  type RunDimsOf,
  type RunSizes,
  runDims,
  u8,
} from '../graph/index.ts';

/** Sizes of a batch, and the row offsets where its parts end. */
export const batchDims = runDims(
  'rows',
  // Rows of all texts = where the image rows begin.
  'text_rows',
  'image_rows',
  // Where the first text begins.
  'text_begin',
  // Where the text-only rows end.
  'text_only_end',
  // Where the image rows of fused sequences end.
  'fused_end',
  // Where the rows of the last image end.
  'image_end',
  'sequences',
  // Image sequences (fused and image-only).
  'images',
  // Distinct pictures given as pixels.
  'pictures',
);

/** Rows that are read after the encoder: of texts, then of pairs (their text's), then of images. The offsets say where each of them end. */
export const keptDims = runDims('kept', 'kept_text_end', 'kept_fused_end', 'kept_end');

/** Sequences of each kind. */
export const countDims = runDims('texts', 'pairs', 'image_count');

/** Chosen text rows, and statements about two pictures. */
export const headDims = runDims('tokens', 'statements');

/** Pairs that are judged, questions, and pictures of statements, each with the whole statement: two a statement. */
export const readDims = runDims('matches', 'questions', 'views');

const objectiveDims = runDims('itm_rows', 'mlm_rows', 'vqa_rows', 'nlvr2_rows', 'mim_rows');

/** Inputs of the encoder. */
export const batchInputs = {
  text_ids: i32([batchDims.text_rows]),
  /** Place of each row's token in its text. */
  text_index: i32([batchDims.text_rows]),
  /** Text begin, text length, image begin and image length of each sequence, in rows. */
  sequences: i32([batchDims.sequences, fixed('range', 4)]),
  /** Picture and token type of each image sequence. */
  picture: i32([batchDims.images]),
  type_index: i32([batchDims.images]),
  /** Rows that are read after the encoder. */
  kept: i32([keptDims.kept]),
} as const;

/** The pictures of a batch: bytes, or numbers already normalised. */
export function pictureInputs({ imageSize }: Pick<VlmoConfig, 'imageSize'>) {
  const [height, width] = [fixed('imageHeight', imageSize), fixed('imageWidth', imageSize)];
  const channels = fixed('channels', 3);
  return {
    bytes: u8([batchDims.pictures, height, width, channels]),
    pixels: f32([batchDims.pictures, channels, height, width]),
  } as const;
}

/** The patches of each image sequence that are masked: 1, else 0. */
export function maskInputs(patches: Dim<'patches'>) {
  return { patch_mask: i32([batchDims.images, patches]) } as const;
}

/** Inputs of the heads of inference: rows among the kept ones, or rows of the batch. */
export const headInputs = {
  kept: batchInputs.kept,
  kept_text: i32([countDims.texts]),
  kept_image: i32([countDims.image_count]),
  kept_pair: i32([countDims.pairs]),
  kept_match: i32([readDims.matches]),
  kept_answer: i32([readDims.questions]),
  kept_reason: i32([readDims.views]),
  kept_mask: i32([headDims.tokens]),
  text_cls: i32([countDims.texts]),
  image_cls: i32([countDims.image_count]),
  pair_cls: i32([countDims.pairs]),
  mlm_rows: i32([headDims.tokens]),
} as const;

/** Inputs of objectives: their rows among the kept ones, and the right result for each. */
export function objectiveInputs(answers: Dim<'answers'>) {
  const { itm_rows, mlm_rows, vqa_rows, nlvr2_rows, mim_rows } = objectiveDims;
  return {
    kept_text: i32([countDims.pairs]),
    kept_image: i32([countDims.pairs]),
    group: i32([countDims.pairs]),
    kept_itm: i32([itm_rows]),
    itm_labels: i32([itm_rows]),
    kept_mlm: i32([mlm_rows]),
    mlm_labels: i32([mlm_rows]),
    kept_vqa: i32([vqa_rows]),
    vqa_targets: f32([vqa_rows, answers]),
    kept_nlvr2: i32([nlvr2_rows]),
    nlvr2_labels: i32([headDims.statements]),
    kept_mim: i32([mim_rows]),
    mim_labels: i32([mim_rows]),
  } as const;
}

/** Embeddings that a loss compares, and the gradients that it found of them, which the encoder goes back from. */
export function embeddingInputs(width: Dim<'width'>) {
  const each = f32([countDims.pairs, width]);
  return {
    image_embed: each,
    text_embed: each,
    image_embed_vl: each,
    text_embed_vl: each,
    d_image_embed: each,
    d_text_embed: each,
    d_image_embed_vl: each,
    d_text_embed_vl: each,
  } as const;
}

/** The weight of a loss as a number of each run, by the name of its output. */
export type LossWeightScalar = `weight.loss.${string}`;

/** The stream of rows that a drop-path scale belongs to: the encoder, or the VL branch. */
export type Stream = 'block' | 'branch';
/** The residual branches of a block. */
export const residualBranches = ['attention', 'ffn'] as const;
export type ResidualBranch = (typeof residualBranches)[number];

/** Input of the drop-path scales of one residual branch, a number for each row. */
export type DropPathInput = `drop_path.${Stream}.${number}.${ResidualBranch}`;
export function dropPathInput(stream: Stream, layer: number, branch: ResidualBranch): DropPathInput {
  return `drop_path.${stream}.${layer}.${branch}`;
}
export type DropPathScales = { readonly [K in DropPathInput]: Float32Array };

export type HeadInputs = typeof headInputs;
export type ObjectiveInputs = ReturnType<typeof objectiveInputs>;
export type MaskArrays = RunArrays<ReturnType<typeof maskInputs>>;
export type EmbeddingArrays = RunArrays<ReturnType<typeof embeddingInputs>>;
export type PictureArrays = RunArrays<ReturnType<typeof pictureInputs>>;

/** Readers of kept rows: `text` reads the rows of the input `kept_text`. */
export type Reader = keyof (HeadInputs & ObjectiveInputs) extends infer K
  ? K extends `kept_${infer R}`
    ? R
    : never
  : never;

/** Sizes that every batch has. */
export type BatchSizes = RunSizes<keyof typeof batchDims | keyof typeof keptDims>;
/** Arrays that every batch has. */
export type BatchArrays = RunArrays<typeof batchInputs>;

/** Arguments of a training program: a batch, its pictures, and the inputs of the program's objectives. */
export interface TrainingArguments {
  readonly dims: BatchSizes & Partial<RunSizes<RunDimsOf<ObjectiveInputs>>>;
  readonly inputs: BatchArrays &
    Partial<PictureArrays> &
    Partial<MaskArrays> &
    Partial<RunArrays<ObjectiveInputs>> &
    Partial<EmbeddingArrays> &
    DropPathScales;
  readonly scalars?: { readonly [K in typeof dropoutSeed.scalar]?: number } & {
    readonly [K in LossWeightScalar]: number;
  };
}
