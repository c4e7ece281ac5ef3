/**
 * Finds the nearest of many centres for each patch of pictures, by the library's own matrix product.
 */
import { fixed, forwardSequence, Graph, i32, inputOf, lower, patchEmbed, perRun, u8 } from '../graph/index.ts';
import { Engine, type EngineOptions, type Program, type Weights } from '../runtime/engine.ts';
import { inPieces, Pace } from '../runtime/pace.ts';

/**
 * Scores that one run gives, at most: 2 MiB, or those of one picture. They are handed over in fresh memory, which takes up to 5 ms for each
 * MiB of the event loop.
 */
const scoresAtOnce = 2 ** 19;

/** The nearest centre of each patch. */
export interface Matches {
  /** [patches] */
  readonly ids: Int32Array;
  /** [patches] x . c - |c|^2 / 2 of patch x and its centre c: the squared distance is |x|^2 minus twice that. */
  readonly scores: Float32Array;
}

/**
 * Centres on an engine. Of all centres c, the nearest to a patch x has the highest x . c - |c|^2 / 2, which is what `patch_embed` computes
 * where the centres are its weights and the rest its bias: it reads patches straight from the bytes of pictures. 2 x centres x values of a patch
 * operations for each patch.
 */
export class PatchMatcher {
  readonly #count: number;
  readonly #patchSize: number;
  readonly #engine: Engine;
  readonly #weights: Weights;
  /** By the side of pictures. */
  readonly #programs = new Map<number, Program>();

  private constructor(count: number, patchSize: number, engine: Engine) {
    this.#count = count;
    this.#patchSize = patchSize;
    this.#engine = engine;
    this.#weights = engine.createWeights();
  }

  /**
   * @param centres [count, 3, patchSize, patchSize] of values as the model reads them, byte / 127.5 - 1
   * @throws MomeError `MOME_DEVICE_UNAVAILABLE` for a target this processor lacks, `MOME_INVALID_ARGUMENT`
   */
  static async create(
    centres: Float32Array,
    count: number,
    patchSize: number,
    options: Pick<EngineOptions, 'threads' | 'target'>,
  ): Promise<PatchMatcher> {
    const engine = new Engine(options);
    const matcher = new PatchMatcher(count, patchSize, engine);
    try {
      const weights = matcher.#weights;
      await weights.add('centres', [count, 3 * patchSize ** 2], centres);
      await weights.add('offsets', [count], await offsetsOf(centres, count));
      await weights.add('cls', [1, 1, count], new Float32Array(count));
      await weights.add('type', [1, count], new Float32Array(count));
      return matcher;
    } catch (error) {
      engine.dispose();
      throw error;
    }
  }

  /** Takes other centres of the same count. */
  async replace(centres: Float32Array): Promise<void> {
    await this.#weights.write('centres', centres);
    await this.#weights.write('offsets', await offsetsOf(centres, this.#count));
  }

  /**
   * @param bytes [pictures, imageSize, imageSize, 3]
   * @param imageSize a multiple of the side of a patch
   * @returns for each patch, picture by picture and row by row; of centres that are equally near, the first
   * @throws MomeError `MOME_ABORTED`, `MOME_DISPOSED`
   */
  async nearest(bytes: Uint8Array, imageSize: number, signal?: AbortSignal): Promise<Matches> {
    const perPicture = 3 * imageSize ** 2;
    const pictures = bytes.length / perPicture;
    const patches = (imageSize / this.#patchSize) ** 2;
    const program = this.#programOf(imageSize);
    const atOnce = Math.max(1, Math.floor(scoresAtOnce / ((1 + patches) * this.#count)));
    const ids = new Int32Array(pictures * patches);
    const best = new Float32Array(pictures * patches);
    for (let first = 0; first < pictures; first += atOnce) {
      const images = Math.min(atOnce, pictures - first);
      const { scores } = await program.run(
        {
          dims: { images, pictures: images, image_rows: images * (1 + patches) },
          inputs: {
            bytes: bytes.subarray(first * perPicture, (first + images) * perPicture),
            picture: Int32Array.from({ length: images }, (_, i) => i),
            type_index: new Int32Array(images),
          },
        },
        signal,
      );
      await this.#takeHighest(scores!, patches, ids, best, first * patches);
    }
    return { ids, scores: best };
  }

  /** Frees the engine. */
  dispose(): void {
    this.#engine.dispose();
  }

  /** @param scores [images, 1 + patches, centres], whose first row of each image is no patch */
  async #takeHighest(
    scores: Float32Array,
    patches: number,
    ids: Int32Array,
    best: Float32Array,
    first: number,
  ): Promise<void> {
    const pace = new Pace();
    const count = this.#count;
    const rows = scores.length / count;
    let at = first;
    for (let row = 0; row < rows; row++) {
      if (row % (1 + patches) === 0) continue;
      const begin = row * count;
      let highest = scores[begin]!;
      let id = 0;
      for (let i = 1; i < count; i++) {
        const score = scores[begin + i]!;
        if (score > highest) {
          highest = score;
          id = i;
        }
      }
      ids[at] = id;
      best[at++] = highest;
      await pace.rest();
    }
  }

  #programOf(imageSize: number): Program {
    const known = this.#programs.get(imageSize);
    if (known) return known;
    const graph = new Graph('nearest');
    const [images, pictures, rows] = [perRun('images'), perRun('pictures'), perRun('image_rows')];
    const [height, imageWidth] = [fixed('imageHeight', imageSize), fixed('imageWidth', imageSize)];
    const [centres, patch, one] = [
      fixed('width', this.#count),
      fixed('patch', 3 * this.#patchSize ** 2),
      fixed('one', 1),
    ];
    const inputs = {
      bytes: u8([pictures, height, imageWidth, fixed('channels', 3)]),
      picture: i32([images]),
      type_index: i32([images]),
    } as const;
    const scores = patchEmbed(
      inputOf(graph, inputs, 'bytes'),
      inputOf(graph, inputs, 'picture'),
      inputOf(graph, inputs, 'type_index'),
      rows,
      {
        projection: {
          weight: graph.parameter('centres', [centres, patch]),
          bias: graph.parameter('offsets', [centres]),
        },
        cls: graph.parameter('cls', [one, one, centres]),
        position: undefined,
        type: graph.parameter('type', [fixed('types', 1), centres]),
      },
      { imageSize, patchSize: this.#patchSize },
    );
    graph.output('scores', scores);
    const program = this.#engine.createProgram(this.#weights, lower(graph, forwardSequence(graph)).text);
    this.#programs.set(imageSize, program);
    return program;
  }
}

/** -|c|^2 / 2 of each centre. */
async function offsetsOf(centres: Float32Array, count: number): Promise<Float32Array> {
  const offsets = new Float32Array(count);
  const values = centres.length / count;
  let sum = 0;
  await inPieces(centres.length, (begin, end) => {
    for (let i = begin; i < end; i++) {
      sum += centres[i]! ** 2;
      if ((i + 1) % values > 0) continue;
      offsets[(i + 1) / values - 1] = -sum / 2;
      sum = 0;
    }
  });
  return offsets;
}
