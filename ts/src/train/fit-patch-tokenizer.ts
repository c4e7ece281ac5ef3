/**
 * Finds the centres of a patch tokenizer: k-means over a sample of the patches of pictures.
 */
import { configLimits } from '../architecture/config.ts';
import { describe, isObject, type Kinds, kinds, report, takeOptions } from '../runtime/arguments.ts';
import { check, MomeError, requireNotAborted } from '../runtime/errors.ts';
import { inPieces, Pace, sortInPieces } from '../runtime/pace.ts';
import { type Matches, PatchMatcher } from './patch-matcher.ts';
import { PatchTokenizer, type PatchTokenizerOptions, takePictures } from './patch-tokenizer.ts';
import { createRandom, type Random } from './random.ts';

const where = 'fit patch tokenizer';

export interface FitPatchTokenizerOptions extends PatchTokenizerOptions {
  /** Side of the pictures, in pixels. */
  readonly imageSize: number;
  /** Side of a patch; default: 16. */
  readonly patchSize?: number;
  /** How many visual tokens there will be; default: 8,192, as in BEiT. */
  readonly tokens?: number;
  /** Patches that are clustered, drawn from all by chance; default: 32 for each token. 768 bytes each, at 16 pixels. */
  readonly sample?: number;
  /** Rounds of k-means at most; it ends when no patch changes its token. Default: 10. */
  readonly iterations?: number;
  /** The same seed, pictures and kernel set give the same centres, on any number of threads. Default: 0. */
  readonly seed?: number;
  readonly signal?: AbortSignal;
  /** Called after each round. */
  readonly onProgress?: (progress: PatchTokenizerProgress) => unknown;
}

export interface PatchTokenizerProgress {
  /** Rounds done, from 1. */
  readonly iteration: number;
  readonly iterations: number;
  /** Mean squared distance of a value of a patch to that of its centre, values lying in [-1, 1]. */
  readonly error: number;
  /** Patches of the sample that have another token than in the round before. */
  readonly changed: number;
}

const fitKinds: Kinds<FitPatchTokenizerOptions> = {
  imageSize: kinds.count,
  patchSize: kinds.count,
  tokens: kinds.count,
  sample: kinds.count,
  iterations: kinds.count,
  seed: kinds.size,
  threads: kinds.count,
  target: kinds.text,
  signal: kinds.signal,
  onProgress: kinds.callback,
};

/** The most bytes of patches that are kept. */
const mostBytes = 2 ** 31;
/** A patch is its centre where their squared distance is at most this share of its own square: what float32 rounds off. */
const same = 1e-4;

/**
 * Makes a patch tokenizer for your pictures.
 *
 * A sample of all patches is drawn evenly. Rounds of Lloyd's k-means follow from a random start. A centre that no patch is nearest to takes the
 * place of a patch that is far from its own, the farthest first, so that no token is wasted while patches differ. One round over the default sample of
 * 262,144 patches of 16 pixels and 8,192 tokens takes 3.3e12 floating-point operations, half a minute on two cores.
 *
 * @param pictures bytes [n, imageSize, imageSize, 3] of one or several pictures at a time, each part read once
 * @returns to be disposed
 * @throws MomeError `MOME_INVALID_ARGUMENT`, also for fewer patches than tokens; `MOME_INVALID_SHAPE`; `MOME_TOO_LARGE`; `MOME_ABORTED`
 * @example
 * const tokenizer = await fitPatchTokenizer(pictures, { imageSize: 224, tokens: 512 });
 * await tokenizer.save('tokenizer.safetensors');
 */
