/** The exponential moving average of a model's weights: steadier than the weights of the last step. */
import { parameterShapes } from '../architecture/parameters.ts';
import { inPieces } from '../runtime/pace.ts';
import type { Trainer } from './trainer.ts';

/**
 * After each step `average += (1 - keep) * (weight - average)`. In the first steps `keep` is at most (1 + step) / (10 + step): an average that
 * starts at random values would else hold them for thousands of steps.
 */
export class MovingAverage {
  readonly #keep: number;
  readonly #values: Map<string, Float32Array>;

  /**
   * @param keep share of the average that a step leaves, 0 to below 1
   * @param values where the average starts: copied
   */
  constructor(keep: number, values: ReadonlyMap<string, Float32Array>) {
    this.#keep = keep;
    this.#values = new Map([...values].map(([name, each]) => [name, each.slice()]));
  }

  get values(): ReadonlyMap<string, Float32Array> {
    return this.#values;
  }

  /** Takes in the weights after an optimiser step. @param step how many steps the average has seen before */
  async update(trainer: Trainer, step: number): Promise<void> {
    const share = 1 - Math.min(this.#keep, (1 + step) / (10 + step));
    for (const name of parameterShapes(trainer.config).keys()) {
      const weights = await trainer.weights.read(name);
      const average = this.#values.get(name)!;
      await inPieces(weights.length, (begin, end) => {
        for (let i = begin; i < end; i++) average[i]! += share * (weights[i]! - average[i]!);
      });
    }
  }
}
