/**
 * An ONNX graph under construction: nodes, small constants, and weights whose values are computed when they are written.
 */
import {
  type AttributeProto,
  attributeTypes,
  type DimensionProto,
  type ElementType,
  elementTypes,
  externalLocation,
  irVersion,
  type ModelProto,
  type NodeProto,
  operatorSet,
  type TensorProto,
  type ValueInfoProto,
} from './proto.ts';

/** Name of a tensor of the ONNX graph. */
export type Tensor = string;

/** Reads a parameter of the model by its checkpoint name. */
export type ReadParameter = (name: string) => Promise<Float32Array>;

/** A float32 tensor outside the `.onnx` file. Weights of the same name hold the same values in every graph of a model. */
export interface OnnxWeight {
  readonly name: string;
  readonly shape: readonly number[];
  /** Parameters of the model that `values` reads. */
  readonly parameters: readonly string[];
  readonly values: (read: ReadParameter) => Promise<Float32Array>;
}

/** An input or output; a size that is a name is bound per run. */
export interface OnnxValue {
  readonly name: string;
  readonly type: ElementType;
  readonly shape: readonly (number | string)[];
}

/** A whole number becomes an integer attribute; real numbers are wrapped, since 1 can be both. */
type OnnxAttribute = number | readonly number[] | { readonly float: number };

/** Where a weight lies in its file, in bytes. */
export interface WeightPlace {
  readonly offset: number;
  readonly length: number;
}

/** A finished graph; `toModel` needs to know where its weights will lie. */
export interface OnnxGraph {
  readonly name: string;
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
  readonly nodes: readonly NodeProto[];
  readonly constants: readonly TensorProto[];
  readonly weights: ReadonlyMap<string, OnnxWeight>;
}

export class OnnxBuilder {
  readonly nodes: NodeProto[] = [];
  readonly constants = new Map<Tensor, TensorProto>();
  readonly weights = new Map<Tensor, OnnxWeight>();
  #scope = '';

  /** Nodes made by `build` are named after `scope`, such as `attention_12`. */
  within<T>(scope: string, build: () => T): T {
    const outer = this.#scope;
    this.#scope = scope;
    try {
      return build();
    } finally {
      this.#scope = outer;
    }
  }

  /** Appends an operator with one result. */
  op(type: string, inputs: readonly Tensor[], attributes: Readonly<Record<string, OnnxAttribute>> = {}): Tensor {
    return this.split(type, inputs, 1, attributes)[0]!;
  }

  /** Appends an operator with `count` results. */
  split(
    type: string,
    inputs: readonly Tensor[],
    count: number,
    attributes: Readonly<Record<string, OnnxAttribute>> = {},
  ): Tensor[] {
    const name = `${this.#scope}/${type}_${this.nodes.length}`;
    const output = count === 1 ? [name] : Array.from({ length: count }, (_, i) => `${name}.${i}`);
    const attribute = Object.entries(attributes).map(([key, value]) => attributeOf(key, value));
    this.nodes.push({ name, op_type: type, input: inputs, output, attribute });
    return output;
  }

  /** A constant list of whole numbers: sizes, axes, positions. */
  ints(...values: readonly number[]): Tensor {
    const bytes = new Uint8Array(BigInt64Array.from(values, BigInt).buffer);
    return this.#constant(`ints.${values.join('_')}`, 'int64', [values.length], bytes);
  }

  /** A constant whole number. */
  int(value: number): Tensor {
    return this.#constant(`int.${value}`, 'int64', [], new Uint8Array(BigInt64Array.of(BigInt(value)).buffer));
  }

  /** A constant real number. */
  float(value: number): Tensor {
    return this.#constant(`float.${value}`, 'float', [], new Uint8Array(Float32Array.of(value).buffer));
  }

  weight(weight: OnnxWeight): Tensor {
    if (!this.weights.has(weight.name)) this.weights.set(weight.name, weight);
    return weight.name;
  }

  #constant(name: Tensor, type: ElementType, dims: readonly number[], bytes: Uint8Array): Tensor {
    this.constants.set(name, { name, dims, data_type: elementTypes[type], raw_data: bytes });
    return name;
  }
}

/**
 * The file of a graph.
 *
 * @param weightsFile name of the file that holds the weights, beside the `.onnx` file
 * @param places where each weight lies in it
 */
export function toModel(
  graph: OnnxGraph,
  weightsFile: string,
  places: ReadonlyMap<string, WeightPlace>,
  about: { readonly version: string; readonly metadata: Readonly<Record<string, string>> },
): ModelProto {
  const weights = [...graph.weights.values()].map(({ name, shape }): TensorProto => {
    const { offset, length } = places.get(name)!;
    const external_data = [
      { key: 'location', value: weightsFile },
      { key: 'offset', value: String(offset) },
      { key: 'length', value: String(length) },
    ];
    return { name, dims: shape, data_type: elementTypes.float, external_data, data_location: externalLocation };
  });
  return {
    ir_version: irVersion,
    producer_name: 'mome',
    producer_version: about.version,
    opset_import: [{ domain: '', version: operatorSet }],
    metadata_props: Object.entries(about.metadata).map(([key, value]) => ({ key, value })),
    graph: {
      name: graph.name,
      node: graph.nodes,
      initializer: [...graph.constants, ...weights],
      input: graph.inputs.map(valueInfo),
      output: graph.outputs.map(valueInfo),
    },
  };
}

function attributeOf(name: string, value: OnnxAttribute): AttributeProto {
  if (typeof value === 'number') return { name, type: attributeTypes.int, i: value };
  if ('float' in value) return { name, type: attributeTypes.float, f: value.float };
  return { name, type: attributeTypes.ints, ints: value };
}

function valueInfo({ name, type, shape }: OnnxValue): ValueInfoProto {
  const dim = shape.map(
    (size): DimensionProto => (typeof size === 'number' ? { dim_value: size } : { dim_param: size }),
  );
  return { name, type: { tensor_type: { elem_type: elementTypes[type], shape: { dim } } } };
}
