/** What raw seconds become. Machines are shared: medians for ratios, the fast decile for shares of a peak, and always the spread. */

/**
 * One of the values, rounded outwards: of few values the fast decile is the least and the slow one the greatest.
 *
 * @param {readonly number[]} values
 * @param {number} share of the way from the smallest to the largest
 */
function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  const place = share * (sorted.length - 1);
  return sorted[share > 0.5 ? Math.ceil(place) : Math.floor(place)] ?? Number.NaN;
}

/** @param {readonly number[]} values */
export function median(values) {
  return quantile(values, 0.5);
}

/**
 * @param {readonly number[]} seconds
 * @returns {{ fastDecile: number, median: number, slowDecile: number, n: number }} seconds; the fast decile is the low one
 */
export function spread(seconds) {
  return {
    fastDecile: quantile(seconds, 0.1),
    median: quantile(seconds, 0.5),
    slowDecile: quantile(seconds, 0.9),
    n: seconds.length,
  };
}

/**
 * How many times as fast as the peer: ratio of medians, above 1 when ours takes less time.
 *
 * @param {readonly number[]} peer seconds
 * @param {readonly number[]} ours seconds
 */
export function ratio(peer, ours) {
  return quantile(peer, 0.5) / quantile(ours, 0.5);
}

/**
 * Share of a peak that was reached.
 *
 * @param {number} work operations of one call
 * @param {{ fastDecile: number, median: number }} seconds
 * @param {number} peakPerSecond
 */
export function share(work, seconds, peakPerSecond) {
  return { fastDecile: work / seconds.fastDecile / peakPerSecond, median: work / seconds.median / peakPerSecond };
}
