/**
 * The parts of a training step: programs that run one after the other on the same weights and the same batch.
 */
import type { VlmoConfig } from '../../architecture/config.ts';
import { dropoutSeed } from '../../graph/index.ts';
import type { BatchInputs } from '../../model/batch.ts';
import type { DropPathScales, Stream, TrainingArguments } from '../../model/contract.ts';
import { type Objective, type ObjectiveOptions, type TrainingFunction, weightScalar } from '../../model/objectives.ts';
import type { RunPart } from '../../runtime/addon.ts';
import { MomeError } from '../../runtime/errors.ts';
import { type DropPathDraws, drawDropPath, dropPathRows } from '../drop-path.ts';
import { type MaskedText, type MaskingVocabulary, maskBudget, maskWords } from '../masking.ts';
import type { Negatives } from '../mining.ts';
import type { ProcessGroup } from '../process-group.ts';
import { createRandom, type Random } from '../random.ts';
import type { Range, WholeBatch } from '../whole-batch.ts';

/** How the objectives of a step sample and what they read. */
export interface SamplingOptions {
  /** Objectives of a step. `itm` needs `itc` or `irtr`, whose similarities choose its negatives. */
  readonly objectives: readonly Objective[];
  /** Weights of losses in their sum; default: those of the original, 1, and 0.25 for `mlm`. */
  readonly lossWeights?: Partial<Readonly<Record<Objective, number>>>;
  /** Joint positives: pairs of the same group match each other. */
  readonly groups?: boolean;
  /** Train the VL branch of the contrastive loss too. */
  readonly vlBranch?: boolean;
  /** How many pairs of a batch the fused objectives read; default all. */
  readonly fusedPairs?: number;
  /** How strongly ITM negatives follow the similarities: 1 as in the paper (default), 0 even. */
  readonly negativeSharpness?: number;
  readonly maskProbability?: number;
  /** How words are chosen for `mlm` and `textmlm`: a share of the words of a text, or the original's budget of the padded length. */
  readonly masking?: 'words' | 'budget';
  /** The most patches of a picture that `mim` masks, as a share; default: 75 of 196, as in BEiT. */
  readonly maskedPatchShare?: number;
  readonly textDropout?: number;
  /** Probability of dropping a residual branch of a sequence, growing linearly with depth up to this. */
  readonly dropPath?: number;
  /** Below the first VL layer, drop the text and the image expert of a fused sequence apart, as the original does. */
  readonly dropExpertsApart?: boolean;
  /** Keep only the blocks' inputs for the backward pass and compute the rest again: the same numbers, less memory. */
  readonly checkpointActivations?: boolean;
}

/** Texts with their pictures, and the other inputs of a trainer's objectives. */
export interface TrainingBatch {
  /**
   * [pictures, S, S, 3] raw pixels: a picture for each text; for `nlvr2` two, one after the other; none where `textmlm` is all that is
   * trained; as many as there are where `mim` is.
   */
  readonly bytes?: Uint8Array;
  /** Empty where `mim` is all that is trained. */
  readonly texts: readonly Int32Array[];
  /** Pairs of the same group are joint positives. */
  readonly groups?: Int32Array;
  /** For `vqa`: the answers of each question. */
  readonly answers?: readonly AnswerTargets[];
  /** For `nlvr2`: 1 for each statement that is true, else 0. */
  readonly truth?: Int32Array;
  /** For `mim`: [pictures, grid, grid] the visual token of each patch, row by row, below `config.visualTokens`. */
  readonly visualTokens?: Int32Array;
}

/** Answers that are right for a question: places in the list of answers, and how right each is, 0 to 1. The others are wrong. */
export interface AnswerTargets {
  readonly labels: ArrayLike<number>;
  readonly scores: ArrayLike<number>;
}

/** The model, its vocabulary and the options that a program of a step is built with. */
export interface StepSetting {
  readonly config: VlmoConfig;
  readonly vocabulary: MaskingVocabulary;
  readonly options: SamplingOptions;
  /** Which parameters learn; undefined for all. */
  readonly trainable: ((parameter: string) => boolean) | undefined;
  /** Whether a batch is read in parts, by several processes or one after the other. */
  readonly divided?: boolean;
}

/** Outputs of a run by their names. */
export type RunOutputs = Readonly<Record<string, Float32Array>>;

