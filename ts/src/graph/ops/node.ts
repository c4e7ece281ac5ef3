/**
 * The parts every op is made of: its node, its gradient rule and its cost rule.
 */
import { check } from '../../runtime/errors.ts';
import {
  type Activation,
  type Dim,
  formatShape,
  type Operand,
  type Parameter,
  type RowRange,
  sameDim,
  type Value,
} from '../value.ts';

/** Numbers an instruction carries: fixed ones, a per-run dimension, or a per-run scalar given by name. */
export type Attribute = number | boolean | Dim | { readonly scalar: string };

/** One op call. Keys of operands, results and attributes are the field names of the native argument struct. */
export interface NodeOf<
  K extends string,
  Operands extends Record<string, Operand | undefined>,
  Results extends Record<string, Activation>,
  Attributes extends Record<string, Attribute | undefined> = Record<never, never>,
> {
  readonly op: K;
  readonly operands: Operands;
  readonly results: Results;
  readonly attributes: Attributes;
}

/** A kernel call, forward or backward, as the lowering sees it. */
export interface Instruction {
  readonly op: string;
  readonly direction: 'forward' | 'backward';
  readonly operands: Readonly<Record<string, Operand | undefined>>;
  readonly results: Readonly<Record<string, Activation>>;
  readonly attributes: Readonly<Record<string, Attribute | undefined>>;
  /** Result key -> operand key whose memory it may take over when nobody reads the operand afterwards. */
  readonly inPlace?: Readonly<Record<string, string>>;
  /** Result key -> operand key whose memory it must take over: the kernel adds to it. */
  readonly accumulate?: Readonly<Record<string, string>>;
}

/** What a gradient rule may ask and say. */
export interface GradientContext {
  /** Gradient of a result; undefined when no loss depends on it. */
  gradient(result: Activation): Activation | undefined;
  /** Gradient an earlier-visited reader left on `value`, which a kernel may add to in place. */
  pending(value: Value): Activation | undefined;
  /** Whether anything wants the gradient of this operand. */
  wants(operand: Value | Parameter): boolean;
  /**
   * The operand a backward kernel adds a parameter's gradient to; undefined when the parameter is frozen.
   *
   * @param rows the rows that the gradient sums over, for kernels that may have none to do in a run
   */
  parameterGradient(parameter: Parameter | undefined, rows?: RowRange): Operand | undefined;
  /** A fresh activation shaped like `value`. */
  like(value: Value): Activation;
  /** A new activation of the given shape. */
  activation(shape: readonly Dim[]): Activation;
  /** Appends a backward kernel call. */
  emit(instruction: Omit<Instruction, 'direction'> & { readonly direction?: 'forward' | 'backward' }): void;
  /** Adds `gradient` to what is known of `value`'s gradient. */
  add(value: Value, gradient: Activation): void;
  /** Replaces the pending gradient of `value`: a kernel has added to it in place. */
  replace(value: Value, gradient: Activation): void;
  /** Makes `part` the rows of `whole` from row `begin` on, without copying. */
  rowsOf(whole: Activation, begin: Dim | number, shape: readonly Dim[]): Activation;
  /** The same memory under another shape. */
  reshaped(value: Activation, shape: readonly Dim[]): Activation;
  /** Seed of a loss: the weight it has in the sum that is differentiated. */
  lossWeight(loss: Activation): Attribute | undefined;
}

/** Sizes of the per-run dimensions, by name. */
export type Binding = Readonly<Record<string, number>>;

/** Work of one node under a binding. */
export interface Cost {
  /** Floating-point operations, a multiply-add counted as two. */
  readonly flops: number;
  /** Bytes read and written at least once: operands, parameters, results. */
  readonly bytes: number;
}

/** Size of a dimension under a binding. */
export function sizeOf(dim: Dim, binding: Binding): number {
  const size = dim.size ?? binding[dim.name];
  check(size !== undefined, 'MOME_INVALID_ARGUMENT', `cost: expected a size for dimension "${dim.name}", got none`);
  return size;
}

/** Number of elements of a shape under a binding. */
export function elementsOf(shape: readonly Dim[], binding: Binding): number {
  return shape.reduce((product, dim) => product * sizeOf(dim, binding), 1);
}

/** Throws unless two dimensions agree; `what` reads "linear: inputs of x and weight". */
export function expectSame(what: string, expected: Dim, got: Dim): void {
  check(
    sameDim(expected, got),
    'MOME_INVALID_SHAPE',
    `${what}: expected ${formatShape([expected])}, got ${formatShape([got])}`,
  );
}
