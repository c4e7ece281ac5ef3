/**
 * Judging statements about two pictures as a program of a step: each statement is read with picture 1 and with picture 2.
 */
import { keepRows, layoutBatch } from '../../model/batch.ts';
import type { TrainingArguments } from '../../model/contract.ts';
import { fusedFunction } from '../../model/objectives.ts';
import {
  accuracyOf,
  dropPathInputs,
  objectiveOptionsOf,
  type StepProgram,
  type StepSetting,
  scalarsOf,
} from './step.ts';

/** The program of `nlvr2`. */
export function statementsProgram(setting: StepSetting): StepProgram {
  const { config, options, trainable } = setting;
  return {
    training: fusedFunction(config, ['nlvr2'], objectiveOptionsOf(options), trainable),
    sample: ({ batch, random }): TrainingArguments => {
      const pairs = batch.texts.flatMap((text, i) => [
        { text, picture: 2 * i, type: 1 as const },
        { text, picture: 2 * i + 1, type: 2 as const },
      ]);
      const layout = layoutBatch(config, { pairs }, pairs.length);
      const kept = keepRows({ pairs: { nlvr2: layout.pairTextCls } });
      const dims = { ...layout.dims, ...kept.dims, nlvr2_rows: pairs.length, statements: batch.texts.length };
      const inputs = { ...layout.inputs, ...kept.inputs };
      return {
        dims,
        inputs: {
          ...inputs,
          bytes: batch.bytes!,
          nlvr2_labels: batch.truth!,
          ...dropPathInputs(setting, { dims, inputs }, ['block'], random),
        },
        scalars: scalarsOf(options, random),
      };
    },
    finish: ({ nlvr2_logits }, { accuracies, batch }) => {
      accuracies.nlvr2 = accuracyOf(nlvr2_logits!, batch.truth!);
    },
  };
}
