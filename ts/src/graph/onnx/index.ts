/** ONNX: the graph for other runtimes. */
import { check } from '../../runtime/errors.ts';
import type { Graph } from '../graph.ts';
import type { OnnxGraph } from './builder.ts';
import { type DenseLayout, Emission, sizesOf } from './emission.ts';

export {
  type OnnxGraph,
  type OnnxValue,
  type OnnxWeight,
  type ReadParameter,
  toModel,
  type WeightPlace,
} from './builder.ts';
export { decodeModel, encodeModel } from './codec.ts';
export type { DenseLayout, Part } from './emission.ts';
export type { ModelProto } from './proto.ts';

/**
 * Writes some outputs of a graph, with all nodes they depend on, as an ONNX graph over one kind of sequence.
 *
 * @param outputs names of outputs of `graph`, each one row per sequence
 * @throws MomeError `MOME_UNSUPPORTED` when an output depends on a value that only training or another kind of sequence has
 */
export function emitOnnx(graph: Graph, layout: DenseLayout, outputs: readonly string[]): OnnxGraph {
  const emission = new Emission(graph, layout);
  const emitted = outputs.map((name) => {
    const output = graph.outputs.get(name);
    check(output !== undefined, 'MOME_INVALID_ARGUMENT', `onnx: expected an output of ${graph.name}, got "${name}"`);
    const shape = [layout.dims.batch, ...sizesOf(output.shape.slice(1))];
    return { value: { name, type: 'float' as const, shape }, tensor: emission.tensor(output) };
  });
  return emission.finish(emitted);
}
