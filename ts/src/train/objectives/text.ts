/**
 * Masked language modelling on texts alone as a program of a step: it trains the text expert before training on pairs.
 */
import { keepRows, layoutBatch } from '../../model/batch.ts';
import type { TrainingArguments } from '../../model/contract.ts';
import { textMlmFunction } from '../../model/objectives.ts';
import {
  dropPaths,
  indices,
  maskedLabels,
  maskedRows,
  maskedText,
  meansProgram,
  objectiveOptionsOf,
  type Sampled,
  type StepProgram,
  type StepSetting,
  scalarsOf,
} from './step.ts';

/** A picture that the graph has an input for and no sequence shows. */
const noPicture = new Uint8Array(0);

/** The program of `textmlm`. */
export function textProgram(setting: StepSetting): StepProgram {
  const { config, options, trainable } = setting;
  const training = textMlmFunction(config, objectiveOptionsOf(setting), trainable);
  return meansProgram(training, ({ whole, random }): Sampled => {
    const masked = whole.texts.map((text) => maskedText(setting, text, random));
    const dropped = dropPaths(setting, new Array<boolean>(masked.length).fill(false), ['block'], random);
    const scalars = scalarsOf(options, random);
    return {
      rows: { textmlm: masked.reduce((sum, { labels }) => sum + labels.length, 0) },
      parts: whole.microBatches(whole.ownTexts),
      part: (range) => {
        const read = masked.slice(range.begin, range.end);
        const layout = layoutBatch(config, { texts: read.map(({ ids }) => ids) }, 0);
        const rows = maskedRows(read, layout.textCls);
        const kept = keepRows({ texts: { mlm: rows } });
        const dims = { ...layout.dims, ...kept.dims, mlm_rows: rows.length };
        const inputs = { ...layout.inputs, ...kept.inputs };
        const args: TrainingArguments = {
          dims,
          inputs: {
            ...inputs,
            bytes: noPicture,
            mlm_labels: maskedLabels(read),
            ...dropped.inputs({ dims, inputs }, indices(range)),
          },
          scalars: scalars(range.begin),
        };
        return { args };
      },
    };
  });
}
