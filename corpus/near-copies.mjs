/**
 * Near-copies among drawings, told by their rendered pixels: the same drawing in two sets, or in another size.
 *
 * A drawing is cut to what is painted and brought to 16 x 16. Two are near-copies where these differ little and their proportions are the same.
 * Candidates are found by tables of some bits each, as in locality-sensitive hashing.
 */

const side = 16;
const tables = 16;
const bitsOfTable = 20;
/**
 * Share of what is painted in which two drawings of one concept may differ and be near-copies, and two of different concepts: a small sign on a
 * large ground makes another drawing.
 */
export const nearDifference = { sameConcept: 0.12, otherConcept: 0.03 };
/** Largest ratio of proportions. */
const nearProportion = 1.12;
/** Drawings of one bucket that are compared: simple shapes share their buckets with many. */
const mostCompared = 400;

/**
 * @param pixels premultiplied RGBA, [size, size, 4]
 * @returns undefined for a drawing without a visible pixel
 */
export function thumbnailOf(pixels, size) {
  let [left, top, right, bottom] = [size, size, -1, -1];
  for (let row = 0; row < size; row++)
    for (let column = 0; column < size; column++)
      if (pixels[(row * size + column) * 4 + 3] > 24) {
        left = Math.min(left, column);
        right = Math.max(right, column);
        top = Math.min(top, row);
        bottom = Math.max(bottom, row);
      }
  if (right < 0) return undefined;
  const [width, height] = [right + 1 - left, bottom + 1 - top];
  const values = new Uint8Array(side * side * 4);
  for (let y = 0; y < side; y++)
    for (let x = 0; x < side; x++) {
      const box = [left + (x * width) / side, top + (y * height) / side, width / side, height / side];
      for (let channel = 0; channel < 4; channel++)
        values[(y * side + x) * 4 + channel] = Math.round(boxMean(pixels, size, channel, box));
    }
  return { values, proportion: width / height, painted: values.reduce((sum, value) => sum + value, 0) };
}

/** The mean of a channel over a box whose sides may cut pixels. */
function boxMean(pixels, size, channel, [left, top, width, height]) {
  let sum = 0;
  for (let row = Math.floor(top); row < top + height && row < size; row++) {
    const rowShare = Math.min(row + 1, top + height) - Math.max(row, top);
    for (let column = Math.floor(left); column < left + width && column < size; column++) {
      const share = rowShare * (Math.min(column + 1, left + width) - Math.max(column, left));
      sum += share * pixels[(row * size + column) * 4 + channel];
    }
  }
  return sum / (width * height);
}

/**
 * The share of what two thumbnails paint, premultiplied RGBA together, in which they differ; infinite where proportions differ, or where it is
 * beyond `most`.
 */
export function differenceOf(a, b, most = Number.POSITIVE_INFINITY) {
  const ratio = a.proportion / b.proportion;
  if (ratio > nearProportion || ratio < 1 / nearProportion) return Number.POSITIVE_INFINITY;
  const painted = (a.painted + b.painted) / 2;
  const { length } = a.values;
  let sum = Math.abs(a.painted - b.painted);
  if (sum > most * painted) return Number.POSITIVE_INFINITY;
  sum = 0;
  for (let begin = 0; begin < length; begin += 64) {
    for (let i = begin; i < begin + 64; i++) sum += Math.abs(a.values[i] - b.values[i]);
    if (sum > most * painted) return Number.POSITIVE_INFINITY;
  }
  return sum / painted;
}

/** Places of the bits of each table: fixed numbers without order. */
const places = Array.from({ length: tables }, (_, table) =>
  Array.from(
    { length: bitsOfTable },
    (_, bit) => (((table * bitsOfTable + bit + 1) * 2654435761) >>> 12) % (side * side),
  ),
);

/** Darkness on white, brighter or darker than the drawing's own mean: one bit a cell. */
function keysOf({ values }) {
  const dark = new Float64Array(side * side);
  let mean = 0;
  for (let i = 0; i < dark.length; i++) {
    const at = 4 * i;
    dark[i] = values[at + 3] - 0.3 * values[at] - 0.59 * values[at + 1] - 0.11 * values[at + 2] + 0.5 * values[at + 3];
    mean += dark[i] / dark.length;
  }
  return places.map((cells, table) => {
    let key = table;
    for (const cell of cells) key = key * 2 + (dark[cell] > mean ? 1 : 0);
    return key;
  });
}

/** Drawings that were added, and the question whether another one is a near-copy of one of them. */
export class NearCopies {
  #buckets = new Map();

  /**
   * @returns what was added with the nearest drawing that is a near-copy, or undefined
   */
  find(thumbnail, concept) {
    const seen = new Set();
    let best;
    let least = nearDifference.sameConcept;
    for (const key of keysOf(thumbnail)) {
      for (const entry of this.#buckets.get(key) ?? []) {
        if (seen.has(entry)) continue;
        seen.add(entry);
        const most = entry.concept === concept ? least : Math.min(least, nearDifference.otherConcept);
        const difference = differenceOf(thumbnail, entry.thumbnail, most);
        if (difference > most) continue;
        least = difference;
        best = entry;
      }
    }
    return best?.value;
  }

  /** @param value what {@link find} gives for near-copies of it */
  add(thumbnail, concept, value) {
    const entry = { thumbnail, concept, value };
    for (const key of keysOf(thumbnail)) {
      const bucket = this.#buckets.get(key);
      if (!bucket) this.#buckets.set(key, [entry]);
      else if (bucket.length < mostCompared) bucket.push(entry);
    }
  }
}
