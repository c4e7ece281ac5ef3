/**
 * Takes positional parameters to another picture size, as the original code does.
 */
import { check } from '../runtime/errors.ts';
import { Pace } from '../runtime/pace.ts';

/** Most patches along a side that positions are taken from or to: 4096 pixels by patches of 16. */
const maxGrid = 256;
/** Most values of a table: 512 MiB. A large model at 1024 pixels has 7 million. */
const maxTableValues = 2 ** 27;
/** Most multiplications of a resize: some seconds. From 384 to 2048 pixels a large model takes a third of them. */
const maxWork = 2 ** 32;

/** @throws MomeError `MOME_TOO_LARGE` */
export function checkTableSize(rows: number, columns: number, where: string): void {
  check(
    rows * columns <= maxTableValues,
    'MOME_TOO_LARGE',
    `${where}: expected a table of positions of at most 2^27 values, got [${rows}, ${columns}]`,
  );
}

function checkGrids(from: number, to: number, where: string): void {
  check(
    from <= maxGrid && to <= maxGrid,
    'MOME_TOO_LARGE',
    `${where}: expected at most ${maxGrid} patches a side, got ${from} to be taken to ${to}`,
  );
}

/**
 * Resizes the image part of the relative table by cubic splines over offsets in geometric progression; the other rows are kept.
 *
 * @param table [(2 from - 1)^2 + rest, columns]
 * @param columns heads times layers
 * @param from source patches along a side
 * @param to wanted patches along a side
 * @returns [(2 to - 1)^2 + rest, columns]
 * @throws MomeError `MOME_INVALID_SHAPE`, `MOME_UNSUPPORTED` for a grid below 3, `MOME_TOO_LARGE`
 * @see BEiT (arXiv 2106.08254), fine-tuning at another resolution
 */
export async function resizeRelativeTable(
  table: Float32Array,
  columns: number,
  from: number,
  to: number,
): Promise<Float32Array> {
  const source = 2 * from - 1;
  const target = 2 * to - 1;
  const rest = table.length - source * source * columns;
  check(
    columns > 0 && rest >= 0 && rest % columns === 0,
    'MOME_INVALID_SHAPE',
    `relative table: expected at least ${source * source} rows of ${columns}, got ${table.length} values`,
  );
  checkGrids(from, to, 'relative table');
  checkTableSize(target * target + rest / columns, columns, 'relative table');
  check(
    from === to || target * source * (source + target) * columns <= maxWork,
    'MOME_TOO_LARGE',
    `relative table: expected less work than for ${columns} columns from ${from} to ${to} patches a side`,
  );
  const resized = new Float32Array(target * target * columns + rest);
  resized.set(table.subarray(source * source * columns), target * target * columns);
  if (from === to) {
    resized.set(table);
    return resized;
  }
  const pace = new Pace();
  const weights = await splineWeights(geometricOffsets(from, to), centredOffsets(target), pace);
  for (let column = 0; column < columns; column++) {
    // Rows, then columns of the offset grid: the spline is a product of two.
    const half = new Float64Array(target * source);
    for (let y = 0; y < target; y++) {
      await pace.rest();
      for (let x = 0; x < source; x++) {
        let sum = 0;
        for (let k = 0; k < source; k++) sum += weights[y * source + k]! * table[(k * source + x) * columns + column]!;
        half[y * source + x] = sum;
      }
    }
    for (let y = 0; y < target; y++) {
      await pace.rest();
      for (let x = 0; x < target; x++) {
        let sum = 0;
        for (let k = 0; k < source; k++) sum += weights[x * source + k]! * half[y * source + k]!;
        resized[(y * target + x) * columns + column] = sum;
      }
    }
  }
  return resized;
}

/** 0, 1, 1 + q, 1 + q + q^2, ... and their negatives, with q chosen so that the last reaches the target's last offset. */
function geometricOffsets(from: number, to: number): number[] {
  const steps = from - 1;
  const reach = to - 1;
  let left = 1.01;
  let right = 1.5;
  let ratio = left;
  while (right - left > 1e-6) {
    ratio = (left + right) / 2;
    if ((1 - ratio ** steps) / (1 - ratio) > reach) right = ratio;
    else left = ratio;
  }
  const offsets: number[] = [];
  let offset = 1;
  for (let i = 0; i < steps; i++) {
    offsets.push(offset);
    offset += ratio ** (i + 1);
  }
  return [...offsets.map((value) => -value).reverse(), 0, ...offsets];
}

function centredOffsets(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i - (count - 1) / 2);
}

/**
 * Matrix [targets, points] that maps values at `points` to the interpolating cubic spline at `targets`. The spline has no knots
 * at the second and the last but one point; outside the points it takes the value of the nearest end.
 */
