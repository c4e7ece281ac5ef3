/**
 * One comparison of numbers with a reference, and the report of a whole case.
 */
import type { DType } from '../runtime/addon.ts';
import { check } from '../runtime/errors.ts';

/** The kind of value that a bound is about. */
export type Measure = 'relL2' | 'maxAbs' | 'cosine';

export type CheckKind = 'output' | 'loss' | 'gradient' | 'training' | 'resize' | 'convert' | 'preprocess';

/** One compared tensor. */
export interface Check {
  readonly name: string;
  readonly kind: CheckKind;
  readonly maxAbs: number;
  /** Norm of the difference over the norm of the reference. */
  readonly relL2: number;
  readonly cosine: number;
  /** The most that `relL2` may be (for `preprocess`: `maxAbs`), or the least that `cosine` may be where `measure` says so. */
  readonly bound: number;
  readonly measure: Measure;
  readonly passed: boolean;
  /** The element that differs most. */
  readonly worst: { readonly index: number; readonly expected: number; readonly actual: number };
}

/** Tensors of a case that a run on another device, or in another type, cannot be held to. */
export interface Skipped {
  readonly kind: CheckKind;
  /** Tensors the case has of this kind. */
  readonly tensors: number;
  readonly reason: string;
}

/** Result of a case. */
export interface CaseReport {
  readonly case: string;
  readonly device: string;
  readonly target: string;
  readonly dtype: string;
  /** Whether something was compared and all of it passed; values in `skipped` were not compared. */
  readonly passed: boolean;
  readonly compared: number;
  readonly failed: number;
  readonly checks: readonly Check[];
  /** Values of the case that this run did not compare; empty in float32 on the processor. */
  readonly skipped: readonly Skipped[];
}

/** Largest difference from a reference that is all zeros, where a relative error has no meaning. */
const zeroTolerance = 1e-6;

/**
 * Compares in double precision. A value that is not finite, and the reference is, fails.
 *
 * @throws MomeError `MOME_INVALID_SHAPE` when the lengths differ
 */
export function compare(
  name: string,
  kind: CheckKind,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  bound: number,
  measure: Measure = kind === 'preprocess' ? 'maxAbs' : 'relL2',
): Check {
  check(
    actual.length === expected.length,
    'MOME_INVALID_SHAPE',
    `${name}: expected ${expected.length} values to compare, got ${actual.length}`,
  );
  let difference = 0;
  let expectedSquares = 0;
  let actualSquares = 0;
  let product = 0;
  let maxAbs = 0;
  let worst = 0;
  for (let i = 0; i < expected.length; i++) {
    const a = actual[i]!;
    const e = expected[i]!;
    const delta = Object.is(a, e) || a === e ? 0 : Math.abs(a - e);
    if (!(delta <= maxAbs)) {
      worst = i;
      maxAbs = Number.isNaN(delta) ? Number.POSITIVE_INFINITY : delta;
    }
    difference += delta * delta;
    expectedSquares += e * e;
    actualSquares += a * a;
    product += a * e;
  }
  const zero = expectedSquares === 0;
  const relL2 = zero ? Math.sqrt(difference) : Math.sqrt(difference / expectedSquares);
  const cosine =
    zero || actualSquares === 0
      ? zero && maxAbs <= zeroTolerance
        ? 1
        : 0
      : product / Math.sqrt(expectedSquares * actualSquares);
  const relative = measure === 'relL2' && !zero;
  const error = relative ? relL2 : maxAbs;
  const limit = measure === 'relL2' && zero ? zeroTolerance : bound;
  const close = measure === 'cosine' ? cosine >= bound : error <= limit;
  return {
    name,
    kind,
    maxAbs,
    relL2,
    cosine,
    bound: limit,
    measure,
    passed: close && Number.isFinite(maxAbs),
    worst: { index: worst, expected: expected[worst] ?? 0, actual: actual[worst] ?? 0 },
  };
}

/** Sums the checks up; a case with nothing to compare does not pass. */
export function report(
  name: string,
  where: { readonly device: string; readonly target: string; readonly dtype: DType },
  checks: readonly Check[],
  skipped: readonly Skipped[] = [],
): CaseReport {
  const failed = checks.filter(({ passed }) => !passed).length;
  return {
    case: name,
    ...where,
    passed: checks.length > 0 && failed === 0,
    compared: checks.length,
    failed,
    checks,
    skipped,
  };
}
