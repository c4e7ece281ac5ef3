/** Pictures that callers have in sharp: an instance whose pipeline has not run, and what `toBuffer` or `toUint8Array` gave. */
import { types } from 'node:util';
import { onAbort } from '../runtime/abort.ts';
import { check, MomeError } from '../runtime/errors.ts';
import type { RawImage } from './pixels.ts';

/** What sharp gives with `resolveWithObject`: the bytes of a file, or pixels where `info.format` is `raw`. */
export interface SharpOutput {
  readonly data: Uint8Array;
  readonly info: {
    readonly format: string;
    readonly width: number;
    readonly height: number;
    readonly channels: number;
  };
}

/** An instance of sharp, of any version. */
export interface SharpInstance {
  clone(): SharpInstance;
  metadata(): Promise<unknown>;
  toColourspace(space: string): SharpInstance;
  raw(options?: { readonly depth: 'uchar' }): SharpInstance;
  toBuffer(options: { readonly resolveWithObject: true }): Promise<SharpOutput>;
}

/** What is read of `info`: a caller may have made it by hand. */
type Info = Readonly<
  Record<'format' | 'width' | 'height' | 'channels' | 'depth' | 'premultiplied' | 'hasAlpha', unknown>
>;

export function isSharpOutput(input: unknown): input is SharpOutput {
  if (typeof input !== 'object' || input === null || !('data' in input) || !('info' in input)) return false;
  const { info } = input;
  return typeof info === 'object' && info !== null && 'format' in info && typeof info.format === 'string';
}

export function isSharpInstance(input: unknown): input is SharpInstance {
  const methods = ['clone', 'metadata', 'toColourspace', 'raw', 'toBuffer'] as const;
  return (
    typeof input === 'object' &&
    input !== null &&
    methods.every((name) => name in input && typeof (input as Readonly<Record<string, unknown>>)[name] === 'function')
  );
}

/** Whether an output of sharp is pixels, and no file. */
export const isRawOutput = ({ info }: SharpOutput): boolean => info.format === 'raw';

/**
 * Pixels of sharp as pixels of this library.
 *
 * @throws MomeError `MOME_INVALID_ARGUMENT` for another type than bytes, premultiplied pixels, or inks in place of light
 */
export function pixelsOfOutput(name: string, { data, info }: SharpOutput): RawImage {
  const { width, height, channels, depth = 'uchar', premultiplied = false, hasAlpha } = info as unknown as Info;
  const expected = `${name}: expected pixels of sharp as`;
  check(
    types.isUint8Array(data) || types.isUint8ClampedArray(data),
    'MOME_INVALID_ARGUMENT',
    `${expected} a Buffer, got ${Object.prototype.toString.call(data).slice(8, -1)}`,
  );
  check(
    depth === 'uchar',
    'MOME_INVALID_ARGUMENT',
    `${expected} bytes, got ${String(depth)}; use raw({ depth: 'uchar' })`,
  );
  check(
    premultiplied !== true,
    'MOME_INVALID_ARGUMENT',
    `${expected} they are without premultiplication, got them premultiplied`,
  );
  check(
    !(hasAlpha === false && Number(channels) > 3),
    'MOME_INVALID_ARGUMENT',
    `${expected} grey or RGB, got ${String(channels)} channels without alpha; use toColourspace('srgb')`,
  );
  return { data, width, height, channels } as RawImage;
}

/**
 * Runs the pipeline of an instance, in the caller's sharp, to sRGB pixels.
 *
 * @param instance a copy of the caller's
 *
 * @throws MomeError `MOME_INVALID_IMAGE` with sharp's error as cause, and as {@link pixelsOfOutput}
 */
export async function pixelsOfInstance(name: string, instance: SharpInstance, signal?: AbortSignal): Promise<RawImage> {
  let ended = () => {};
  const aborted = new Promise<never>((_, reject) => {
    ended = onAbort(signal, () => reject(signal?.reason));
  });
  try {
    const pipeline = instance.toColourspace('srgb').raw({ depth: 'uchar' });
    const output = pipeline.toBuffer({ resolveWithObject: true });
    return pixelsOfOutput(name, await Promise.race([output, aborted]));
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof MomeError) throw error;
    throw new MomeError('MOME_INVALID_IMAGE', `${name}: expected a pipeline of sharp that gives a picture, it failed`, {
      cause: error,
    });
  } finally {
    ended();
  }
}
