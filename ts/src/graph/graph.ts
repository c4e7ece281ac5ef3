/**
 * A graph under construction: its inputs, parameters and nodes in execution order.
 */
import { check } from '../runtime/errors.ts';
import { ops } from './ops/index.ts';
import type { GraphNode, Node, Op, OpTable } from './ops/op.ts';
import {
  type Activation,
  type Dim,
  type Dims,
  type ElementType,
  formatShape,
  type Input,
  type Names,
  type Parameter,
  sameDim,
} from './value.ts';

/** Nodes of one model function, built by calling ops; readers lower, print, differentiate or cost it. */
export class Graph {
  readonly name: string;
  readonly nodes: GraphNode[] = [];
  readonly inputs = new Map<string, Input>();
  readonly parameters = new Map<string, Parameter>();
  readonly outputs = new Map<string, Activation>();
  /** Stretches of nodes, [first, end), of which training may keep the input alone and compute the rest again. */
  readonly segments: { readonly first: number; readonly end: number }[] = [];
  readonly #table: OpTable;
  #nextId = 0;

  /** @param table the ops that the graph may hold */
  constructor(name: string, table: OpTable = ops) {
    this.name = name;
    this.#table = table;
  }

  /** Declares (or finds) a tensor given at each run. */
  input<const S extends Names, T extends ElementType>(name: string, dtype: T, shape: Dims<S>): Input<S, T> {
    const known = this.inputs.get(name);
    const input: Input<S, T> = { kind: 'input', graph: this, name, dtype, shape };
    if (known === undefined) this.inputs.set(name, input as unknown as Input);
    else this.#sameShape(`input ${name}`, known.shape, shape);
    return input;
  }

  /** Declares (or finds) a weight by its checkpoint name. */
  parameter<const S extends Names>(name: string, shape: Dims<S>): Parameter<S> {
    const known = this.parameters.get(name);
    const parameter: Parameter<S> = { kind: 'parameter', graph: this, name, dtype: 'f32', shape };
    if (known === undefined) this.parameters.set(name, parameter as unknown as Parameter);
    else this.#sameShape(`parameter ${name}`, known.shape, shape);
    return (known as Parameter<S> | undefined) ?? parameter;
  }

  /** A new activation that no node has written yet; ops call this for their results. */
  activation<const S extends Names>(shape: Dims<S>): Activation<S> {
    return { kind: 'activation', graph: this, id: this.#nextId++, dtype: 'f32', shape };
  }

  /** Appends a node; ops call this. */
  push<N extends Node>(op: Op<string, N>, node: NoInfer<N>): void {
    check(
      this.#table[op.name] === op,
      'MOME_INVALID_ARGUMENT',
      `graph ${this.name}: expected an op of its table, got ${op.name}`,
    );
    this.nodes.push({ ...node, op } as GraphNode);
  }

  /** Marks the nodes that `build` appends as one segment. */
  segment<T>(build: () => T): T {
    const first = this.nodes.length;
    const result = build();
    this.segments.push({ first, end: this.nodes.length });
    return result;
  }

  /** Names an activation that the caller gets back after each run. */
  output(name: string, value: Activation): void {
    check(
      !this.outputs.has(name),
      'MOME_INVALID_ARGUMENT',
      `graph ${this.name}: expected one output "${name}", got two`,
    );
    this.outputs.set(name, value);
  }

  #sameShape(what: string, known: readonly Dim[], shape: readonly Dim[]): void {
    check(
      known.length === shape.length && known.every((dim, i) => sameDim(dim, shape[i] as Dim)),
      'MOME_INVALID_SHAPE',
      `graph ${this.name}: expected ${what} to be ${formatShape(known)}, got ${formatShape(shape)}`,
    );
  }
}
