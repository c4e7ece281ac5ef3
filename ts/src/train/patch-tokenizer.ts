/**
 * Visual tokens of patches: the number of the nearest of many centres, which k-means has found.
 *
 * BEiT's targets are the tokens of DALL-E's encoder, a network that sees a patch with its surroundings and was trained to draw the picture
 * again. Here a token tells the pixels of its patch alone. It needs no other model, and tells less of what is shown.
 */
import { configLimits } from '../architecture/config.ts';
import { openSafetensors, readTensor, writeSafetensors } from '../checkpoint/index.ts';
import { describe, type Kinds, kinds, takeOptions, takePath } from '../runtime/arguments.ts';
import type { EngineOptions } from '../runtime/engine.ts';
import { check } from '../runtime/errors.ts';
import { inPieces } from '../runtime/pace.ts';
import { PatchMatcher } from './patch-matcher.ts';

const where = 'patch tokenizer';
/** What files of this kind say in their metadata. */
const format = 'mome-patch-tokenizer';
const tensorName = 'centres';

/** Where a tokenizer computes. */
export type PatchTokenizerOptions = Pick<EngineOptions, 'threads' | 'target'>;
const optionKinds: Kinds<PatchTokenizerOptions> = { threads: kinds.count, target: kinds.text };

/** The centres of a tokenizer. */
export interface PatchCentres {
  /** Side of a patch, in pixels (P). */
  readonly patchSize: number;
  /** How many visual tokens there are: `visualTokens` of a configuration. */
  readonly tokens: number;
  /** [tokens, 3, P, P] of values as the model reads them, byte / 127.5 - 1. */
  readonly values: Float32Array;
}

/** Turns patches into visual tokens. */
export class PatchTokenizer {
  readonly patchSize: number;
  readonly tokens: number;
  readonly #centres: PatchCentres;
  readonly #matcher: PatchMatcher;

  private constructor(centres: PatchCentres, matcher: PatchMatcher) {
    this.patchSize = centres.patchSize;
    this.tokens = centres.tokens;
    this.#centres = centres;
    this.#matcher = matcher;
  }

  /**
   * A tokenizer with centres of your own; `fitPatchTokenizer` finds them.
   *
   * @throws MomeError `MOME_INVALID_SHAPE`, `MOME_NON_FINITE`, `MOME_TOO_LARGE` for sizes beyond any configuration
   */
  static async create(centres: PatchCentres, given?: PatchTokenizerOptions): Promise<PatchTokenizer> {
    const options = takeOptions(where, given, optionKinds);
    const { patchSize, tokens, values } = centres;
    for (const [name, size, limit] of [
      ['patchSize', patchSize, configLimits.patchSize],
      ['tokens', tokens, configLimits.visualTokens],
    ] as const)
      check(
        Number.isInteger(size) && size >= 1 && size <= limit,
        Number.isInteger(size) && size > limit ? 'MOME_TOO_LARGE' : 'MOME_INVALID_ARGUMENT',
        `${where}: expected ${name} from 1 to ${limit}, got ${describe(size)}`,
      );
    check(
      values instanceof Float32Array && values.length === tokens * 3 * patchSize ** 2,
      'MOME_INVALID_SHAPE',
      `${where}: expected ${tokens} x 3 x ${patchSize} x ${patchSize} values of centres in a Float32Array, got ${values?.length}`,
    );
    await inPieces(values.length, (begin, end) => {
      for (let i = begin; i < end; i++)
        if (!Number.isFinite(values[i]))
          check(false, 'MOME_NON_FINITE', `${where}: expected finite centres, got ${values[i]} at ${i}`);
    });
    const own = { patchSize, tokens, values: values.slice() };
    return new PatchTokenizer(own, await PatchMatcher.create(own.values, tokens, patchSize, options));
  }