export async function fitPatchTokenizer(
  pictures: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  given: FitPatchTokenizerOptions,
): Promise<PatchTokenizer> {
  const options = takeOptions(where, given, fitKinds);
  const { imageSize, patchSize = 16, tokens = 8192, iterations = 10, seed = 0, signal, onProgress } = options;
  const { sample: most = 32 * tokens, threads, target } = options;
  check(
    isObject(pictures) && (Symbol.iterator in pictures || Symbol.asyncIterator in pictures),
    'MOME_INVALID_ARGUMENT',
    `${where}: expected pictures one after the other, as an iterable, got ${describe(pictures)}`,
  );
  check(imageSize !== undefined, 'MOME_INVALID_ARGUMENT', `${where}: expected imageSize, got nothing`);
  check(
    tokens >= 2 && tokens <= configLimits.visualTokens && patchSize <= configLimits.patchSize,
    'MOME_INVALID_ARGUMENT',
    `${where}: expected 2 to ${configLimits.visualTokens} tokens of patches of at most ${configLimits.patchSize} pixels, got ${tokens} of ${patchSize}`,
  );
  check(
    most * 3 * patchSize ** 2 <= mostBytes,
    'MOME_TOO_LARGE',
    `${where}: expected a sample of at most ${Math.floor(mostBytes / (3 * patchSize ** 2))} patches of ${patchSize} pixels, got ${most}`,
  );
  const random = createRandom(seed, 0x70617463);
  const sample = new PatchSample(imageSize, patchSize, most, random);
  for await (const part of pictures as AsyncIterable<Uint8Array>) {
    requireNotAborted(signal, where);
    await sample.add(takePictures(where, part, imageSize, patchSize));
  }
  check(
    sample.count >= tokens,
    'MOME_INVALID_ARGUMENT',
    `${where}: expected at least as many patches as tokens, ${tokens}, got ${sample.count} in all pictures`,
  );
  const clusters = new Clusters(sample, tokens, patchSize);
  await clusters.start(random);
  const engine = { ...(threads !== undefined && { threads }), ...(target !== undefined && { target }) };
  const matcher = await PatchMatcher.create(clusters.centres, tokens, patchSize, engine);
  try {
    for (let iteration = 1; iteration <= iterations; iteration++) {
      const matches = await matcher.nearest(sample.patches, patchSize, signal);
      const { error, changed } = await clusters.take(matches);
      await report(onProgress, { iteration, iterations, error, changed });
      requireNotAborted(signal, where);
      if (changed === 0) break;
      await matcher.replace(clusters.centres);
    }
  } finally {
    matcher.dispose();
  }
  return PatchTokenizer.create({ patchSize, tokens, values: clusters.centres }, engine);
}

/** Patches drawn evenly from a stream of unknown length (Vitter's algorithm R). */
class PatchSample {
  readonly imageSize: number;
  readonly patchSize: number;
  readonly #random: Random;
  /** [most, P, P, 3], of which the first `count` are there. */
  readonly #bytes: Uint8Array;
  readonly #most: number;
  #seen = 0;

  constructor(imageSize: number, patchSize: number, most: number, random: Random) {
    this.imageSize = imageSize;
    this.patchSize = patchSize;
    this.#random = random;
    this.#most = most;
    const bytes = most * 3 * patchSize ** 2;
    try {
      this.#bytes = new Uint8Array(bytes);
    } catch (error) {
      const message = `${where}: expected ${bytes} bytes of memory for a sample of ${most} patches, got none; take a smaller one`;
      throw new MomeError('MOME_OUT_OF_MEMORY', message, { cause: error });
    }
  }

  get count(): number {
    return Math.min(this.#seen, this.#most);
  }

  /** [count, P, P, 3] */
  get patches(): Uint8Array {
    return this.#bytes.subarray(0, this.count * 3 * this.patchSize ** 2);
  }

  /** @param bytes [n, imageSize, imageSize, 3] */
  async add(bytes: Uint8Array): Promise<void> {
    const pace = new Pace();
    const grid = this.imageSize / this.patchSize;
    const patches = (bytes.length / (3 * this.imageSize ** 2)) * grid ** 2;
    for (let patch = 0; patch < patches; patch++) {
      const place = this.#seen < this.#most ? this.#seen : this.#random.integer(this.#seen + 1);
      this.#seen++;
      if (place < this.#most) this.#copy(bytes, patch, grid, place);
      await pace.rest();
    }
  }

  #copy(bytes: Uint8Array, patch: number, grid: number, place: number): void {
    const [line, run] = [3 * this.imageSize, 3 * this.patchSize];
    const picture = Math.floor(patch / grid ** 2);
    const [top, left] = [Math.floor((patch % grid ** 2) / grid), patch % grid];
    let from = (picture * this.imageSize + top * this.patchSize) * line + left * run;
    let to = place * run * this.patchSize;
    for (let y = 0; y < this.patchSize; y++, from += line, to += run)
      this.#bytes.set(bytes.subarray(from, from + run), to);
  }
}

/** Centres, and the sums that make the next ones of them. */
class Clusters {
  /** [tokens, 3, P, P] */
  readonly centres: Float32Array;
  readonly #sample: PatchSample;
  readonly #tokens: number;
  readonly #area: number;
  #ids: Int32Array | undefined;
  /** |x|^2 of each patch. */
  #squares: Float64Array | undefined;

