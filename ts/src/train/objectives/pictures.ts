/**
 * Masked image modelling as a program of a step: blocks of patches are masked, and the image expert tells their visual tokens.
 */
import { gridOf, type VlmoConfig } from '../../architecture/config.ts';
import { type BatchInputs, keepRows, layoutBatch } from '../../model/batch.ts';
import type { MaskArrays, TrainingArguments } from '../../model/contract.ts';
import { mimFunction } from '../../model/objectives.ts';
import { Pace } from '../../runtime/pace.ts';
import { maskBlocks } from '../masking-blocks.ts';
import { dropPathInputs, objectiveOptionsOf, type StepProgram, type StepSetting, scalarsOf } from './step.ts';

/** The program of `mim`. */
export function picturesProgram(setting: StepSetting): StepProgram {
  const { config, options, trainable } = setting;
  const grid = gridOf(config);
  return {
    training: mimFunction(config, objectiveOptionsOf(options), trainable),
    sample: ({ batch, random }): TrainingArguments => {
      const tokens = batch.visualTokens!;
      const masks = new Int32Array(tokens.length);
      const share = options.maskedPatchShare;
      for (let begin = 0; begin < masks.length; begin += grid ** 2)
        masks.set(maskBlocks(grid, random, share === undefined ? undefined : { share }), begin);
      const { dims, inputs } = maskedPictures(config, tokens, masks);
      return {
        dims,
        inputs: { ...inputs, bytes: batch.bytes!, ...dropPathInputs(setting, { dims, inputs }, ['block'], random) },
        scalars: scalarsOf(options, random),
      };
    },
    finish: async ({ mim_logits }, { accuracies }, { inputs }) => {
      accuracies.mim = await shareOfRight(mim_logits!, inputs.mim_labels!);
    },
  };
}

/**
 * Lays out pictures with masked patches.
 *
 * @param visualTokens [pictures, grid^2] the token of each patch
 * @param masks [pictures, grid^2] 1 for masked patches, else 0
 * @returns sizes and inputs of a run of `mimFunction`, but for the pixels
 */
export function maskedPictures(
  config: VlmoConfig,
  visualTokens: Int32Array,
  masks: Int32Array,
): {
  readonly dims: TrainingArguments['dims'];
  readonly inputs: BatchInputs<'mim'>['inputs'] & MaskArrays & { readonly mim_labels: Int32Array };
} {
  const patches = gridOf(config) ** 2;
  const pictures = masks.length / patches;
  const images = Array.from({ length: pictures }, (_, picture) => ({ picture }));
  const layout = layoutBatch(config, { images }, pictures);
  const masked = masks.reduce((sum, each) => sum + each, 0);
  const rows = new Int32Array(masked);
  const labels = new Int32Array(masked);
  let count = 0;
  for (let at = 0; at < masks.length; at++) {
    if (masks[at] === 0) continue;
    rows[count] = layout.imageCls[Math.floor(at / patches)]! + 1 + (at % patches);
    labels[count++] = visualTokens[at]!;
  }
  const kept = keepRows({ images: { mim: rows } });
  return {
    dims: { ...layout.dims, ...kept.dims, mim_rows: masked },
    inputs: { ...layout.inputs, ...kept.inputs, patch_mask: masks, mim_labels: labels },
  };
}

/** The share of rows of [rows, classes] logits whose highest one, the first of equals, is that of the label. */
async function shareOfRight(logits: Float32Array, labels: Int32Array): Promise<number> {
  const pace = new Pace();
  const classes = logits.length / labels.length;
  let right = 0;
  for (let row = 0; row < labels.length; row++) {
    const begin = row * classes;
    let best = 0;
    for (let i = 1; i < classes; i++) if (logits[begin + i]! > logits[begin + best]!) best = i;
    if (best === labels[row]) right++;
    await pace.rest();
  }
  return labels.length === 0 ? 0 : right / labels.length;
}
