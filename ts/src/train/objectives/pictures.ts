/**
 * Masked image modelling as a program of a step: blocks of patches are masked, and the image expert tells their visual tokens.
 */
import { gridOf, type VlmoConfig } from '../../architecture/config.ts';
import { type BatchInputs, keepRows, layoutBatch } from '../../model/batch.ts';
import type { MaskArrays, TrainingArguments } from '../../model/contract.ts';
import { mimFunction } from '../../model/objectives.ts';
import { Pace } from '../../runtime/pace.ts';
import { maskBlocks } from '../masking-blocks.ts';
import {
  dropPaths,
  indices,
  meansProgram,
  objectiveOptionsOf,
  type Sampled,
  type StepProgram,
  type StepSetting,
  scalarsOf,
} from './step.ts';

/** The program of `mim`. */
export function picturesProgram(setting: StepSetting): StepProgram {
  const { config, options, trainable } = setting;
  const grid = gridOf(config);
  const patches = grid ** 2;
  const training = mimFunction(config, objectiveOptionsOf(setting), trainable);
  return meansProgram(training, async ({ whole, random }): Promise<Sampled> => {
    const { own, ownPictures } = whole;
    const share = options.maskedPatchShare;
    const masks = new Int32Array(whole.pictures * patches);
    const pace = new Pace();
    for (let begin = 0; begin < masks.length; begin += patches) {
      masks.set(maskBlocks(grid, random, share === undefined ? undefined : { share }), begin);
      await pace.rest();
    }
    const dropped = dropPaths(setting, new Array<boolean>(whole.pictures).fill(false), ['block'], random);
    const scalars = scalarsOf(options, random);
    return {
      rows: { mim: masks.reduce((sum, each) => sum + each, 0) },
      parts: whole.microBatches(ownPictures),
      part: (range) => {
        const tokens = own.visualTokens!.slice(
          (range.begin - ownPictures.begin) * patches,
          (range.end - ownPictures.begin) * patches,
        );
        const masked = masks.slice(range.begin * patches, range.end * patches);
        const { dims, inputs } = maskedPictures(config, tokens, masked);
        const places = indices(range);
        const args: TrainingArguments = {
          dims,
          inputs: { ...inputs, bytes: whole.pixels(places), ...dropped.inputs({ dims, inputs }, places) },
          scalars: scalars(range.begin),
        };
        return {
          args,
          accuracies: async ({ mim_logits }) => ({ mim: await shareOfRight(mim_logits!, inputs.mim_labels!) }),
        };
      },
    };
  });
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
