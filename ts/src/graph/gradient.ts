/**
 * Reverse-mode differentiation: walks the nodes backwards and lets each op's rule append its backward kernel calls.
 */
import { check, MomeError } from '../runtime/errors.ts';
import type { Graph } from './graph.ts';
import { type AnyNode, differentiate } from './ops/index.ts';
import type { Attribute, GradientContext, Instruction } from './ops/node.ts';
import type { Activation, Dim, Names, Operand, Parameter, ParameterGradient, RowRange, Value } from './value.ts';

/** A loss and its weight in the sum that is differentiated; a weight can be a number given at each run. */
export interface WeightedLoss {
  readonly loss: Activation<['one']>;
  readonly weight: number | { readonly scalar: string };
}

/** A value that shares memory with another one. */
export interface View {
  readonly value: Activation;
  readonly of: Activation;
  /** First row of `of` that `value` starts at; undefined for the same memory under another shape. */
  readonly begin: Dim | number | undefined;
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

function sequenceOf(nodes: readonly AnyNode[]): Sequence {
  const instructions: Instruction[] = [];
  const views: View[] = [];
  for (const node of nodes) {
    if (node.op === 'concat_rows') {
      views.push({ value: node.operands.first, of: node.results.y, begin: 0 });
      views.push({ value: node.operands.second, of: node.results.y, begin: node.attributes.begin });
    } else if (node.op === 'reshape') {
      views.push({ value: node.results.y, of: node.operands.x, begin: undefined });
    } else {
      instructions.push(forwardInstruction(node));
    }
  }
  return { instructions, views };
}

/**
 * Forward and backward of `graph` for the weighted sum of `losses`. Parameter gradients accumulate; parameters for which
 * `trainable` is false are frozen: nothing is computed for them.
 *
 * With `checkpointActivations` every segment of the graph keeps its input alone and is computed again before it is differentiated:
 * the same numbers, less memory, one more forward pass.
 */
export function trainingSequence(
  graph: Graph,
  losses: readonly WeightedLoss[],
  trainable: (parameter: string) => boolean = () => true,
  { checkpointActivations = false }: { readonly checkpointActivations?: boolean } = {},
): Sequence {
  check(
    losses.length > 0,
    'MOME_INVALID_ARGUMENT',
    `graph ${graph.name}: expected at least one loss to differentiate, got none`,
  );
  const forward = forwardSequence(graph);
  const context = new Reverse(graph, losses, trainable);
  const segmentByEnd = new Map(checkpointActivations ? graph.segments.map((segment) => [segment.end, segment]) : []);
  for (let end = graph.nodes.length; end > 0; ) {
    const first = segmentByEnd.get(end)?.first ?? end - 1;
    const nodes = graph.nodes.slice(first, end);
    const again =
      segmentByEnd.has(end) && nodes.some((node) => context.reaches(node)) ? context.recompute(nodes) : nodes;
    for (const node of again.reverse()) differentiate(node, context);
    end = first;
  }
  return {
    instructions: [...forward.instructions, ...context.instructions],
    views: [...forward.views, ...context.views],
  };
}

/** Every gradient of a parameter that the kernel calls of `sequence` add to. */
export function parameterGradients({ instructions }: Sequence): ParameterGradient[] {
  return instructions.flatMap(({ operands }) =>
    Object.values(operands).filter((operand): operand is ParameterGradient => operand?.kind === 'gradient'),
  );
}

function forwardInstruction(node: AnyNode): Instruction {
  const inPlace: Partial<Record<string, Readonly<Record<string, string>>>> = {
    proj_residual: { out: 'x' },
    expert_ffn: { out: 'x' },
  };
  const hint = inPlace[node.op];
  return {
    op: node.op,
    direction: 'forward',
    operands: node.operands,
    results: node.results as Readonly<Record<string, Activation>>,
    attributes: node.attributes as Readonly<Record<string, Attribute | undefined>>,
    ...(hint && { inPlace: hint }),
  };
}

class Reverse implements GradientContext {
  readonly instructions: Instruction[] = [];
  readonly views: View[] = [];
  readonly #graph: Graph;
  readonly #gradients = new Map<number, Activation>();
  /** Gradients that more than one value points to: nobody may add to them in place. */
  readonly #shared = new Set<number>();
  readonly #losses: ReadonlyMap<number, WeightedLoss['weight']>;
  readonly #trainable: (parameter: string) => boolean;
  readonly #needed: ReadonlySet<number>;
  /** Recomputed value -> the value it repeats, under which gradients are known. */
  readonly #original = new Map<number, number>();

