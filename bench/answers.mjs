/** Compares answers of two runtimes. Each function says what is wrong, or undefined where nothing is. */

/** By the relative L2 difference, at most `most`. */
export function different(actual, expected, most) {
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i] - expected[i]) ** 2;
    norm += expected[i] ** 2;
  }
  const relative = Math.sqrt(difference / norm);
  if (actual.length === expected.length && relative <= most) return undefined;
  return `differs by ${relative} of ${expected.length} values, at most ${most}`;
}

/** By the cosine, at least `least`: what 8-bit weights change is no fault. */
export function unlike(actual, expected, least) {
  let product = 0;
  let squares = 0;
  let norm = 0;
  for (let i = 0; i < expected.length; i++) {
    product += actual[i] * expected[i];
    squares += actual[i] ** 2;
    norm += expected[i] ** 2;
  }
  const cosine = product / Math.sqrt(squares * norm);
  if (actual.length === expected.length && cosine >= least) return undefined;
  return `has a cosine of ${cosine} to it, at least ${least}`;
}
