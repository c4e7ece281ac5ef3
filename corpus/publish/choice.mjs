/** Which of the ways to keep a model's weights is published. */

/** The figures of an evaluation's rows in order: dual and re-ranked, both ways where there are two. */
export const figuresOf = (rows) =>
  rows.flatMap(({ metrics = {} }) =>
    Object.values(metrics).flatMap(({ dual, reranked }) =>
      [dual, reranked].flat().filter((value) => typeof value === 'number'),
    ),
  );

/** Mean of what is lost in each figure; negative where a figure rose on average. */
export function lossOf(exact, rounded) {
  const [before, after] = [figuresOf(exact), figuresOf(rounded)];
  if (before.length === 0 || before.length !== after.length)
    throw new Error(`publish: expected as many figures as of the exact model, ${before.length}, got ${after.length}`);
  return before.reduce((sum, value, i) => sum + value - after[i], 0) / before.length;
}

/**
 * The candidate that loses least among those that are small enough; the smaller one of equals.
 *
 * @param candidates `{ dtype, bytes, loss }`
 * @param limit in bytes
 */
export function chosenOf(candidates, limit) {
  const fitting = candidates.filter(({ bytes }) => bytes <= limit);
  if (fitting.length === 0)
    throw new Error(
      `publish: expected a model of at most ${limit} bytes, got ${candidates.map(({ dtype, bytes }) => `${bytes} in ${dtype}`).join(', ')}`,
    );
  return fitting.reduce((a, b) => (b.loss < a.loss || (b.loss === a.loss && b.bytes < a.bytes) ? b : a));
}
