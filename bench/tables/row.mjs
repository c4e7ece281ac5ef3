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

/** What bounds a row, by the fields of the measured peaks: names of what is there are tried in order. */
const bounding = {
  read: [['read', 'read_gbs']],
  int8: [
    ['amx', 'amx_int8_gops'],
    ['vnni', 'vnni_gops'],
    ['vpmaddubsw', 'maddubs_gops'],
  ],
  bfloat16: [
    ['amx', 'amx_bf16_gflops'],
    ['vdpbf16ps', 'bf16_gflops'],
    ['fma', 'fma_gflops'],
  ],
  float32: [['fma', 'fma_gflops']],
};

/**
 * The row with its share of the peak: of the instruction that multiplies its type on the target that was measured, or of reading where
 * memory bounds the work. The peak is the better of before and after the table, so that a neighbour who slowed it does not make a share
 * too high.
 */
export function withShare(row, before, after) {
  if (!row.work) return row;
  const scope = row.threads === 1 ? 'one' : 'all';
  const { flops, bytes } = row.work;
  const found = bounding[bytes ? 'read' : row.dtype]?.find(([, field]) => before[field] || after[field]);
  if (!found) return row;
  const [of, field] = found;
  const peak = Math.max(...[before, after].map((peaks) => peaks[field]?.[scope] ?? 0));
  return { ...row, shareOfPeak: { of, ...share(bytes || flops, row.ours.seconds, peak * 1e9) } };
}
