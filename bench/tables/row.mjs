/** Rows of result tables: raw seconds become spreads, rates, shares of a peak and ratios. */
import { ratio, share, spread } from '../statistics.mjs';

/** A peer beside our own seconds. */
export function peerOf(seconds, ours) {
  return { seconds: spread(seconds), ratio: ratio(seconds, ours) };
}

/**
 * @param work { name, dtype, threads, items, unit, flops }
 * @param peaks measured before the table; int8 is held against the VNNI peak, everything else against that of FMA
 */
export function rowOf(work, seconds, peers, peaks) {
  const { name, dtype, threads, items, unit, flops, note } = work;
  const own = spread(seconds);
  const scope = threads === 1 ? 'one' : 'all';
  const of = dtype === 'int8' ? 'vnni' : 'fma';
  const peak = of === 'vnni' ? peaks.vnni_gops?.[scope] : peaks.fma_gflops[scope];
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
    shareOfPeak: flops && peak ? { of, ...share(flops, own, peak * 1e9) } : null,
    peers,
    ...(note && { note }),
  };
}
