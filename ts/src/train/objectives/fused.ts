/**
 * Objectives on fused sequences as one program of a step: image-text matching with hard negatives, masked language modelling, answers to
 * questions.
 */
import { keepRows, layoutBatch } from '../../model/batch.ts';
import type { TrainingArguments } from '../../model/contract.ts';
import { fusedFunction } from '../../model/objectives.ts';
import type { Negatives } from '../mining.ts';
import type { Range } from '../whole-batch.ts';
import {
  type AnswerTargets,
  accuracyOf,
  dropPaths,
  fusedPairsOf,
  indices,
  maskedLabels,
  maskedRows,
  maskedText,
  meansProgram,
  objectiveOptionsOf,
  type Sampled,
  type SamplingOptions,
  type StepContext,
  type StepProgram,
  type StepSetting,
  scalarsOf,
} from './step.ts';

/** A fused sequence: a text, a picture of the whole batch, and its place among all sequences of the batch. */
interface FusedPair {
  readonly text: Int32Array;
  readonly picture: number;
  readonly place: number;
}

/** The program of some of `itm`, `mlm` and `vqa`: they read the same pass. */
export function fusedProgram(setting: StepSetting, objectives: readonly ('itm' | 'mlm' | 'vqa')[]): StepProgram {
  const { config, options, trainable } = setting;
  const [withItm, withMlm, withVqa] = (['itm', 'mlm', 'vqa'] as const).map((name) => objectives.includes(name));
  const training = fusedFunction(config, objectives, objectiveOptionsOf(setting), trainable);
  const program = meansProgram(training, (context): Sampled => {
    const { whole, random, negatives } = context;
    const { texts, own, ownTexts } = whole;
    const fused = fusedPairsOf(options, whole);
    const masked = withMlm ? texts.slice(0, fused).map((text) => maskedText(setting, text, random)) : [];
    // The order of all sequences: own pairs, wrong pictures, wrong texts, masked texts, questions.
    const firstMasked = withItm ? 3 * fused : 0;
    const firstAsked = firstMasked + masked.length;
    const count = firstAsked + (withVqa ? texts.length : 0);
    const dropped = dropPaths(setting, new Array<boolean>(count).fill(true), ['block'], random);
    const scalars = scalarsOf(options, random);
    return {
      rows: {
        itm: withItm ? 3 * fused : 0,
        mlm: masked.reduce((sum, { labels }) => sum + labels.length, 0),
        vqa: withVqa ? texts.length : 0,
      },
      parts: whole.microBatches(withVqa ? ownTexts : partOf(context, options)),
      part: (range) => {
        const of = indices({ begin: range.begin, end: Math.min(range.end, fused) });
        const asked = withVqa ? indices(range) : [];
        const matched = withItm ? matchedPairs(texts, negatives!, of, fused) : [];
        const read = withMlm ? of.map((i) => masked[i]!) : [];
        const pairs: FusedPair[] = [
          ...matched,
          ...read.map(({ ids }, i) => ({ text: ids, picture: of[i]!, place: firstMasked + of[i]! })),
          ...asked.map((i) => ({ text: texts[i]!, picture: i, place: firstAsked + i })),
        ];
        const pictures = [...new Set([...(withVqa ? asked : of), ...pairs.map(({ picture }) => picture)])];
        const pictureAt = new Map(pictures.map((picture, at) => [picture, at]));
        const shown = pairs.map(({ text, picture }) => ({ text, picture: pictureAt.get(picture)! }));
        const layout = layoutBatch(config, { pairs: shown }, pictures.length);
        const cls = layout.pairTextCls;
        const mlmRows = maskedRows(read, cls.subarray(matched.length));
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
        const answers = withVqa ? asked.map((i) => own.answers![i - ownTexts.begin]!) : [];
        const places = pairs.map(({ place }) => place);
        const args: TrainingArguments = {
          dims,
          inputs: {
            ...inputs,
            bytes: whole.pixels(pictures),
            ...(withItm && { itm_labels: matchLabels(matched.length) }),
            ...(withMlm && { mlm_labels: maskedLabels(read) }),
            ...(withVqa && { vqa_targets: answerTargets(answers, config.answers) }),
            ...dropped.inputs({ dims, inputs }, places),
          },
          scalars: scalars(range.begin),
        };
        return {
          args,
          accuracies: ({ itm_logits, vqa_logits }) => ({
            ...(itm_logits && { itm: accuracyOf(itm_logits, matchLabels(itm_logits.length / 2)) }),
            ...(vqa_logits && { vqa: meanScore(vqa_logits, answers) }),
          }),
        };
      },
    };
  });
  return {
    ...program,
    run: async (context) => {
      await fetchPictures(setting, context, withVqa!);
      await program.run(context);
    },
  };
}

/** The pairs that this process reads: those of its own, or, of fewer than all, an even part. */
function partOf({ whole, group }: StepContext, options: SamplingOptions): Range {
  const fused = fusedPairsOf(options, whole);
  return fused === whole.texts.length ? whole.ownTexts : whole.evenPart(fused, group.rank);
}

/** Gets the pictures of hard negatives, and of pairs that another process has. */
async function fetchPictures({ options }: StepSetting, context: StepContext, withVqa: boolean): Promise<void> {
  const { whole, group, negatives } = context;
  if (group.size === 1) return;
  const fused = fusedPairsOf(options, whole);
  const isEven = fused < whole.texts.length && !withVqa;
  const wanted = whole.ranges.map((range, rank) => {
    const read = isEven ? whole.evenPart(fused, rank) : { begin: range.begin, end: Math.min(range.end, fused) };
    const own = indices(read);
    return [...own, ...(negatives ? own.map((i) => negatives.image[i]!) : [])];
  });
  await whole.fetch(wanted);
}

/** Some of the first `count` texts with their own picture, then with a wrong one, then their pictures with a wrong text. */
function matchedPairs(
  texts: readonly Int32Array[],
  negatives: Negatives,
  of: readonly number[],
  count: number,
): FusedPair[] {
  return [
    ...of.map((i) => ({ text: texts[i]!, picture: i, place: i })),
    ...of.map((i) => ({ text: texts[i]!, picture: negatives.image[i]!, place: count + i })),
    ...of.map((i) => ({ text: texts[negatives.text[i]!]!, picture: i, place: 2 * count + i })),
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
