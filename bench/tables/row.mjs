/** Rows of result tables: raw seconds become spreads, rates, shares of a peak and ratios. */
import { ratio, share, spread } from '../statistics.mjs';

/** A peer beside our own seconds. */
export function peerOf(seconds, ours, note) {
  return { seconds: spread(seconds), ratio: ratio(seconds, ours), samples: seconds, ...(note && { note }) };
}

/**
 * @param work { name, dtype, threads, items, unit, flops, bytes }; `bytes` where moving them bounds the work
 */
export function rowOf(work, seconds, peers) {
  const { name, dtype, threads, items, unit, flops, bytes, note } = work;
  const own = spread(seconds);
  return {
    name,
    dtype,
    threads,
    items,
    unit,
    work: flops ? { flops, ...(bytes && { bytes }) } : null,
    ours: { seconds: own, samples: seconds },
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
 * The row with its share of the peak: int8 is held against that of VNNI, work bound by memory against reading, everything else against
 * that of FMA, each the better of before and after the table, so that a neighbour who slowed the peak does not make a share too high.
 */
export function withShare(row, before, after) {
  if (!row.work) return row;
  const scope = row.threads === 1 ? 'one' : 'all';
  const { flops, bytes } = row.work;
  const of = bytes ? 'read' : row.dtype === 'int8' ? 'vnni' : 'fma';
  const rates = { read: 'read_gbs', vnni: 'vnni_gops', fma: 'fma_gflops' };
  const peak = Math.max(...[before, after].map((peaks) => peaks[rates[of]]?.[scope] ?? Number.NaN));
  if (!Number.isFinite(peak)) return row;
  return { ...row, shareOfPeak: { of, ...share(bytes || flops, row.ours.seconds, peak * 1e9) } };
}
