/** Rows of result tables: raw seconds become spreads, rates, shares of a peak and ratios. */
import { ratio, share, spread } from '../statistics.mjs';

/** A peer beside our own seconds. */
export function peerOf(seconds, ours, note) {
  return { seconds: spread(seconds), ratio: ratio(seconds, ours), samples: seconds, ...(note && { note }) };
}

/** A peer with all threads, or with one where it is faster so. */
export function fasterPeer(seconds, secondsOnOne, ours) {
  const all = peerOf(seconds, ours);
  const one = secondsOnOne && peerOf(secondsOnOne, ours, 'one thread');
  return one && one.ratio < all.ratio ? one : all;
}

/** Bytes that inference may need besides packed weights, the arena, and the memory of the process before it loaded the model. */
const allowance = 60e6;
/** Size of packed weights relative to the parameters in their type: panels are padded, and 8-bit weights have scales and sums. */
const packing = 1.06;

/**
 * Peak memory beside its limit. The limit uses the number of parameters as well as the engine's own count: a second copy of the weights
 * would raise both the peak and that count.
 *
 * @param bytes { baseline, peak, weights, arena, parameters }
 */
export function memoryRow(name, dtype, bytes) {
  const { baseline, peak, weights, arena, parameters } = bytes;
  const limit = baseline + Math.min(weights, packing * parameters) + arena + allowance;
  return { name, dtype, bytes: { ...bytes, limit }, within: peak <= limit };
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
