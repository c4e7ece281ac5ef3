/**
 * The description of an op: one object that builds its nodes, differentiates, costs and writes them as ONNX.
 */
import { check } from '../../runtime/errors.ts';
import type { Tensor } from '../onnx/builder.ts';
import type { Emission } from '../onnx/emission.ts';
import {
  type Activation,
  type Dim,
  formatShape,
  type Input,
  type Operand,
  type Parameter,
  type RowRange,
  sameDim,
  type Value,
} from '../value.ts';
import type { Binding, Cost } from './work.ts';

/** Numbers an instruction carries: fixed ones, a per-run dimension, or a per-run scalar given by name. */
export type Attribute = number | boolean | Dim | { readonly scalar: string };

type Operands = Readonly<Record<string, Operand | undefined>>;
type Results = Readonly<Record<string, Activation>>;
type Attributes = Readonly<Record<string, Attribute | undefined>>;

/** One call of an op. Keys of operands, results and attributes are the field names of the native argument struct. */
export interface Node<O extends Operands = Operands, R extends Results = Results, A extends Attributes = Attributes> {
  readonly operands: O;
  readonly results: R;
  readonly attributes: A;
}

/** A node of a graph: the call and its op. */
export type GraphNode = Node & { readonly op: Op };

interface Rules<K extends string, N extends Node> {
  /** Its name in programs: the name of the native op. */
  readonly name: K;
  /** Appends a node to the graph of its operands. */
  readonly build: (...args: never[]) => unknown;
  /** Appends the kernel calls that give the gradients of the operands. */
  gradient(node: N, context: GradientContext): void;
  /** Writes the node as ONNX operators; gives the tensor of the result that other nodes read. */
  onnx(node: N, emission: Emission): Tensor;
}

/** An op that runs as a kernel. */
export interface KernelOp<K extends string = string, N extends Node = Node> extends Rules<K, N> {
  /** The role of each operand for the kernel. */
  readonly operands: { readonly [Key in keyof N['operands']]-?: Role<N['operands'][Key]> };
  /** How the forward kernel treats the memory of each result. */
  readonly results: { readonly [Key in keyof N['results']]: ResultMemory<keyof N['operands'] & string> };
  /** Work of the forward kernel. */
  cost(node: N, binding: Binding): Cost;
}

/** An op that moves no data: it says which values share memory. */
export interface ViewOp<K extends string = string, N extends Node = Node> extends Rules<K, N> {
  views(node: N): readonly View[];
}

export type Op<K extends string = string, N extends Node = Node> = KernelOp<K, N> | ViewOp<K, N>;

/** Rows that the kernel computes with, a weight that its kernel set keeps packed, another parameter, or an input such as ids and labels. */
type Role<T> = [T] extends [Parameter | undefined]
  ? 'matrix' | 'parameter'
  : [T] extends [Input | undefined]
    ? 'input'
    : [T] extends [Value | undefined]
      ? 'rows'
      : 'matrix' | 'parameter' | 'input' | 'rows';

/**
 * `required`: written in every run. `optional`: written only if something reads it. `inPlaceOf`: required, and may take the memory of an
 * operand that nothing reads afterwards.
 */
type ResultMemory<OperandKey extends string> = 'required' | 'optional' | { readonly inPlaceOf: OperandKey };

/** Ops by their names. */
export type OpTable = Readonly<Record<string, Op>>;

/** A table in which every op stands under its own name. */
export function opTable<const T extends { readonly [K in keyof T]: Op<K & string> }>(ops: T): T {
  return ops;
}

/** A value that shares memory with another one. */
export interface View {
  readonly value: Activation;
  readonly of: Activation;
  /** First row of `of` that `value` starts at; undefined for the same memory under another shape. */
  readonly begin: Dim | number | undefined;
}

/** A kernel call, forward or backward, as the lowering sees it. */
export interface Instruction extends Node {
  readonly op: string;
  readonly direction: 'forward' | 'backward';
  /** Results that are left out when nothing reads them. */
  readonly optional?: readonly string[];
  /** Result key -> operand key whose memory it may take over when nobody reads the operand afterwards. */
  readonly inPlace?: Readonly<Record<string, string>>;
  /** Result key -> operand key whose memory it must take over: the kernel adds to it. */
  readonly accumulate?: Readonly<Record<string, string>>;
}

/** A backward kernel call. */
export interface BackwardCall extends Pick<Instruction, 'operands' | 'attributes' | 'inPlace'> {
  /** Result key -> the value whose gradient it is. */
  readonly gradients: Readonly<Record<string, Value>>;
}

/** The interface of gradient rules. */
export interface GradientContext {
  /** Gradient of a result; undefined when no loss depends on it. */
  gradient(result: Activation): Activation | undefined;
  /** Weight of a loss in the sum that is differentiated; undefined when it is not part of it. */
  lossWeight(loss: Activation): Attribute | undefined;
  /** Whether anything wants the gradient of `value`. */
  wants(value: Value): boolean;
  /**
   * `d<key>` for each parameter among the operands that is not frozen: the memory to which a backward kernel adds its gradient.
   *
   * @param rows the rows that the gradients sum over, for kernels that may have none to do in a run
   */
  parameterGradients(operands: Operands, rows?: RowRange): Operands;
  /** Appends a backward kernel call, and adds each of its results to the gradient of that value so far. */
  emit(op: Op, call: BackwardCall): void;
  /** The same for a kernel that, when `accumulate_dx` is set, adds `dx` to the gradient that other readers of `x` left. */
  emitInto(x: Value, op: Op, call: Pick<BackwardCall, 'operands' | 'attributes'>): void;
  /** Adds `gradient` to the gradient of `value` so far. */
  add(value: Value, gradient: Activation): void;
  /** The rows of `whole` from row `begin` on, without copying. */
  rowsOf(whole: Activation, begin: Dim | number, shape: readonly Dim[]): Activation;
  /** The same memory under another shape. */
  reshaped(value: Activation, shape: readonly Dim[]): Activation;
}

/** Throws unless two dimensions agree; `what` reads "linear: inputs of x and weight". */
export function expectSame(what: string, expected: Dim, got: Dim): void {
  check(
    sameDim(expected, got),
    'MOME_INVALID_SHAPE',
    `${what}: expected ${formatShape([expected])}, got ${formatShape([got])}`,
  );
}
