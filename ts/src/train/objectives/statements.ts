/**
 * Judging statements about two pictures as a program of a step: each statement is read with picture 1 and with picture 2.
 */
import { keepRows, layoutBatch } from '../../model/batch.ts';
import type { TrainingArguments } from '../../model/contract.ts';
import { fusedFunction } from '../../model/objectives.ts';
import {
  accuracyOf,
  dropPaths,
  indices,
  meansProgram,
  objectiveOptionsOf,
  type Sampled,
  type StepProgram,
  type StepSetting,
  scalarsOf,
} from './step.ts';

/** The program of `nlvr2`. */
export function statementsProgram(setting: StepSetting): StepProgram {
  const { config, options, trainable } = setting;
  const training = fusedFunction(config, ['nlvr2'], objectiveOptionsOf(setting), trainable);
  return meansProgram(training, ({ whole, random }): Sampled => {
    const { texts, own, ownTexts } = whole;
    const dropped = dropPaths(setting, new Array<boolean>(2 * texts.length).fill(true), ['block'], random);
    const scalars = scalarsOf(options, random);
    return {
      rows: { nlvr2: texts.length },
      parts: whole.microBatches(ownTexts),
      part: (range) => {
        const statements = indices(range);
        const shown = { begin: 2 * range.begin, end: 2 * range.end };
        const pairs = statements.flatMap((statement, i) => [
          { text: texts[statement]!, picture: 2 * i, type: 1 as const },
          { text: texts[statement]!, picture: 2 * i + 1, type: 2 as const },
        ]);
        const layout = layoutBatch(config, { pairs }, pairs.length);
        const kept = keepRows({ pairs: { nlvr2: layout.pairTextCls } });
        const dims = { ...layout.dims, ...kept.dims, nlvr2_rows: pairs.length, statements: statements.length };
        const inputs = { ...layout.inputs, ...kept.inputs };
        const truth = own.truth!.slice(range.begin - ownTexts.begin, range.end - ownTexts.begin);
        const args: TrainingArguments = {
          dims,
          inputs: {
            ...inputs,
            bytes: whole.pixels(indices(shown)),
            nlvr2_labels: truth,
            ...dropped.inputs({ dims, inputs }, indices(shown)),
          },
          scalars: scalars(range.begin),
        };
        return { args, accuracies: ({ nlvr2_logits }) => ({ nlvr2: accuracyOf(nlvr2_logits!, truth) }) };
      },
    };
  });
}
