/**
 * Reverse-mode differentiation: walks the nodes backwards and lets each op's rule append its backward kernel calls.
 */
import { check } from '../runtime/errors.ts';
import type { Graph } from './graph.ts';
import { addOp } from './ops/add.ts';
import type {
  Attribute,
  BackwardCall,
  GradientContext,
  GraphNode,
  Instruction,
  KernelOp,
  Node,
  Op,
  View,
} from './ops/op.ts';
import type { Activation, Dim, Input, Names, Operand, ParameterGradient, RowRange, Value } from './value.ts';

/** A loss and its weight in the sum that is differentiated; a weight can be a number given at each run. */
export interface WeightedLoss {
  readonly loss: Activation<['one']>;
  readonly weight: number | { readonly scalar: string };
}

/** The gradient of an activation that the caller of a run computed elsewhere. */
export interface Seed {
  readonly value: Activation;
  readonly gradient: Input<Names, 'f32'>;
}

export interface TrainingSequenceOptions {
  /** Keep the input of each segment alone and compute the rest again. */
  readonly checkpointActivations?: boolean;
  /** Gradients that are given: differentiation begins at these values beside the losses. */
  readonly seeds?: readonly Seed[];
  /** Inputs whose gradients are wanted. */
  readonly inputs?: readonly Input<Names, 'f32'>[];
}

/** Forward and backward, and the gradients of the inputs that were wanted, by their names. */
export interface TrainingSequence extends Sequence {
  readonly inputGradients: ReadonlyMap<string, Activation>;
}

/** Everything a program runs, in order, with the memory relations between values. */
export interface Sequence {
  readonly instructions: readonly Instruction[];
  readonly views: readonly View[];
}

/** The forward kernel calls and views of a graph. */
export function forwardSequence(graph: Graph): Sequence {
  return sequenceOf(graph.nodes);
}

function sequenceOf(nodes: readonly GraphNode[]): Sequence {
  const instructions: Instruction[] = [];
  const views: View[] = [];
  for (const { op, ...node } of nodes) {
    if ('views' in op) views.push(...op.views(node));
    else instructions.push(forwardInstruction(op, node));
  }
  return { instructions, views };
}

/**
 * Forward and backward of `graph` for the weighted sum of `losses`. Parameter gradients accumulate; parameters for which
 * `trainable` is false are frozen: nothing is computed for them.
 *
 * With `checkpointActivations` every segment of the graph keeps its input alone and is computed again before it is differentiated:
 * the same numbers, less memory, one more forward pass.
 *
 * A loss that another program computes is differentiated through `seeds`, the gradients that it found; that other program gives them
 * as gradients of its `inputs`.
 */
export function trainingSequence(
  graph: Graph,
  losses: readonly WeightedLoss[],
  trainable: (parameter: string) => boolean = () => true,
  { checkpointActivations = false, seeds = [], inputs = [] }: TrainingSequenceOptions = {},
): TrainingSequence {
  check(
    losses.length + seeds.length > 0,
    'MOME_INVALID_ARGUMENT',
    `graph ${graph.name}: expected at least one loss to differentiate, got none`,
  );
  const forward = forwardSequence(graph);
  const context = new Reverse(graph, losses, trainable, seeds, inputs);
  const segmentByEnd = new Map(checkpointActivations ? graph.segments.map((segment) => [segment.end, segment]) : []);
  for (let end = graph.nodes.length; end > 0; ) {
    const first = segmentByEnd.get(end)?.first ?? end - 1;
    const nodes = graph.nodes.slice(first, end);
    const again =
      segmentByEnd.has(end) && nodes.some((node) => context.reaches(node)) ? context.recompute(nodes) : nodes;
    for (const node of again.reverse()) node.op.gradient(node, context);
    end = first;
  }
  return {
    instructions: [...forward.instructions, ...context.instructions],
    views: [...forward.views, ...context.views],
    inputGradients: context.inputGradients(),
  };
}

