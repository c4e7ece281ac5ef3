/** Scores and places in words, for the page of results and the page of the server. Knows neither Node nor a browser. */

/**
 * What the fusion encoder says of a text and a picture, from 0 to 1, in words. The levels are those of a calibrated model, where even a
 * right pair seldom gets much over 0.5 (docs/api.md).
 */
export function matchInWords(match: number | null): string {
  if (match === null) return 'not read with the text';
  if (match >= 0.5) return 'fits very well';
  if (match >= 0.2) return 'fits';
  if (match >= 0.05) return 'may fit';
  return match >= 0.01 ? 'hardly fits' : 'does not fit';
}

/** How sure a statement is to be true, by the probability of a model. */
export function truthInWords(probability: number): string {
  if (probability >= 0.9) return 'almost surely true';
  if (probability >= 0.6) return 'rather true';
  if (probability > 0.4) return 'undecided';
  return probability > 0.1 ? 'rather false' : 'almost surely false';
}

/** How far a picture moved. @param before, after places from 0 */
export function moveInWords(before: number, after: number): string {
  if (before === after) return 'same place';
  return before > after ? `up ${before - after}` : `down ${after - before}`;
}

/** Cosine and match as numbers of one precision. */
export const scoresAsText = (similarity: number, match: number | null): string =>
  `cosine ${similarity.toFixed(3)}${match === null ? '' : `, match ${match.toFixed(3)}`}`;

/** The name of a file without its folders. */
export const fileName = (path: string): string => path.slice(path.lastIndexOf('/') + 1);
