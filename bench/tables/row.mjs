/** Rows of result tables: raw seconds become spreads, rates, shares of a peak and ratios. */
import { ratio, share, spread } from '../statistics.mjs';

/** A peer beside our own seconds. */
export function peerOf(seconds, ours) {
  return { seconds: spread(seconds), ratio: ratio(seconds, ours) };
}

/**
 * @param work { name, dtype, threads, items, unit, flops }
 */
export function rowOf(work, seconds, peers) {
  const { name, dtype, threads, items, unit, flops, note } = work;
  const own = spread(seconds);
  return {
    name,
    dtype,
    threads,
    items,
    unit,
    work: flops ? { flops } : null,
    ours: { seconds: own },
    perSecond: {
      fastDecile: items / own.fastDecile,
      median: items / own.median,
      slowDecile: items / own.slowDecile,
    },
    shareOfPeak: null,
    peers,
    ...(note && { note }),
  };
}

/**
 * The row with its share of the peak: int8 is held against that of VNNI, everything else against that of FMA, each the better of before
 * and after the table, so that a neighbour who slowed the peak does not make a share too high.
 */
export function withShare(row, before, after) {
  const scope = row.threads === 1 ? 'one' : 'all';
  const of = row.dtype === 'int8' ? 'vnni' : 'fma';
  const peak = Math.max(
    ...[before, after].map((peaks) => (of === 'vnni' ? peaks.vnni_gops : peaks.fma_gflops)?.[scope] ?? Number.NaN),
  );
  if (!row.work || !Number.isFinite(peak)) return row;
  return { ...row, shareOfPeak: { of, ...share(row.work.flops, row.ours.seconds, peak * 1e9) } };
}