/** How much of a program a run does, and whether its gradients are the last ones of the step. */
export interface StepRun extends RunPart {
  /** Its gradients are those of all processes already: they count in process 0 alone. */
  readonly countsOnce?: boolean;
  /** Nothing is added to gradients after this run: processes may sum them while it goes on. */
  readonly lastGradients?: boolean;
}

/** One step: its batch, its random numbers, and the results that a program hands to the programs behind it. */
export interface StepContext {
  readonly whole: WholeBatch;
  /** Draws the same numbers in every process: for the whole batch, of which each takes its part. */
  readonly random: Random;
  readonly group: ProcessGroup;
  /** Whether the program that runs is the last one of the step. */
  isLastProgram: boolean;
  /** Runs a program of the step. */
  readonly run: (training: TrainingFunction, args: TrainingArguments, part?: StepRun) => Promise<RunOutputs>;
  /** Hard negatives of the first pairs, drawn by the contrastive program. */
  negatives?: Negatives;
  /** Shares that the micro-batches of this process have in the weighted losses of the whole batch. */
  readonly losses: Partial<Record<Objective, number>>;
  /**
   * The same of objectives that judge, answer or tell visual tokens: the share that was right, or for `vqa` the mean score of the best
   * answers.
   */
  readonly accuracies: Partial<Record<Objective, number>>;
}

/** A program of a step, or several that work together. */
export interface StepProgram {
  /** What `context.run` is given. */
  readonly functions: readonly TrainingFunction[];
  /** Runs forward and backward on the micro-batches of this process and adds to `context.losses` and `accuracies`. */
  readonly run: (context: StepContext) => Promise<void>;
}

/** What was drawn for the whole batch. */
export interface Sampled {
  /** How many rows each loss is the mean of. */
  readonly rows: Partial<Readonly<Record<Objective, number>>>;
  /** The items that this process reads, in micro-batches. */
  readonly parts: readonly Range[];
  /** The arguments of a run on some of the items, and the shares of right results among its outputs. */
  readonly part: (range: Range) => {
    readonly args: TrainingArguments;
    readonly accuracies?: (outputs: RunOutputs) => Accuracies | Promise<Accuracies>;
  };
}
type Accuracies = Partial<Readonly<Record<Objective, number>>>;

/** A program whose losses are means over rows: those of a micro-batch count as its share of all rows. */
export function meansProgram(
  training: TrainingFunction,
  sample: (context: StepContext) => Sampled | Promise<Sampled>,
): StepProgram {
  return {
    functions: [training],
    run: async (context) => {
      const { rows, parts, part } = await sample(context);
      for (const [place, range] of parts.entries()) {
        const { args, accuracies } = part(range);
        const sizes: Readonly<Record<string, number>> = args.dims;
        const shareOf = (objective: Objective, own: number) => (rows[objective] ? own / rows[objective] : 0);
        const weighed = training.losses.map((loss) => ({ ...loss, share: shareOf(loss.objective, sizes[loss.rows]!) }));
        const weights = weighed.map(({ output, weight, share }) => [weightScalar(output), weight * share] as const);
        const outputs = await context.run(
          training,
          { ...args, scalars: { ...args.scalars, ...Object.fromEntries(weights) } },
          { lastGradients: context.isLastProgram && place === parts.length - 1 },
        );
        const right = (await accuracies?.(outputs)) ?? {};
        for (const { objective, output, weight, share } of weighed) {
          addLoss(context, objective, weight * share * numberOf(outputs, output));
          if (right[objective] !== undefined)
            context.accuracies[objective] = (context.accuracies[objective] ?? 0) + share * right[objective];
        }
      }
    },
  };
}

export function addLoss({ losses }: StepContext, objective: Objective, value: number): void {
  losses[objective] = (losses[objective] ?? 0) + value;
}

/** The number that a run gives as an output. */
export function numberOf(outputs: RunOutputs, output: string): number {
  const value = outputs[output]?.[0];
  if (value === undefined) throw new MomeError('MOME_INTERNAL', `trainer: expected output ${output}, got none`);
  return value;
}

/** Whole numbers from `begin` on. */
export function indices({ begin, end }: Range): number[] {
  return Array.from({ length: Math.max(0, end - begin) }, (_, i) => begin + i);
}

/** Inputs of an objective. */
export interface ObjectiveNeeds {
  /** Pictures that belong to each text. */
  readonly picturesPerText: 0 | 1 | 2;
  /** Reads pictures alone, and as many as other objectives read or, where there are none, as the batch has. */
  readonly withoutTexts?: true;
  readonly answers?: true;
  readonly truth?: true;
  readonly visualTokens?: true;
}

