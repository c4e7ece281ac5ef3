/**
 * What a training step is made of: programs that run one after the other on the same weights and the same batch.
 */
import type { VlmoConfig } from '../../architecture/config.ts';
import { dropoutSeed } from '../../graph/index.ts';
import type { BatchInputs } from '../../model/batch.ts';
import type { DropPathScales, Stream, TrainingArguments } from '../../model/contract.ts';
import type { ObjectiveOptions, TrainingFunction } from '../../model/objectives.ts';
import { dropPathScales } from '../drop-path.ts';
import type { MaskingVocabulary } from '../masking.ts';
import type { Negatives } from '../mining.ts';
import type { Random } from '../random.ts';

/** Objectives a trainer can combine; `itm` needs `itc`, whose similarities choose its negatives. */
export type PairObjective = 'itc' | 'itm' | 'mlm';

/** How the objectives of a step sample and what they read. */
export interface SamplingOptions {
  readonly objectives: readonly PairObjective[];
  /** Joint positives: pairs of the same group match each other. */
  readonly groups?: boolean;
  /** Train the VL branch of the contrastive loss too. */
  readonly vlBranch?: boolean;
  /** How many pairs of a batch the fused objectives read; default all. */
  readonly fusedPairs?: number;
  /** How strongly ITM negatives follow the similarities: 1 as in the paper (default), 0 even. */
  readonly negativeSharpness?: number;
  readonly maskProbability?: number;
  readonly textDropout?: number;
  /** Probability of dropping a residual branch of a sequence, growing linearly with depth up to this. */
  readonly dropPath?: number;
  /** Keep only the blocks' inputs for the backward pass and compute the rest again: the same numbers, less memory. */
  readonly checkpointActivations?: boolean;
}

/** A batch of image-text pairs. */
export interface TrainingBatch {
  /** [pairs, S, S, 3] raw pixels. */
  readonly bytes: Uint8Array;
  readonly texts: readonly Int32Array[];
  /** Pairs of the same group are joint positives. */
  readonly groups?: Int32Array;
}

/** The model, its vocabulary and the options that a program of a step is built with. */
export interface StepSetting {
  readonly config: VlmoConfig;
  readonly vocabulary: MaskingVocabulary;
  readonly options: SamplingOptions;
  /** Which parameters learn; undefined for all. */
  readonly trainable: ((parameter: string) => boolean) | undefined;
}

/** One step: its batch, its random numbers, and the results that a program hands to the programs behind it. */
export interface StepContext {
  readonly batch: TrainingBatch;
  readonly random: Random;
  /** Hard negatives of the first pairs, drawn by the contrastive program. */
  negatives?: Negatives;
  /** Share of pairs whose ITM answer was right. */
  itmAccuracy?: number;
}

/** A program of a step: a graph with its losses, the arguments of a run, and the use of its outputs. */
export interface StepProgram {
  readonly training: TrainingFunction;
  /** Samples this step's arguments; draws from `context.random`. */
  readonly sample: (context: StepContext) => TrainingArguments;
  /** Reads the outputs of the run into `context`. */
  readonly finish?: (outputs: Readonly<Record<string, Float32Array>>, context: StepContext) => void;
}

/** The options of a training graph. */
export function objectiveOptionsOf(options: SamplingOptions): ObjectiveOptions {
  return {
    pixels: 'u8',
    textDropout: options.textDropout ?? 0,
    dropPath: (options.dropPath ?? 0) > 0,
    groups: options.groups ?? false,
    vlBranch: options.vlBranch ?? true,
    checkpointActivations: options.checkpointActivations ?? false,
  };
}

/** The groups of a batch where the options ask for joint positives. */
export function groupsOf({ groups }: SamplingOptions, batch: TrainingBatch): Int32Array | undefined {
  return groups ? batch.groups : undefined;
}

/** How many pairs of a batch the fused objectives read. */
export function fusedPairsOf({ fusedPairs }: SamplingOptions, { texts }: TrainingBatch): number {
  return Math.min(fusedPairs ?? texts.length, texts.length);
}

/** Scales of dropped residual branches as inputs of a run; none where nothing is dropped. */
export function dropPathInputs(
  { config, options: { dropPath = 0, vlBranch } }: StepSetting,
  batch: BatchInputs,
  streams: readonly Stream[],
  random: Random,
): DropPathScales {
  if (dropPath === 0) return {};
  const used = streams.filter((stream) => stream === 'block' || vlBranch !== false);
  return dropPathScales(config, batch, dropPath, used, random);
}

/** The scalars of a run: the seed of text dropout where there is any. */
export function scalarsOf(
  { textDropout = 0 }: SamplingOptions,
  random: Random,
): NonNullable<TrainingArguments['scalars']> {
  return textDropout > 0 ? { [dropoutSeed.scalar]: random.integer(2 ** 31) } : {};
}
