import type { RunOutputs } from '../runtime/addon.ts';

/** Where the time of one call went. */
export interface Profile {
  /** From the tokenised batch to its answer. */
  readonly milliseconds: number;
  /**
   * What no kernel accounts for: the batch laid out, the way to native code and back. Other threads wake up while the first op runs on
   * one, and count as its time.
   */
  readonly outsideMilliseconds: number;
  /** The part of it between the call into native code and the first kernel: binding, waking the engine, planning. */
  readonly startMilliseconds: number;
  /** By op, the longest first. */
  readonly ops: readonly { readonly op: string; readonly calls: number; readonly milliseconds: number }[];
}

/**
 * @param ops op of each instruction
 * @param run what the program measured
 * @param milliseconds time of the whole call
 */
export function profileOf(
  ops: readonly string[],
  { nanoseconds, startNanoseconds }: Pick<Required<RunOutputs>, 'nanoseconds' | 'startNanoseconds'>,
  milliseconds: number,
): Profile {
  const byOp = new Map<string, { calls: number; milliseconds: number }>();
  for (const [i, op] of ops.entries()) {
    const sum = byOp.get(op) ?? { calls: 0, milliseconds: 0 };
    byOp.set(op, { calls: sum.calls + 1, milliseconds: sum.milliseconds + nanoseconds[i]! / 1e6 });
  }
  const sorted = [...byOp].map(([op, sum]) => ({ op, ...sum })).sort((a, b) => b.milliseconds - a.milliseconds);
  const inside = sorted.reduce((sum, each) => sum + each.milliseconds, 0);
  const startMilliseconds = startNanoseconds / 1e6;
  return { milliseconds, outsideMilliseconds: milliseconds - inside, startMilliseconds, ops: sorted };
}
