/**
 * The contract of a run. Dimensions and inputs are declared once, by name: graphs take their inputs from the declarations, and the types
 * of a run's arguments follow from them.
 */
import type { Graph } from './graph.ts';
import type { Dim, ElementType, Input } from './value.ts';

/** A dimension whose size every run gives. */
export type RunDim<Name extends string = string> = Dim<Name> & { readonly size: undefined };

/** A dimension bound per run. */
export const perRun = <Name extends string>(name: Name): RunDim<Name> => ({ name, size: undefined });

/** Dimensions bound per run, by name. */
export function runDims<const N extends string>(...names: readonly N[]): { readonly [K in N]: RunDim<K> } {
  return Object.fromEntries(names.map((name) => [name, perRun(name)])) as { readonly [K in N]: RunDim<K> };
}

/** Element type and shape of an input. */
export interface InputSpec<S extends readonly Dim[] = readonly Dim[], T extends ElementType = ElementType> {
  readonly dtype: T;
  readonly shape: S;
}

/** Inputs by name. */
export type InputSpecs = Readonly<Record<string, InputSpec>>;

/** An input of ids, labels or row numbers. */
export const i32 = <const S extends readonly Dim[]>(shape: S): InputSpec<S, 'i32'> => ({ dtype: 'i32', shape });

/** An input of numbers. */
export const f32 = <const S extends readonly Dim[]>(shape: S): InputSpec<S, 'f32'> => ({ dtype: 'f32', shape });

/** An input of bytes. */
export const u8 = <const S extends readonly Dim[]>(shape: S): InputSpec<S, 'u8'> => ({ dtype: 'u8', shape });

type NamesOf<S extends readonly Dim[]> = { -readonly [K in keyof S]: S[K] extends Dim<infer N> ? N : never };

/** The graph's side of an input. */
export type InputOf<I extends InputSpec> = Input<NamesOf<I['shape']>, I['dtype']>;

/** The input `name` of a graph. */
export function inputOf<I extends InputSpecs, K extends keyof I & string>(
  graph: Graph,
  inputs: I,
  name: K,
): InputOf<I[K]> {
  const { dtype, shape } = inputs[name]!;
  return graph.input(name, dtype, shape) as unknown as InputOf<I[K]>;
}

interface Arrays {
  readonly f32: Float32Array;
  readonly i32: Int32Array;
  readonly u8: Uint8Array;
}

/** The caller's side of inputs: an array for each. */
export type RunArrays<I extends InputSpecs> = { readonly [K in keyof I]: Arrays[I[K]['dtype']] };

/** Names of the per-run dimensions in the shapes of inputs. */
export type RunDimsOf<I extends InputSpecs> = Extract<I[keyof I]['shape'][number], RunDim>['name'];

/** The caller's side of dimensions: a size for each. */
export type RunSizes<N extends string> = { readonly [K in N]: number };
