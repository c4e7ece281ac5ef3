/**
 * Masked language modelling on texts alone as a program of a step: it trains the text expert before training on pairs.
 */
import { keepRows, layoutBatch } from '../../model/batch.ts';
import type { TrainingArguments } from '../../model/contract.ts';
import { textMlmFunction } from '../../model/objectives.ts';
import {
  dropPathInputs,
  maskedLabels,
  maskedRows,
  maskedText,
  objectiveOptionsOf,
  type StepProgram,
  type StepSetting,
  scalarsOf,
} from './step.ts';

/** A picture that the graph has an input for and no sequence shows. */
const noPicture = new Uint8Array(0);

/** The program of `textmlm`. */
export function textProgram(setting: StepSetting): StepProgram {
  const { config, options, trainable } = setting;
  return {
    training: textMlmFunction(config, objectiveOptionsOf(options), trainable),
    sample: ({ batch, random }): TrainingArguments => {
      const masked = batch.texts.map((text) => maskedText(setting, text, random));
      const layout = layoutBatch(config, { texts: masked.map(({ ids }) => ids) }, 0);
      const rows = maskedRows(masked, layout.textCls);
      const kept = keepRows({ texts: { mlm: rows } });
      const dims = { ...layout.dims, ...kept.dims, mlm_rows: rows.length };
      const inputs = { ...layout.inputs, ...kept.inputs };
      return {
        dims,
        inputs: {
          ...inputs,
          bytes: noPicture,
          mlm_labels: maskedLabels(masked),
          ...dropPathInputs(setting, { dims, inputs }, ['block'], random),
        },
        scalars: scalarsOf(options, random),
      };
    },
  };
}
