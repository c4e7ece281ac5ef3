/**
 * The work of ops: floating-point operations and bytes under given sizes.
 */
import { check } from '../../runtime/errors.ts';
import type { Dim, Parameter, Value } from '../value.ts';

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

/** Work that is the same for every element of a shape. */
export function elementwiseCost(shape: readonly Dim[], flops: number, bytes: number, binding: Binding): Cost {
  const elements = elementsOf(shape, binding);
  return { flops: flops * elements, bytes: bytes * elements };
}

/** Work of the product `y` of rows with one weight. */
export function productCost(x: Value, weight: Parameter, y: Value, binding: Binding): Cost {
  const weights = elementsOf(weight.shape, binding);
  return {
    flops: 2 * sizeOf(x.shape[0]!, binding) * weights,
    bytes: 4 * (elementsOf(x.shape, binding) + weights + elementsOf(y.shape, binding)),
  };
}