/** Inputs of each objective. */
export const objectiveNeeds: Readonly<Record<Objective, ObjectiveNeeds>> = {
  itc: { picturesPerText: 1 },
  irtr: { picturesPerText: 1 },
  itm: { picturesPerText: 1 },
  mlm: { picturesPerText: 1 },
  textmlm: { picturesPerText: 0 },
  mim: { picturesPerText: 1, withoutTexts: true, visualTokens: true },
  vqa: { picturesPerText: 1, answers: true },
  nlvr2: { picturesPerText: 2, truth: true },
};

/** The options of a training graph. */
export function objectiveOptionsOf({ options, divided = false }: StepSetting): ObjectiveOptions {
  return {
    runWeights: divided,
    pixels: 'u8',
    textDropout: options.textDropout ?? 0,
    dropPath: (options.dropPath ?? 0) > 0,
    groups: options.groups ?? false,
    vlBranch: options.vlBranch ?? true,
    checkpointActivations: options.checkpointActivations ?? false,
    ...(options.lossWeights && { lossWeights: options.lossWeights }),
  };
}

/** The groups of a batch where the options ask for joint positives. */
export function groupsOf({ groups }: SamplingOptions, batch: Pick<WholeBatch, 'groups'>): Int32Array | undefined {
  return groups ? batch.groups : undefined;
}

/** How many pairs of a batch the fused objectives read. */
export function fusedPairsOf({ fusedPairs }: SamplingOptions, { texts }: Pick<WholeBatch, 'texts'>): number {
  return Math.min(fusedPairs ?? texts.length, texts.length);
}

/** A text with masked words. */
export function maskedText({ config, vocabulary, options }: StepSetting, text: Int32Array, random: Random): MaskedText {
  const { masking = 'words', maskProbability } = options;
  return masking === 'words'
    ? maskWords(text, vocabulary, random, maskProbability)
    : maskBudget(text, vocabulary, random, config.maxTextLength, maskProbability);
}

/** The rows of the pieces to predict. @param begins row of the CLS token of each text */
export function maskedRows(masked: readonly MaskedText[], begins: Int32Array): Int32Array {
  return Int32Array.from(masked.flatMap(({ positions }, i) => [...positions].map((position) => begins[i]! + position)));
}

/** The pieces to predict, in the order of {@link maskedRows}. */
export function maskedLabels(masked: readonly MaskedText[]): Int32Array {
  return Int32Array.from(masked.flatMap(({ labels }) => [...labels]));
}

/** The share of rows of [rows, 2] logits whose higher one is that of the label. */
export function accuracyOf(logits: Float32Array, labels: Int32Array): number {
  let right = 0;
  for (const [i, label] of labels.entries()) if ((logits[2 * i + 1]! > logits[2 * i]! ? 1 : 0) === label) right++;
  return labels.length === 0 ? 0 : right / labels.length;
}

/** Scales of dropped residual branches, drawn for the whole batch. */
export interface DroppedPaths {
  /** The inputs of a run. @param places where its sequences stand in the whole batch */
  readonly inputs: (batch: BatchInputs, places: readonly number[]) => DropPathScales;
}

/**
 * @param fused for each sequence of the whole batch, whether it has both a text and a picture
 * @returns what gives the inputs of a run; none where nothing is dropped
 */
export function dropPaths(
  { config, options: { dropPath = 0, dropExpertsApart = false, vlBranch } }: StepSetting,
  fused: readonly boolean[],
  streams: readonly Stream[],
  random: Random,
): DroppedPaths {
  if (dropPath === 0) return { inputs: () => ({}) };
  const used = streams.filter((stream) => stream === 'block' || vlBranch !== false);
  const draws: DropPathDraws = drawDropPath(config, fused, dropPath, used, random, dropExpertsApart);
  return { inputs: (batch, places) => dropPathRows(config, batch, draws, places) };
}

/** The scalars of a run on the items from `begin` on: the seed of text dropout where there is any, another one for each part. */
export function scalarsOf(
  { textDropout = 0 }: SamplingOptions,
  random: Random,
): (begin: number) => { readonly [K in typeof dropoutSeed.scalar]?: number } {
  if (textDropout === 0) return () => ({});
  const seed = random.integer(2 ** 31);
  return (begin) => ({ [dropoutSeed.scalar]: begin === 0 ? seed : createRandom(seed, begin).integer(2 ** 31) });
}
