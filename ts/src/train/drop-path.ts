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
 */
export function dropPathScales(
  { layers, firstVlLayer }: Pick<VlmoConfig, 'layers' | 'firstVlLayer'>,
  { dims, inputs }: BatchInputs,
  highest: number,
  streams: readonly Stream[],
  random: Pick<Random, 'chance'>,
): DropPathScales {
  const scales: Record<DropPathInput, Float32Array> = {};
  const { sequences, kept } = inputs;
  for (const stream of streams) {
    for (let layer = stream === 'branch' ? firstVlLayer : 0; layer < layers; layer++) {
      const keep = 1 - (highest * layer) / Math.max(1, layers - 1);
      for (const branch of residualBranches) {
        const scale = new Float32Array(dims.rows);
        for (let s = 0; s < sequences.length; s += 4) {
          const value = random.chance(keep) ? 1 / keep : 0;
          scale.fill(value, sequences[s]!, sequences[s]! + sequences[s + 1]!);
          scale.fill(value, sequences[s + 2]!, sequences[s + 2]! + sequences[s + 3]!);
        }
        scales[dropPathInput(stream, layer, branch)] =
          layer < layers - 1 ? scale : Float32Array.from(kept, (row) => scale[row]!);
      }
    }
  }
  return scales;
}