  constructor(sample: PatchSample, tokens: number, patchSize: number) {
    this.#sample = sample;
    this.#tokens = tokens;
    this.#area = patchSize ** 2;
    this.centres = new Float32Array(tokens * 3 * this.#area);
  }

  /** Starts with patches of the sample, each at most once. */
  async start(random: Random): Promise<void> {
    const { count } = this.#sample;
    const order = Int32Array.from({ length: count }, (_, i) => i);
    const pace = new Pace();
    for (let token = 0; token < this.#tokens; token++) {
      const other = token + random.integer(count - token);
      [order[token], order[other]] = [order[other]!, order[token]!];
      this.#placeAt(token, order[token]!);
      await pace.rest();
    }
  }

  /** Moves each centre to the mean of the patches that are nearest to it. */
  async take({ ids, scores }: Matches): Promise<{ readonly error: number; readonly changed: number }> {
    const squares = await this.#squaresOfPatches();
    const before = this.#ids;
    this.#ids = ids;
    let error = 0;
    let changed = 0;
    const distances = new Float64Array(ids.length);
    await inPieces(ids.length, (begin, end) => {
      for (let i = begin; i < end; i++) {
        distances[i] = Math.max(0, squares[i]! - 2 * scores[i]!);
        error += distances[i]!;
        if (before === undefined || before[i] !== ids[i]) changed++;
      }
    });
    const empty = await this.#means(ids);
    if (empty.length > 0) changed += await this.#fill(empty, distances);
    return { error: error / (ids.length * 3 * this.#area), changed };
  }

  /** Makes means the centres; tokens that no patch has. */
  async #means(ids: Int32Array): Promise<number[]> {
    const values = 3 * this.#area;
    const { patches } = this.#sample;
    const counts = new Int32Array(this.#tokens);
    // Sums of bytes in their own order are exact.
    const sums = new Float64Array(this.#tokens * values);
    const pace = new Pace();
    for (let patch = 0; patch < ids.length; patch++) {
      counts[ids[patch]!]!++;
      const [from, to] = [patch * values, ids[patch]! * values];
      for (let i = 0; i < values; i++) sums[to + i]! += patches[from + i]!;
      await pace.rest();
    }
    const empty: number[] = [];
    for (let token = 0; token < this.#tokens; token++) {
      const count = counts[token]!;
      if (count === 0) empty.push(token);
      else this.#place(token, (i) => sums[token * values + i]! / count);
      await pace.rest();
    }
    return empty;
  }

  /**
   * Moves unused centres to patches that are far from theirs, the farthest first; how many there were such patches for. Patches at the same
   * distance are mostly copies of each other, and one of them is taken.
   */
  async #fill(empty: readonly number[], distances: Float64Array): Promise<number> {
    const squares = await this.#squaresOfPatches();
    const apart: number[] = [];
    for (const [patch, distance] of distances.entries()) if (distance > same * squares[patch]!) apart.push(patch);
    const order = await sortInPieces(apart, (a, b) => distances[b]! - distances[a]! || a - b);
    let taken = 0;
    let last = Number.POSITIVE_INFINITY;
    for (const patch of order) {
      if (taken === empty.length) break;
      if (distances[patch] === last) continue;
      last = distances[patch]!;
      this.#placeAt(empty[taken++]!, patch);
    }
    return taken;
  }

  async #squaresOfPatches(): Promise<Float64Array> {
    if (this.#squares) return this.#squares;
    const { patches, count } = this.#sample;
    const squares = new Float64Array(count);
    const values = 3 * this.#area;
    const table = Float64Array.from({ length: 256 }, (_, byte) => (byte / 127.5 - 1) ** 2);
    await inPieces(patches.length, (begin, end) => {
      for (let i = begin; i < end; i++) squares[Math.floor(i / values)]! += table[patches[i]!]!;
    });
    this.#squares = squares;
    return squares;
  }

  #placeAt(token: number, patch: number): void {
    const { patches } = this.#sample;
    const from = patch * 3 * this.#area;
    this.#place(token, (i) => patches[from + i]!);
  }

  /** @param byteAt value of a byte of the patch, which lie as (y, x, channel) */
  #place(token: number, byteAt: (i: number) => number): void {
    const to = token * 3 * this.#area;
    for (let channel = 0; channel < 3; channel++)
      for (let at = 0; at < this.#area; at++)
        this.centres[to + channel * this.#area + at] = byteAt(3 * at + channel) / 127.5 - 1;
  }
}
