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

/**
 * The `drop_path.*` inputs of a training program: scales of every residual branch per row, in the last block per kept row, 0 for dropped
 * sequences and 1 / keep for the others.
 *
 * @param highest probability of dropping in the last block; it grows linearly with depth up to this
 * @param apart below the first VL layer, draw for the text expert and the image expert of a fused sequence apart, as the original does
 */
export function dropPathScales(
  { layers, firstVlLayer }: Pick<VlmoConfig, 'layers' | 'firstVlLayer'>,
  { dims, inputs }: BatchInputs,
  highest: number,
  streams: readonly Stream[],
  random: Pick<Random, 'chance'>,
  apart = false,
): DropPathScales {
  const scales: Record<DropPathInput, Float32Array> = {};
  const { sequences, kept } = inputs;
  for (const stream of streams) {
    for (let layer = stream === 'branch' ? firstVlLayer : 0; layer < layers; layer++) {
      const keep = 1 - (highest * layer) / Math.max(1, layers - 1);
      for (const branch of residualBranches) {
        const scale = new Float32Array(dims.rows);
        const draw = () => (random.chance(keep) ? 1 / keep : 0);
        const byExpert = apart && branch === 'ffn' && layer < firstVlLayer;
        for (let s = 0; s < sequences.length; s += 4) {
          const [text, textRows, image, imageRows] = sequences.subarray(s, s + 4) as unknown as [
            number,
            number,
            number,
            number,
          ];
          const value = draw();
          scale.fill(value, text, text + textRows);
          scale.fill(byExpert && textRows > 0 && imageRows > 0 ? draw() : value, image, image + imageRows);
        }
        scales[dropPathInput(stream, layer, branch)] =
          layer < layers - 1 ? scale : Float32Array.from(kept, (row) => scale[row]!);
      }
    }
  }
  return scales;
}
