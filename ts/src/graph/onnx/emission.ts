/**
 * From ragged rows to dense tensors. The graph's rows are one matrix, sorted by modality, of any mix of sequences; an ONNX graph takes
 * one kind of sequence, as [batch, tokens, width]. A `DenseLayout` translates the row ranges and indices of the graph.
 */
import { check, MomeError } from '../../runtime/errors.ts';
import type { Graph } from '../graph.ts';
import type { GraphNode } from '../ops/op.ts';
import type { Dim, Parameter, Value } from '../value.ts';
import { OnnxBuilder, type OnnxGraph, type OnnxValue, type ReadParameter, type Tensor } from './builder.ts';

/** The source of a sequence's tokens. */
export type Part = 'image' | 'text';

/**
 * One kind of sequence. Image tokens come first: their number is fixed, so every boundary is a constant, and tables sized for the longest
 * text are cut at their end.
 */
export interface DenseLayout {
  readonly name: string;
  /** Image tokens of a sequence, CLS included; 0 when it shows no picture. */
  readonly imageTokens: number;
  /** Most text tokens of a sequence; 0 when it has no text. */
  readonly maxTextTokens: number;
  /** The ragged batch's row offsets in ascending order, and the part of the sequence whose rows end there, if any do. */
  readonly rowEnds: readonly { readonly offset: string; readonly part?: Part }[];
  /** Index inputs that pick the first token of a part from every sequence. */
  readonly firstTokens: Readonly<Record<string, Part>>;
  /** Row of the token type table that every picture reads. */
  readonly imageType: number;
  /** Names of the inputs that the dense form takes. */
  readonly inputs: { readonly ids: string; readonly mask: string; readonly pixels: string };
  /** Sizes of those inputs: batch, text length. */
  readonly dims: { readonly batch: string; readonly textLength: string };
}

/** Emits nodes as their results are asked for, so that nothing is emitted that no output needs. */
export class Emission {
  readonly onnx = new OnnxBuilder();
  readonly layout: DenseLayout;
  readonly #producers = new Map<number, GraphNode>();
  readonly #tensors = new Map<number, Tensor>();
  readonly #shared = new Map<string, Tensor>();
  readonly #inputs = new Map<string, OnnxValue>();

  constructor(graph: Graph, layout: DenseLayout) {
    this.layout = layout;
    for (const node of graph.nodes) {
      for (const result of Object.values(node.results)) this.#producers.set(result.id, node);
    }
  }

  /** The dense tensor of a value; the first request emits the nodes that compute it. */
  tensor(value: Value): Tensor {
    if (value.kind === 'input') throw unsupported(`input "${value.name}" as data of an op`);
    const known = this.#tensors.get(value.id);
    if (known !== undefined) return known;
    const node = this.#producers.get(value.id);
    check(node !== undefined, 'MOME_INTERNAL', `onnx: value %${value.id} is never written`);
    const tensor = this.onnx.within(`${node.op.name}_${value.id}`, () => node.op.onnx(node, this));
    this.#tensors.set(value.id, tensor);
    return tensor;
  }

  /** A tensor that several nodes read, made once. */
  once(key: string, make: () => Tensor): Tensor {
    const known = this.#shared.get(key);
    if (known !== undefined) return known;
    const tensor = this.onnx.within(key, make);
    this.#shared.set(key, tensor);
    return tensor;
  }

  get ids(): Tensor {
    const { inputs, dims } = this.layout;
    return this.#input({ name: inputs.ids, type: 'int64', shape: [dims.batch, dims.textLength] });
  }

  get mask(): Tensor {
    const { inputs, dims } = this.layout;
    return this.#input({ name: inputs.mask, type: 'int64', shape: [dims.batch, dims.textLength] });
  }

  pixels(channels: number, size: number): Tensor {
    const { inputs, dims } = this.layout;
    return this.#input({ name: inputs.pixels, type: 'float', shape: [dims.batch, channels, size, size] });
  }

  /** The length of the texts of this run, as a list of one number. */
  get textLength(): Tensor {
    return this.once('text_length', () => this.onnx.op('Shape', [this.ids], { start: 1, end: 2 }));
  }

  /** Parts of a sequence, in token order. */
  get parts(): readonly Part[] {
    const { imageTokens, maxTextTokens } = this.layout;
    return [...(imageTokens > 0 ? (['image'] as const) : []), ...(maxTextTokens > 0 ? (['text'] as const) : [])];
  }