async function splineWeights(points: readonly number[], targets: readonly number[], pace: Pace): Promise<Float64Array> {
  const n = points.length;
  check(
    n >= 5,
    'MOME_UNSUPPORTED',
    `relative table: expected a grid of at least 3 patches a side to resize, got ${(n + 1) / 2}`,
  );
  const first = points[0]!;
  const last = points[n - 1]!;
  const knots = [first, first, first, first, ...points.slice(2, n - 2), last, last, last, last];
  const inverse = await invert(
    points.map((point) => basis(knots, n, point)),
    pace,
  );
  const weights = new Float64Array(targets.length * n);
  for (const [row, target] of targets.entries()) {
    await pace.rest();
    const values = basis(knots, n, Math.min(last, Math.max(first, target)));
    for (let column = 0; column < n; column++) {
      let sum = 0;
      for (let k = 0; k < n; k++) sum += values[k]! * inverse[k]![column]!;
      weights[row * n + column] = sum;
    }
  }
  return weights;
}

/** The `n` cubic B-splines of `knots` at `x`, by the recursion over degrees. */
function basis(knots: readonly number[], n: number, x: number): number[] {
  let interval = 3;
  while (interval < n - 1 && x >= knots[interval + 1]!) interval++;
  let values = [1];
  for (let degree = 1; degree <= 3; degree++) {
    const next = new Array<number>(degree + 1).fill(0);
    for (const [i, value] of values.entries()) {
      const low = knots[interval - degree + 1 + i]!;
      const high = knots[interval + 1 + i]!;
      next[i]! += ((high - x) / (high - low)) * value;
      next[i + 1]! += ((x - low) / (high - low)) * value;
    }
    values = next;
  }
  const all = new Array<number>(n).fill(0);
  for (const [i, value] of values.entries()) all[interval - 3 + i] = value;
  return all;
}

/** Inverse by Gauss-Jordan elimination with row exchange. */
async function invert(matrix: readonly (readonly number[])[], pace: Pace): Promise<number[][]> {
  const n = matrix.length;
  const rows = matrix.map((row, i) => [...row, ...row.map((_, j) => (i === j ? 1 : 0))]);
  for (let column = 0; column < n; column++) {
    await pace.rest();
    let pivot = column;
    for (let row = column + 1; row < n; row++)
      if (Math.abs(rows[row]![column]!) > Math.abs(rows[pivot]![column]!)) pivot = row;
    [rows[column], rows[pivot]] = [rows[pivot]!, rows[column]!];
    const scale = 1 / rows[column]![column]!;
    for (let k = 0; k < 2 * n; k++) rows[column]![k]! *= scale;
    for (let row = 0; row < n; row++) {
      const factor = rows[row]![column]!;
      if (row === column || factor === 0) continue;
      for (let k = 0; k < 2 * n; k++) rows[row]![k]! -= factor * rows[column]![k]!;
    }
  }
  return rows.map((row) => row.slice(n));
}

/**
 * Resizes absolute image positions bicubically (a = -0.75, corners not aligned, edges repeated); the CLS row is kept.
 *
 * @param positions [1 + from^2, width]
 * @returns [1 + to^2, width]
 * @throws MomeError `MOME_INVALID_SHAPE`, `MOME_TOO_LARGE`
 */
export async function resizeAbsolutePositions(
  positions: Float32Array,
  width: number,
  from: number,
  to: number,
): Promise<Float32Array> {
  check(
    positions.length === (1 + from * from) * width,
    'MOME_INVALID_SHAPE',
    `pos_embed: expected ${1 + from * from} rows of ${width}, got ${positions.length} values`,
  );
  if (from === to) return positions.slice();
  checkGrids(from, to, 'pos_embed');
  checkTableSize(1 + to * to, width, 'pos_embed');
  const resized = new Float32Array((1 + to * to) * width);
  resized.set(positions.subarray(0, width));
  const taps = Array.from({ length: to }, (_, i) => bicubicTaps(i, from, to));
  const pace = new Pace();
  for (const [y, rows] of taps.entries()) {
    for (const [x, columns] of taps.entries()) {
      await pace.rest();
      const out = resized.subarray((1 + y * to + x) * width, (2 + y * to + x) * width);
      for (const row of rows) {
        for (const column of columns) {
          const weight = row.weight * column.weight;
          const begin = (1 + row.index * from + column.index) * width;
          for (let i = 0; i < width; i++) out[i]! += weight * positions[begin + i]!;
        }
      }
    }
  }
  return resized;
}

function bicubicTaps(target: number, from: number, to: number): { readonly index: number; readonly weight: number }[] {
  const a = -0.75;
  const position = ((target + 0.5) * from) / to - 0.5;
  const floor = Math.floor(position);
  const t = position - floor;
  const near = (d: number) => ((a + 2) * d - (a + 3)) * d * d + 1;
  const far = (d: number) => ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
  const weights = [far(t + 1), near(t), near(1 - t), far(2 - t)];
  return weights.map((weight, i) => ({ index: Math.min(from - 1, Math.max(0, floor - 1 + i)), weight }));
}
