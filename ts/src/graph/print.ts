/**
 * The printed form of a graph: one line per node, in execution order.
 */
import { type GraphCost, graphCost } from './cost.ts';
import type { Graph } from './graph.ts';
import { reference } from './lower.ts';
import type { Attribute } from './ops/op.ts';
import type { Binding } from './ops/work.ts';
import { formatShape, type Operand } from './value.ts';

/**
 * Lines such as `%7 [rows x 768] = layer_norm x=%6 gamma=transformer.norm.weight ... eps=0.000001`.
 *
 * @param binding when given, each line ends with the node's GFLOP and MB under these sizes
 */
export function printGraph(graph: Graph, binding?: Binding): string {
  const cost: GraphCost | undefined = binding && graphCost(graph, binding);
  const lines = [`graph ${graph.name}`];
  for (const input of graph.inputs.values())
    lines.push(`  $${input.name} [${formatShape(input.shape)}] ${input.dtype}`);
  for (const [index, node] of graph.nodes.entries()) {
    const results = Object.values(node.results)
      .map((value) => `%${value.id} [${formatShape(value.shape)}]`)
      .join(', ');
    const operands = Object.entries(node.operands)
      .filter(([, operand]) => operand !== undefined)
      .map(([key, operand]) => `${key}=${printOperand(operand as Operand)}`);
    const attributes = Object.entries(node.attributes)
      .filter(([, value]) => value !== undefined)
      .map(([key, value]) => `${key}=${printAttribute(value as Attribute)}`);
    const { flops, bytes } = cost?.nodes[index] ?? {};
    const work =
      flops === undefined || bytes === undefined
        ? ''
        : `  # ${(flops / 1e9).toFixed(3)} GFLOP, ${(bytes / 1e6).toFixed(2)} MB`;
    lines.push(`  ${results} = ${[node.op.name, ...operands, ...attributes].join(' ')}${work}`);
  }
  for (const [name, value] of graph.outputs)
    lines.push(`  output ${name} = %${value.id} [${formatShape(value.shape)}]`);
  if (cost) lines.push(`  # total ${(cost.flops / 1e9).toFixed(3)} GFLOP, ${(cost.bytes / 1e6).toFixed(2)} MB`);
  return `${lines.join('\n')}\n`;
}

function printAttribute(value: Attribute): string {
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  return 'scalar' in value ? `#${value.scalar}` : (value.size?.toString() ?? value.name);
}

const printOperand = (operand: Operand): string => (operand.kind === 'parameter' ? operand.name : reference(operand));
