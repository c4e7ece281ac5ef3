/** Holds results to the bounds of bench/bounds.json. */

/**
 * @typedef {object} Bound
 * @property {string} name
 * @property {string} table
 * @property {string} row
 * @property {string} dtype
 * @property {'ratio' | 'share' | 'speedup' | 'microseconds' | 'overLimit'} measure ratio to `peer`, share of the peak by the fast
 *   decile, speed over the same row in the type `over`, the median time, or peak memory over its limit
 * @property {string} [peer]
 * @property {string} [over]
 * @property {number} [least] the figure must reach it
 * @property {number} [most] or must not exceed it
 * @property {number} [aim]
 */

/**
 * @param {readonly any[]} results
 * @param {readonly Bound[]} bounds
 * @param {{ allowMissing?: boolean }} [options] a figure that was not measured is no failure
 * @returns {{ name: string, bound: string, aim: number | undefined, value: number | null, passed: boolean, reason: string }[]}
 */
export function checkBounds(results, bounds, { allowMissing = false } = {}) {
  return bounds.map((bound) => {
    const value = figureOf(results, bound);
    const { name, least = Number.NEGATIVE_INFINITY, most = Number.POSITIVE_INFINITY, aim } = bound;
    const asked = bound.most === undefined ? `at least ${least}` : `at most ${most}`;
    if (value === null) return { name, bound: asked, aim, value, passed: allowMissing, reason: 'was not measured' };
    const passed = value >= least && value <= most;
    return { name, bound: asked, aim, value, passed, reason: `${value.toFixed(2)}, ${asked}` };
  });
}

/** The figure a bound is about; null where it was not measured. */
function figureOf(results, { table, row, dtype, measure, peer, over }) {
  const rows = results.find((result) => result.table === table)?.rows ?? [];
  const find = (type) => rows.find((each) => each.name === row && each.dtype === type);
  const found = find(dtype);
  const value = {
    ratio: () => found?.peers[peer]?.ratio,
    share: () => found?.shareOfPeak?.fastDecile,
    overLimit: () => found?.bytes.peak / found?.bytes.limit,
    microseconds: () => 1e6 * found?.ours.seconds.median,
    speedup: () => find(over)?.ours.seconds.median / found?.ours.seconds.median,
  }[measure]();
  return Number.isFinite(value) ? value : null;
}