  constructor(graph: Graph, losses: readonly WeightedLoss[], trainable: (parameter: string) => boolean) {
    this.#graph = graph;
    this.#losses = new Map(losses.map(({ loss, weight }) => [loss.id, weight]));
    this.#trainable = trainable;
    this.#needed = reachedFromTrainable(graph, trainable);
  }

  gradient(result: Activation): Activation | undefined {
    return this.#gradients.get(this.#key(result));
  }

  /** Whether a loss depends on a result of `node`, as far as differentiation has come. */
  reaches(node: AnyNode): boolean {
    return Object.values(node.results as Record<string, Activation>).some((result) => this.gradient(result));
  }

  /** Appends the kernel calls of `nodes` once more, with results of their own; the new nodes. */
  recompute(nodes: readonly AnyNode[]): AnyNode[] {
    const copies = new Map<number, Activation>();
    const again = nodes.map((node) => {
      const operands = Object.entries(node.operands as Record<string, Operand | undefined>).map(([key, operand]) => [
        key,
        operand?.kind === 'activation' ? (copies.get(operand.id) ?? operand) : operand,
      ]);
      const results = Object.entries(node.results as Record<string, Activation>).map(([key, result]) => {
        const copy = this.like(result);
        copies.set(result.id, copy);
        this.#original.set(copy.id, this.#key(result));
        return [key, copy];
      });
      return { ...node, operands: Object.fromEntries(operands), results: Object.fromEntries(results) } as AnyNode;
    });
    const { instructions, views } = sequenceOf(again);
    this.instructions.push(...instructions);
    this.views.push(...views);
    return again;
  }

  #key(value: Activation): number {
    return this.#original.get(value.id) ?? value.id;
  }

  pending(value: Value): Activation | undefined {
    if (value.kind !== 'activation') return undefined;
    const gradient = this.#gradients.get(this.#key(value));
    return gradient && !this.#shared.has(gradient.id) ? gradient : undefined;
  }

  wants(operand: Value | Parameter): boolean {
    if (operand.kind === 'parameter') return this.#trainable(operand.name);
    return operand.kind === 'activation' && this.#needed.has(this.#key(operand));
  }

  parameterGradient(parameter: Parameter | undefined, rows?: RowRange): Operand | undefined {
    return parameter && this.#trainable(parameter.name)
      ? { kind: 'gradient', parameter, ...(rows && { rows }) }
      : undefined;
  }

  like(value: Value): Activation {
    return this.#graph.activation(value.shape as Activation<Names>['shape']);
  }

  activation(shape: readonly Dim[]): Activation {
    return this.#graph.activation<Names>(shape);
  }

  emit(instruction: Omit<Instruction, 'direction'> & { readonly direction?: 'forward' | 'backward' }): void {
    this.instructions.push({ direction: 'backward', ...instruction });
  }

  add(value: Value, gradient: Activation): void {
    if (value.kind !== 'activation') return;
    const key = this.#key(value);
    const known = this.#gradients.get(key);
    if (known === undefined) {
      // A residual branch hands the very same gradient on: once its first owner is done, adding in place is safe.
      this.#gradients.set(key, gradient);
      return;
    }
    const sum = this.like(value);
    this.emit({
      op: 'add',
      direction: 'forward',
      operands: { a: known, b: gradient },
      results: { y: sum },
      attributes: {},
    });
    this.#gradients.set(key, sum);
  }

  replace(value: Value, gradient: Activation): void {
    if (value.kind !== 'activation')
      throw new MomeError('MOME_INTERNAL', 'gradient: expected an activation to replace the gradient of');
    this.#gradients.set(this.#key(value), gradient);
  }

  rowsOf(whole: Activation, begin: Dim | number, shape: readonly Dim[]): Activation {
    const value = this.activation(shape);
    this.views.push({ value, of: whole, begin });
    this.#shared.add(value.id);
    this.#shared.add(whole.id);
    return value;
  }

  reshaped(of: Activation, shape: readonly Dim[]): Activation {
    const value = this.activation(shape);
    this.views.push({ value, of, begin: undefined });
    this.#shared.add(value.id);
    this.#shared.add(of.id);
    return value;
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
    if (!Object.values(node.operands as Record<string, Operand | undefined>).some(isReached)) continue;
    for (const result of Object.values(node.results as Record<string, Activation>)) reached.add(result.id);
  }
  return reached;
}