  /**
   * Opens a file that {@link save} wrote.
   *
   * @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE` for a file of another kind, `MOME_TOO_LARGE`, `MOME_NON_FINITE`
   */
  static async load(path: string | URL, given?: PatchTokenizerOptions): Promise<PatchTokenizer> {
    const name = takePath(where, path, 'a patch tokenizer');
    const { file, entries, metadata } = await openSafetensors(name);
    try {
      const entry = entries.get(tensorName);
      check(
        metadata.format === format && entry !== undefined,
        'MOME_INVALID_FILE',
        `${name}: expected a patch tokenizer, which says format ${format} and holds ${tensorName}; mome train --recipe tokenizer makes one`,
      );
      const [tokens = 0, channels, height, width] = entry.shape;
      check(
        entry.shape.length === 4 && channels === 3 && height === width && tokens >= 1 && height! >= 1,
        'MOME_INVALID_FILE',
        `${name}: expected ${tensorName} of shape [tokens, 3, side, side], got [${entry.shape.join(', ')}]`,
      );
      check(
        tokens <= configLimits.visualTokens && height! <= configLimits.patchSize,
        'MOME_TOO_LARGE',
        `${name}: expected at most ${configLimits.visualTokens} tokens of patches of ${configLimits.patchSize} pixels, got [${entry.shape.join(', ')}]`,
      );
      const values = await readTensor(entry);
      await file.requireUnchanged();
      return await PatchTokenizer.create({ patchSize: height!, tokens, values }, given);
    } finally {
      file.close();
    }
  }

  /** Writes a safetensors file that replaces the one at `path` as a whole or not at all. @throws MomeError `MOME_IO` */
  async save(path: string | URL): Promise<void> {
    const { patchSize, tokens, values } = this.#centres;
    const name = takePath(where, path, 'a patch tokenizer');
    const shape = [tokens, 3, patchSize, patchSize];
    await writeSafetensors(name, [{ name: tensorName, dtype: 'F32', shape, data: values }], { format });
  }

  /** A copy of the centres. */
  centres(): PatchCentres {
    return { ...this.#centres, values: this.#centres.values.slice() };
  }

  /**
   * The visual tokens of pictures, `visualTokens` of a training batch.
   *
   * @param bytes [pictures, imageSize, imageSize, 3]
   * @param imageSize side of the pictures, a multiple of the side of a patch
   * @returns [pictures, grid, grid]
   * @throws MomeError `MOME_INVALID_ARGUMENT`, `MOME_INVALID_SHAPE`, `MOME_ABORTED`, `MOME_DISPOSED`
   */
  async encode(bytes: Uint8Array, imageSize: number, signal?: AbortSignal): Promise<Int32Array> {
    takeOptions(where, { signal }, { signal: kinds.signal });
    const own = takePictures(where, bytes, imageSize, this.patchSize);
    return (await this.#matcher.nearest(own, imageSize, signal)).ids;
  }

  /** Frees the engine. */
  dispose(): void {
    this.#matcher.dispose();
  }
}

/**
 * A copy of the bytes of whole pictures.
 *
 * @throws MomeError `MOME_INVALID_ARGUMENT`, `MOME_INVALID_SHAPE`
 */
export function takePictures(where: string, bytes: unknown, imageSize: number, patchSize: number): Uint8Array {
  check(
    Number.isInteger(imageSize) && imageSize >= patchSize && imageSize % patchSize === 0,
    'MOME_INVALID_ARGUMENT',
    `${where}: expected pictures with a side that is a multiple of ${patchSize} pixels, got ${describe(imageSize)}`,
  );
  check(
    imageSize <= configLimits.imageSize,
    'MOME_TOO_LARGE',
    `${where}: expected pictures of at most ${configLimits.imageSize} pixels, got ${imageSize}`,
  );
  check(
    bytes instanceof Uint8Array,
    'MOME_INVALID_ARGUMENT',
    `${where}: expected pictures as a Uint8Array, got ${describe(bytes)}`,
  );
  check(
    bytes.length % (3 * imageSize ** 2) === 0,
    'MOME_INVALID_SHAPE',
    `${where}: expected ${3 * imageSize ** 2} bytes for each picture, got ${bytes.length} in all`,
  );
  return new Uint8Array(bytes);
}