/** Every gradient of a parameter that the kernel calls of `sequence` add to. */
export function parameterGradients({ instructions }: Sequence): ParameterGradient[] {
  return instructions.flatMap(({ operands }) =>
    Object.values(operands).filter((operand): operand is ParameterGradient => operand?.kind === 'gradient'),
  );
}

function forwardInstruction({ name, results }: KernelOp, { operands, results: values, attributes }: Node): Instruction {
  const memory = Object.entries(results);
  const inPlace = memory.flatMap(([key, rule]) => (typeof rule === 'object' ? [[key, rule.inPlaceOf] as const] : []));
  const optional = memory.flatMap(([key, rule]) => (rule === 'optional' ? [key] : []));
  return {
    op: name,
    direction: 'forward',
    operands,
    results: values,
    attributes,
    optional,
    inPlace: Object.fromEntries(inPlace),
  };
}

class Reverse implements GradientContext {
  readonly instructions: Instruction[] = [];
  readonly views: View[] = [];
  readonly #graph: Graph;
  /** By the id of an activation or the name of an input. */
  readonly #gradients = new Map<number | string, Value>();
  /** Gradients that more than one value points to: nobody may add to them in place. */
  readonly #shared = new Set<number>();
  readonly #losses: ReadonlyMap<number, WeightedLoss['weight']>;
  readonly #trainable: (parameter: string) => boolean;
  readonly #needed: ReadonlySet<number>;
  readonly #wantedInputs: ReadonlySet<string>;
  /** Recomputed value -> the value it repeats, under which gradients are known. */
  readonly #original = new Map<number, number | string>();

  constructor(
    graph: Graph,
    losses: readonly WeightedLoss[],
    trainable: (parameter: string) => boolean,
    seeds: readonly Seed[],
    inputs: readonly Input<Names, 'f32'>[],
  ) {
    this.#graph = graph;
    this.#losses = new Map(losses.map(({ loss, weight }) => [loss.id, weight]));
    this.#trainable = trainable;
    this.#needed = reachedFromTrainable(graph, trainable);
    this.#wantedInputs = new Set(inputs.map(({ name }) => name));
    for (const { value, gradient } of seeds) if (this.wants(value)) this.#gradients.set(value.id, gradient);
  }

  /** A gradient that the run gives is an input: kernels read it alike, but it has no parts and nobody adds to it. */
  gradient(result: Activation): Activation | undefined {
    return this.#gradients.get(this.#key(result)) as Activation | undefined;
  }

