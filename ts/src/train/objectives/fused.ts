/**
 * Objectives on fused sequences as one program of a step: image-text matching with hard negatives, masked language modelling.
 */
import { keepRows, layoutBatch } from '../../model/batch.ts';
import type { TrainingArguments } from '../../model/contract.ts';
import { fusedFunction } from '../../model/objectives.ts';
import { type MaskedText, maskWords } from '../masking.ts';
import {
  dropPathInputs,
  fusedPairsOf,
  objectiveOptionsOf,
  type StepContext,
  type StepProgram,
  type StepSetting,
  scalarsOf,
} from './step.ts';

interface FusedPair {
  readonly text: Int32Array;
  readonly picture: number;
}

/** The program of `itm` and `mlm`, or of one of them: both read the same pass. */
export function fusedProgram(setting: StepSetting, objectives: readonly ('itm' | 'mlm')[]): StepProgram {
  const { config, vocabulary, options, trainable } = setting;
  const withMlm = objectives.includes('mlm');
  return {
    training: fusedFunction(config, objectives, objectiveOptionsOf(options), trainable),
    sample: (context): TrainingArguments => {
      const { batch, random, negatives } = context;
      const matched = negatives ? matchedPairs(context, fusedPairsOf(options, batch)) : [];
      const masked = withMlm
        ? batch.texts
            .slice(0, fusedPairsOf(options, batch))
            .map((text) => maskWords(text, vocabulary, random, options.maskProbability))
        : [];
      const pairs = [...matched, ...masked.map(({ ids }, picture) => ({ text: ids, picture }))];
      const layout = layoutBatch(config, { pairs }, batch.texts.length);
      const mlmRows = maskedRows(masked, layout.pairTextCls.subarray(matched.length));
      const kept = keepRows({ pairs: { itm: layout.pairTextCls.slice(0, matched.length), mlm: mlmRows } });
      const dims: TrainingArguments['dims'] = {
        ...layout.dims,
        ...kept.dims,
        itm_rows: matched.length,
        mlm_rows: mlmRows.length,
      };
      const inputs = { ...layout.inputs, ...kept.inputs };
      return {
        dims,
        inputs: {
          ...inputs,
          bytes: batch.bytes,
          ...(negatives && { itm_labels: matchLabels(matched.length) }),
          ...(withMlm && { mlm_labels: Int32Array.from(masked.flatMap((text) => [...text.labels])) }),
          ...dropPathInputs(setting, { dims, inputs }, ['block'], random),
        },
        scalars: scalarsOf(options, random),
      };
    },
    finish: ({ itm_logits }, context) => {
      if (itm_logits) context.itmAccuracy = accuracy(itm_logits, matchLabels(itm_logits.length / 2));
    },
  };
}

/** The own pairs of the first `count` texts, then each text with a wrong picture, then each picture with a wrong text. */
function matchedPairs({ batch: { texts }, negatives }: StepContext, count: number): FusedPair[] {
  const each = Array.from({ length: count }, (_, i) => i);
  return [
    ...each.map((i) => ({ text: texts[i]!, picture: i })),
    ...each.map((i) => ({ text: texts[i]!, picture: negatives!.image[i]! })),
    ...each.map((i) => ({ text: texts[negatives!.text[i]!]!, picture: i })),
  ];
}

/** Labels of {@link matchedPairs}: the first third belongs together. */
function matchLabels(pairs: number): Int32Array {
  return new Int32Array(pairs).fill(1, 0, pairs / 3);
}

/** Rows of the pieces to predict. @param begins row of the CLS token of each masked text */
function maskedRows(masked: readonly MaskedText[], begins: Int32Array): Int32Array {
  return Int32Array.from(masked.flatMap(({ positions }, i) => [...positions].map((position) => begins[i]! + position)));
}

function accuracy(logits: Float32Array, labels: Int32Array): number {
  let right = 0;
  for (const [i, label] of labels.entries()) if ((logits[2 * i + 1]! > logits[2 * i]! ? 1 : 0) === label) right++;
  return labels.length === 0 ? 0 : right / labels.length;
}
