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
 * @property {readonly string[]} [targets] kernel sets the bound is for; default: all
 */

/** The bounds of a table on a kernel set. */
export function boundsOf(bounds, table, target) {
  return bounds.filter((bound) => bound.table === table && (bound.targets?.includes(target) ?? true));
}

/**
 * @param {readonly any[]} results
 * @param {readonly Bound[]} bounds
 * @param {{ allowMissing?: boolean }} [options] a figure that was not measured is no failure
 * @returns {{ name: string, bound: string, aim: number | undefined, value: number | null, passed: boolean, reason: string }[]}
 * @throws {Error} a bound that nothing could miss: without `least` and `most`, or with a measure that is not known
 */
export function checkBounds(results, bounds, { allowMissing = false } = {}) {
  return bounds.map((bound) => {
    const { name, aim, least, most } = bound;
    if ((least === undefined) === (most === undefined)) {
      throw new Error(`bounds: ${name}: expected either least or most, got ${JSON.stringify({ least, most })}`);
    }
    const asked = least === undefined ? `at most ${most}` : `at least ${least}`;
    const { value, missing } = figureOf(results, bound);
    if (value === null) return { name, bound: asked, aim, value, passed: allowMissing, reason: missing };
    const passed = least === undefined ? value <= most : value >= least;
    return { name, bound: asked, aim, value, passed, reason: `${value.toFixed(2)}, ${asked}` };
  });
}

/** @type {Record<Bound['measure'], (row: any, bound: Bound, other: any) => number | undefined>} */
const figures = {
  ratio: (row, { peer }) => row.peers?.[peer]?.ratio,
  share: (row) => row.shareOfPeak?.fastDecile,
  overLimit: (row) => row.bytes?.peak / row.bytes?.limit,
  microseconds: (row) => 1e6 * row.ours?.seconds.median,
  speedup: (row, _, other) => other?.ours?.seconds.median / row.ours?.seconds.median,
};

/** The figure of a bound; null, with the name of what is missing, where it was not measured. */
function figureOf(results, bound) {
  const { name, table, row, dtype, measure, peer, over } = bound;
  if (!Object.hasOwn(figures, measure)) {
    throw new Error(`bounds: ${name}: expected one of ${Object.keys(figures)}, got measure ${measure}`);
  }
  const rows = results.find((result) => result.table === table)?.rows;
  if (!rows) return { value: null, missing: `was not measured: no table ${table}` };
  const find = (type) => rows.find((each) => each.name === row && each.dtype === type);
  const absent = [dtype, ...(over ? [over] : [])].find((type) => !find(type));
  if (absent) return { value: null, missing: `was not measured: no row "${row}" in ${absent}` };
  const value = figures[measure](find(dtype), bound, find(over));
  if (Number.isFinite(value)) return { value };
  return {
    value: null,
    missing: `was not measured: no ${measure}${peer ? ` to ${peer}` : ''} of "${row}" in ${dtype}`,
  };
}