  inputGradients(): ReadonlyMap<string, Activation> {
    const found = [...this.#wantedInputs].flatMap((name) => {
      const gradient = this.#gradients.get(name);
      return gradient?.kind === 'activation' ? [[name, gradient] as const] : [];
    });
    return new Map(found);
  }

  /** Whether a loss depends on a result of `node`, as far as differentiation has come. */
  reaches(node: GraphNode): boolean {
    return Object.values(node.results).some((result) => this.gradient(result));
  }

  /** Appends the kernel calls of `nodes` once more, with results of their own; the new nodes. */
  recompute(nodes: readonly GraphNode[]): GraphNode[] {
    const copies = new Map<number, Activation>();
    const again = nodes.map((node) => {
      const operands = Object.entries(node.operands).map(([key, operand]) => [
        key,
        operand?.kind === 'activation' ? (copies.get(operand.id) ?? operand) : operand,
      ]);
      const results = Object.entries(node.results).map(([key, result]) => {
        const copy = this.#like(result);
        copies.set(result.id, copy);
        this.#original.set(copy.id, this.#key(result));
        return [key, copy];
      });
      return { ...node, operands: Object.fromEntries(operands), results: Object.fromEntries(results) };
    });
    const { instructions, views } = sequenceOf(again);
    this.instructions.push(...instructions);
    this.views.push(...views);
    return again;
  }

  /** A new activation shaped like `value`. */
  #like(value: Value): Activation {
    return this.#graph.activation(value.shape);
  }

  /** The gradient that other readers left on `value`, no longer known as such, if a kernel may add to it in place. */
  #takePending(value: Value): Activation | undefined {
    if (value.kind !== 'activation') return undefined;
    const gradient = this.#gradients.get(this.#key(value));
    // One that the run gives belongs to its caller.
    if (gradient?.kind !== 'activation' || this.#shared.has(gradient.id)) return undefined;
    this.#gradients.delete(this.#key(value));
    return gradient;
  }

  #key(value: Value): number | string {
    return value.kind === 'input' ? value.name : (this.#original.get(value.id) ?? value.id);
  }

  wants(value: Value): boolean {
    const key = this.#key(value);
    return typeof key === 'string' ? this.#wantedInputs.has(key) : this.#needed.has(key);
  }

  parameterGradients(operands: Node['operands'], rows?: RowRange): Node['operands'] {
    const parameters = Object.entries(operands).flatMap(([key, operand]) =>
      operand?.kind === 'parameter' && this.#trainable(operand.name)
        ? [[`d${key}`, { kind: 'gradient', parameter: operand, ...(rows && { rows }) }] as const]
        : [],
    );
    return Object.fromEntries(parameters);
  }

  emit(op: Op, { gradients, ...call }: BackwardCall & Pick<Instruction, 'accumulate'>): void {
    const added = Object.entries(gradients).map(([key, value]) => ({ key, value, gradient: this.#like(value) }));
    const results = Object.fromEntries(added.map(({ key, gradient }) => [key, gradient]));
    this.instructions.push({ op: op.name, direction: 'backward', ...call, results });
    for (const { value, gradient } of added) this.add(value, gradient);
  }

  emitInto(x: Value, op: Op, { operands, attributes }: Pick<BackwardCall, 'operands' | 'attributes'>): void {
    const pending = this.#takePending(x);
    this.emit(op, {
      operands: pending ? { ...operands, pending } : operands,
      gradients: { dx: x },
      attributes: { ...attributes, accumulate_dx: pending !== undefined },
      ...(pending && { accumulate: { dx: 'pending' } }),
    });
  }

  add(value: Value, gradient: Activation): void {
    if (value.kind === 'input' && !this.#wantedInputs.has(value.name)) return;
    const key = this.#key(value);
    const known = this.#gradients.get(key);
    if (known === undefined) {
      // A residual branch hands the very same gradient on: once its first owner is done, adding in place is safe.
      this.#gradients.set(key, gradient);
      return;
    }
    const sum = this.#like(value);
    this.instructions.push(
      forwardInstruction(addOp, {
        operands: { a: known as Activation, b: gradient },
        results: { y: sum },
        attributes: {},
      }),
    );
    this.#gradients.set(key, sum);
  }

  rowsOf(whole: Activation, begin: Dim | number, shape: readonly Dim[]): Activation {
    this.#requireComputed(whole);
    const value = this.#graph.activation<Names>(shape);
    this.views.push({ value, of: whole, begin });
    this.#shared.add(value.id);
    this.#shared.add(whole.id);
    return value;
  }

  reshaped(of: Activation, shape: readonly Dim[]): Activation {
    this.#requireComputed(of);
    const value = this.#graph.activation<Names>(shape);
    this.views.push({ value, of, begin: undefined });
    this.#shared.add(value.id);
    this.#shared.add(of.id);
    return value;
  }

  #requireComputed(gradient: Value): void {
    check(
      gradient.kind === 'activation',
      'MOME_INTERNAL',
      'graph: expected a gradient that is computed, got one that is given',
    );
  }

  lossWeight(loss: Activation): Attribute | undefined {
    return this.#losses.get(loss.id);
  }
}

/** Activations that depend on a trainable parameter: only their gradients are worth computing. */
function reachedFromTrainable(graph: Graph, trainable: (parameter: string) => boolean): ReadonlySet<number> {
  const reached = new Set<number>();
  const isReached = (operand: Operand | undefined): boolean =>
    operand !== undefined &&
    ((operand.kind === 'parameter' && trainable(operand.name)) ||
      (operand.kind === 'activation' && reached.has(operand.id)));
  for (const node of graph.nodes) {
    if (!Object.values(node.operands).some(isReached)) continue;
    for (const result of Object.values(node.results)) reached.add(result.id);
  }
  return reached;
}
