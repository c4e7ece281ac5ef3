import type { Graph } from '../graph.ts';
import type { Activation } from '../value.ts';

/** A scalar that training differentiates. */
export type Loss = Activation<['one']>;

/** A new scalar of `graph`. */
export function newLoss(graph: Graph): Loss {
  return graph.activation([{ name: 'one', size: 1 }]);
}
