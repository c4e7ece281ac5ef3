/**
 * The cost model: floating-point operations and bytes of every node under given sizes, and its place on the roofline.
 */
import type { Graph } from './graph.ts';
import type { Binding, Cost } from './ops/work.ts';

/** Peak rates of a machine. */
export interface Machine {
  /** Peak floating-point operations per second. */
  readonly flopsPerSecond: number;
  /** Memory bandwidth, bytes per second. */
  readonly bytesPerSecond: number;
}

export interface NodeCost extends Cost {
  readonly index: number;
  readonly op: string;
  /** Share of the graph's least possible time on `machine`; 0 when no machine is given. */
  readonly share: number;
  /** The peak rate that bounds the node on `machine`. */
  readonly bound: 'compute' | 'memory' | 'none';
}

export interface GraphCost extends Cost {
  readonly nodes: readonly NodeCost[];
  /** Least possible seconds on `machine`. */
  readonly seconds: number;
}

/**
 * Forward cost of a graph.
 *
 * @param binding sizes of the per-run dimensions, and `scorePairs`: the sum over sequences of tokens squared
 * @throws MomeError `MOME_INVALID_ARGUMENT` when a dimension has no size
 */
export function graphCost(graph: Graph, binding: Binding, machine?: Machine): GraphCost {
  const plain = graph.nodes.map((node) => ({
    op: node.op.name,
    ...('cost' in node.op ? node.op.cost(node, binding) : { flops: 0, bytes: 0 }),
  }));
  const seconds = plain.map(({ flops, bytes }) =>
    machine ? Math.max(flops / machine.flopsPerSecond, bytes / machine.bytesPerSecond) : 0,
  );
  const total = seconds.reduce((sum, s) => sum + s, 0);
  return {
    flops: plain.reduce((sum, { flops }) => sum + flops, 0),
    bytes: plain.reduce((sum, { bytes }) => sum + bytes, 0),
    seconds: total,
    nodes: plain.map((cost, index) => ({
      index,
      ...cost,
      share: total > 0 ? seconds[index]! / total : 0,
      bound: boundOf(cost, machine),
    })),
  };
}

function boundOf({ flops, bytes }: Cost, machine: Machine | undefined): NodeCost['bound'] {
  if (machine === undefined || (flops === 0 && bytes === 0)) return 'none';
  return flops / machine.flopsPerSecond >= bytes / machine.bytesPerSecond ? 'compute' : 'memory';
}
