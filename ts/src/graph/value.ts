/**
 * Named dimensions, values and parameters of a graph.
 *
 * Dimension names are types: `Value<['rows', 'width']>` cannot be passed where `Value<['rows', 'hidden']>` is expected, so a
 * wrong composition of ops does not compile. A dimension has a fixed size (the model's width) or is bound per run (rows).
 */
import type { Graph } from './graph.ts';

/** One named dimension; `size` is undefined when it is bound per run. */
export interface Dim<Name extends string = string> {
  readonly name: Name;
  readonly size: number | undefined;
}

/** A dimension of fixed size. */
export const fixed = <Name extends string>(name: Name, size: number): Dim<Name> => ({ name, size });

/** Element types: `f32` for activations and weights, `i32` for ids and row indices, `u8` for raw pixels. */
export type ElementType = 'f32' | 'i32' | 'u8';

export type Names = readonly string[];

/** The dimensions that the names `S` stand for. */
export type Dims<S extends Names> = { readonly [K in keyof S]: Dim<S[K]> };

interface Typed<S extends Names, T extends ElementType> {
  readonly graph: Graph;
  readonly dtype: T;
  readonly shape: Dims<S>;
}

/** A tensor computed by the graph. */
export interface Activation<S extends Names = Names> extends Typed<S, 'f32'> {
  readonly kind: 'activation';
  readonly id: number;
}

/** A tensor the caller gives at each run. */
export interface Input<S extends Names = Names, T extends ElementType = ElementType> extends Typed<S, T> {
  readonly kind: 'input';
  readonly name: string;
}

/** A weight, known by its checkpoint name. */
export interface Parameter<S extends Names = Names> extends Typed<S, 'f32'> {
  readonly kind: 'parameter';
  readonly name: string;
}

/** Any float32 tensor an op reads as data. */
export type Value<S extends Names = Names> = Activation<S> | Input<S, 'f32'>;

/** Anything an instruction refers to. */
export type Operand = Activation | Input | Parameter | ParameterGradient;

/** The accumulated gradient of a parameter, as an operand of a backward kernel. */
export interface ParameterGradient {
  readonly kind: 'gradient';
  readonly parameter: Parameter;
  /** The rows that the kernel sums over, where they may be none in a run; undefined for all rows of the batch. */
  readonly rows?: RowRange;
}

/** Rows [begin, end); a dimension is an offset bound per run. */
export interface RowRange {
  readonly begin: Dim | 0;
  readonly end: Dim;
}

/** "rows x 768", for messages and printed graphs. */
export function formatShape(shape: readonly Dim[]): string {
  return shape.length === 0
    ? 'scalar'
    : shape.map((dim) => (dim.size === undefined ? dim.name : String(dim.size))).join(' x ');
}

/** Whether two dimensions are the same by name or by size. */
export function sameDim(a: Dim, b: Dim): boolean {
  return a.size === undefined || b.size === undefined ? a.name === b.name : a.size === b.size;
}
