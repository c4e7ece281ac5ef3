/**
 * Drop path (stochastic depth, arXiv 1603.09382): whole residual branches of a sequence are left out, more of them in later blocks.
 */

import type { VlmoConfig } from '../architecture/config.ts';
import type { BatchInputs } from '../model/batch.ts';
import {
  type DropPathInput,
  type DropPathScales,
  dropPathInput,
  residualBranches,
  type Stream,
} from '../model/contract.ts';
import type { Random } from './random.ts';

/** What was drawn for a batch: for each branch two scales of each sequence, that of its text and that of its picture. */
export type DropPathDraws = ReadonlyMap<DropPathInput, Float32Array>;

/**
 * Draws the scales of every residual branch for each sequence: 0 for dropped ones and 1 / keep for the others.
 *
 * @param fused for each sequence of the batch, whether it has both a text and a picture
 * @param highest probability of dropping in the last block; it grows linearly with depth up to this
 * @param apart below the first VL layer, draw for the text expert and the image expert of a fused sequence apart, as the original does
 */
export function drawDropPath(
  { layers, firstVlLayer }: Pick<VlmoConfig, 'layers' | 'firstVlLayer'>,
  fused: readonly boolean[],
  highest: number,
  streams: readonly Stream[],
  random: Pick<Random, 'chance'>,
  apart = false,
): DropPathDraws {
  const draws = new Map<DropPathInput, Float32Array>();
  for (const stream of streams) {
    for (let layer = stream === 'branch' ? firstVlLayer : 0; layer < layers; layer++) {
      const keep = 1 - (highest * layer) / Math.max(1, layers - 1);
      const draw = () => (random.chance(keep) ? 1 / keep : 0);
      for (const branch of residualBranches) {
        const scales = new Float32Array(2 * fused.length);
        const byExpert = apart && branch === 'ffn' && layer < firstVlLayer;
        for (const [sequence, both] of fused.entries()) {
          const value = draw();
          scales[2 * sequence] = value;
          scales[2 * sequence + 1] = byExpert && both ? draw() : value;
        }
        draws.set(dropPathInput(stream, layer, branch), scales);
      }
    }
  }
  return draws;
}

/**
 * The `drop_path.*` inputs of a training program: scales of every residual branch per row, in the last block per kept row.
 *
 * @param places where each sequence of the laid-out batch stands among those that were drawn for; default: the same order
 */
export function dropPathRows(
  { layers }: Pick<VlmoConfig, 'layers'>,
  { dims, inputs: { sequences, kept } }: BatchInputs,
  draws: DropPathDraws,
  places?: readonly number[],
): DropPathScales {
  const scales: Record<DropPathInput, Float32Array> = {};
  for (const [input, drawn] of draws) {
    const scale = new Float32Array(dims.rows);
    for (let s = 0; 4 * s < sequences.length; s++) {
      const [text, textRows, image, imageRows] = [0, 1, 2, 3].map((i) => sequences[4 * s + i]!) as Numbers;
      const place = places?.[s] ?? s;
      scale.fill(drawn[2 * place]!, text, text + textRows);
      scale.fill(drawn[2 * place + 1]!, image, image + imageRows);
    }
    const isLast = input.split('.')[2] === String(layers - 1);
    scales[input] = isLast ? Float32Array.from(kept, (row) => scale[row]!) : scale;
  }
  return scales;
}

type Numbers = [number, number, number, number];
