/**
 * Objectives on fused sequences as one program of a step: image-text matching with hard negatives, masked language modelling, answers to
 * questions.
 */
import { keepRows, layoutBatch } from '../../model/batch.ts';
import type { TrainingArguments } from '../../model/contract.ts';
import { fusedFunction } from '../../model/objectives.ts';
import {
  type AnswerTargets,
  accuracyOf,
  dropPathInputs,
  fusedPairsOf,
  maskedLabels,
  maskedRows,
  maskedText,
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

/** The program of some of `itm`, `mlm` and `vqa`: they read the same pass. */
export function fusedProgram(setting: StepSetting, objectives: readonly ('itm' | 'mlm' | 'vqa')[]): StepProgram {
  const { config, options, trainable } = setting;
  const [withMlm, withVqa] = [objectives.includes('mlm'), objectives.includes('vqa')];
  return {
    training: fusedFunction(config, objectives, objectiveOptionsOf(options), trainable),
    sample: (context): TrainingArguments => {
      const { batch, random, negatives } = context;
      const matched = negatives ? matchedPairs(context, fusedPairsOf(options, batch)) : [];
      const masked = withMlm
        ? batch.texts.slice(0, fusedPairsOf(options, batch)).map((text) => maskedText(setting, text, random))
        : [];
      const asked = withVqa ? batch.texts.map((text, picture) => ({ text, picture })) : [];
      const pairs = [...matched, ...masked.map(({ ids }, picture) => ({ text: ids, picture })), ...asked];
      const layout = layoutBatch(config, { pairs }, batch.texts.length);
      const cls = layout.pairTextCls;
      const mlmRows = maskedRows(masked, cls.subarray(matched.length));
      const kept = keepRows({
        pairs: { itm: cls.slice(0, matched.length), mlm: mlmRows, vqa: cls.slice(pairs.length - asked.length) },
      });
      const dims: TrainingArguments['dims'] = {
        ...layout.dims,
        ...kept.dims,
        itm_rows: matched.length,
        mlm_rows: mlmRows.length,
        vqa_rows: asked.length,
      };
      const inputs = { ...layout.inputs, ...kept.inputs };
      return {
        dims,
        inputs: {
          ...inputs,
          bytes: batch.bytes!,
          ...(negatives && { itm_labels: matchLabels(matched.length) }),
          ...(withMlm && { mlm_labels: maskedLabels(masked) }),
          ...(withVqa && { vqa_targets: answerTargets(batch.answers!, config.answers) }),
          ...dropPathInputs(setting, { dims, inputs }, ['block'], random),
        },
        scalars: scalarsOf(options, random),
      };
    },
    finish: ({ itm_logits, vqa_logits }, { accuracies, batch }) => {
      if (itm_logits) accuracies.itm = accuracyOf(itm_logits, matchLabels(itm_logits.length / 2));
      if (vqa_logits) accuracies.vqa = meanScore(vqa_logits, batch.answers!);
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

/** Scores as the rows of a matrix: [questions, answers], 0 for answers that are not named. */
function answerTargets(targets: readonly AnswerTargets[], answers: number): Float32Array {
  const values = new Float32Array(targets.length * answers);
  for (const [row, { labels, scores }] of targets.entries())
    for (let i = 0; i < labels.length; i++) values[row * answers + labels[i]!] = scores[i]!;
  return values;
}

/** The mean of the scores of the best answers: VQA's soft accuracy. */
function meanScore(logits: Float32Array, targets: readonly AnswerTargets[]): number {
  const answers = logits.length / targets.length;
  let sum = 0;
  for (const [row, { labels, scores }] of targets.entries()) {
    const own = logits.subarray(row * answers, (row + 1) * answers);
    let best = 0;
    for (let i = 1; i < answers; i++) if (own[i]! > own[best]!) best = i;
    const place = Array.prototype.indexOf.call(labels, best);
    if (place >= 0) sum += scores[place]!;
  }
  return sum / targets.length;
}
