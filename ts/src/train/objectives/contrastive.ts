/**
 * Image-text contrastive learning as a program of a step: texts and pictures apart, and hard negatives from their similarities.
 */
import { type BatchItems, layoutBatch } from '../../model/batch.ts';
import type { TrainingArguments } from '../../model/contract.ts';
import { contrastiveFunction } from '../../model/objectives.ts';
import { drawHardNegatives } from '../mining.ts';
import {
  dropPathInputs,
  fusedPairsOf,
  groupsOf,
  objectiveOptionsOf,
  type StepProgram,
  type StepSetting,
  scalarsOf,
} from './step.ts';

/** The program of `itc` or `irtr`; with `itm` beside it, it draws the hard negatives too. */
export function contrastiveProgram(setting: StepSetting, [objective]: readonly ('itc' | 'irtr')[]): StepProgram {
  const { config, options, trainable } = setting;
  return {
    training: contrastiveFunction(config, objective!, objectiveOptionsOf(options), trainable),
    sample: ({ batch, random }): TrainingArguments => {
      const pairs = batch.texts.length;
      const items: BatchItems = { texts: batch.texts, images: batch.texts.map((_, picture) => ({ picture })) };
      const layout = layoutBatch(config, items, pairs);
      const group = groupsOf(options, batch);
      return {
        dims: { ...layout.dims, pairs },
        inputs: {
          ...layout.inputs,
          bytes: batch.bytes!,
          ...(group && { group }),
          ...dropPathInputs(setting, layout, objective === 'itc' ? ['block', 'branch'] : ['block'], random),
        },
        scalars: scalarsOf(options, random),
      };
    },
    finish: ({ similarity }, context) => {
      if (!options.objectives.includes('itm')) return;
      const { batch, random } = context;
      context.negatives = drawHardNegatives(
        similarity!,
        batch.texts.length,
        fusedPairsOf(options, batch),
        random,
        groupsOf(options, batch),
        options.negativeSharpness,
      );
    },
  };
}