  /** Parts whose rows lie in [begin, end) of the ragged batch; none when this kind of sequence has no such rows. */
  partsBetween(begin: Dim | 0, end: Dim): readonly Part[] {
    const { rowEnds } = this.layout;
    const after = (dim: Dim) => {
      const at = rowEnds.findIndex(({ offset }) => offset === dim.name);
      if (at < 0) throw unsupported(`rows that end at "${dim.name}"`);
      return at + 1;
    };
    const held = rowEnds.slice(begin === 0 ? 0 : after(begin), after(end)).map(({ part }) => part);
    return this.parts.filter((part) => held.includes(part));
  }

  /** First token of a part in every sequence. */
  firstTokenOf(part: Part): number {
    return part === 'image' ? 0 : this.layout.imageTokens;
  }

  /** The tokens of some parts of `x` [batch, tokens, width]. */
  tokensOf(x: Tensor, parts: readonly Part[]): Tensor {
    if (parts.length === this.parts.length) return x;
    const { imageTokens } = this.layout;
    const [begin, end] = parts[0] === 'image' ? [0, imageTokens] : [imageTokens, 2 ** 31 - 1];
    return this.onnx.op('Slice', [x, this.onnx.ints(begin), this.onnx.ints(end), this.onnx.ints(1)]);
  }

  /** Parts of a sequence put together in token order. */
  join(pieces: readonly { readonly parts: readonly Part[]; readonly tensor: Tensor }[]): Tensor {
    const held = pieces.filter(({ parts }) => parts.length > 0);
    if (held.length === 1) return held[0]!.tensor;
    const inOrder = [...held].sort((a, b) => this.parts.indexOf(a.parts[0]!) - this.parts.indexOf(b.parts[0]!));
    return this.onnx.op(
      'Concat',
      inOrder.map(({ tensor }) => tensor),
      { axis: 1 },
    );
  }

  /** A parameter as a weight, in another form when `form` is given; `suffix` tells the forms apart. */
  weight(
    parameter: Parameter,
    form?: {
      readonly suffix: string;
      readonly shape: readonly number[];
      readonly from: Form;
      readonly with?: Parameter;
    },
  ): Tensor {
    const { name } = parameter;
    const other = form?.with?.name;
    return this.onnx.weight({
      name: form ? `${name}.${form.suffix}` : name,
      shape: form?.shape ?? sizesOf(parameter.shape),
      parameters: other === undefined ? [name] : [name, other],
      values: async (read: ReadParameter) => {
        const values = await read(name);
        return form ? form.from(values, other === undefined ? undefined : await read(other)) : values;
      },
    });
  }

  /** The finished graph, with the outputs under the given names. */
  finish(outputs: readonly { readonly value: OnnxValue; readonly tensor: Tensor }[]): OnnxGraph {
    const names = new Map(outputs.map(({ value, tensor }) => [tensor, value.name]));
    const named = (tensor: Tensor) => names.get(tensor) ?? tensor;
    const { ids, mask, pixels } = this.layout.inputs;
    return {
      name: this.layout.name,
      inputs: [ids, mask, pixels].flatMap((name) => this.#inputs.get(name) ?? []),
      outputs: outputs.map(({ value }) => value),
      nodes: this.onnx.nodes.map((node) => ({ ...node, input: node.input.map(named), output: node.output.map(named) })),
      constants: [...this.onnx.constants.values()],
      weights: this.onnx.weights,
    };
  }

  #input(value: OnnxValue): Tensor {
    this.#inputs.set(value.name, value);
    return value.name;
  }
}

/** Computes the values of a weight's form from those of the parameter, and of a second one where the form needs it. */
export type Form = (values: Float32Array, other: Float32Array | undefined) => Float32Array;

/** Sizes of a shape without per-run dimensions. */
export function sizesOf(shape: readonly Dim[]): number[] {
  return shape.map(({ name, size }) => {
    check(size !== undefined, 'MOME_INTERNAL', `onnx: expected a size of "${name}"`);
    return size;
  });
}

export function unsupported(what: string): MomeError {
  return new MomeError('MOME_UNSUPPORTED', `onnx: expected what inference of one kind of sequence needs, got ${what}`);
}
