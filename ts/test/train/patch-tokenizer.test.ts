import { readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openSafetensors, readTensor, writeSafetensors } from '../../src/checkpoint/index.ts';
import { type FitPatchTokenizerOptions, fitPatchTokenizer } from '../../src/train/fit-patch-tokenizer.ts';
import { PatchTokenizer } from '../../src/train/patch-tokenizer.ts';
import { createRandom } from '../../src/train/random.ts';
import { expectCode, temporaryFolder } from '../helpers.ts';
import { expectShortTurns } from '../loop-gap.ts';

const [size, side] = [16, 4];
const grid = size / side;
const perPatch = 3 * side ** 2;

/** Pictures whose patches are drawn from eight patterns, with noise; the pattern of each patch. */
function drawings(count: number, seed: number, noise = 12): { bytes: Uint8Array; patterns: Int32Array } {
  const random = createRandom(seed);
  const bytes = new Uint8Array(count * 3 * size ** 2);
  const patterns = new Int32Array(count * grid ** 2);
  for (let patch = 0; patch < patterns.length; patch++) {
    const pattern = random.integer(8);
    patterns[patch] = pattern;
    const [picture, place] = [Math.floor(patch / grid ** 2), patch % grid ** 2];
    for (let y = 0; y < side; y++)
      for (let x = 0; x < side; x++)
        for (let c = 0; c < 3; c++) {
          const bright = pattern & 4 ? (x + y) % 2 : 1;
          const value = 40 + 150 * bright * ((pattern >> (c % 2)) & 1) + random.integer(noise);
          const row = picture * size + Math.floor(place / grid) * side + y;
          bytes[(row * size + (place % grid) * side + x) * 3 + c] = value;
        }
  }
  return { bytes, patterns };
}

/** The nearest centre of each patch by plain sums in double. */
function nearest(tokenizer: PatchTokenizer, bytes: Uint8Array, imageSize = size): { ids: number[]; error: number } {
  const { values, tokens } = tokenizer.centres();
  const patches = imageSize / side;
  const ids: number[] = [];
  let error = 0;
  for (let patch = 0; patch < bytes.length / perPatch; patch++) {
    const [picture, place] = [Math.floor(patch / patches ** 2), patch % patches ** 2];
    let [best, least] = [-1, Number.POSITIVE_INFINITY];
    for (let token = 0; token < tokens; token++) {
      let distance = 0;
      for (let y = 0; y < side; y++)
        for (let x = 0; x < side; x++)
          for (let c = 0; c < 3; c++) {
            const row = picture * imageSize + Math.floor(place / patches) * side + y;
            const byte = bytes[(row * imageSize + (place % patches) * side + x) * 3 + c]!;
            distance += (byte / 127.5 - 1 - values[((token * 3 + c) * side + y) * side + x]!) ** 2;
          }
      if (distance < least) [best, least] = [token, distance];
    }
    ids.push(best);
    error += least;
  }
  return { ids, error: error / bytes.length };
}

const clustered = (
  bytes: Uint8Array | readonly Uint8Array[],
  options: Partial<FitPatchTokenizerOptions> = {},
): Promise<PatchTokenizer> =>
  fitPatchTokenizer(bytes instanceof Uint8Array ? [bytes] : bytes, {
    imageSize: size,
    patchSize: side,
    tokens: 8,
    iterations: 30,
    threads: 1,
    seed: 4,
    ...options,
  });

describe('a patch tokenizer', () => {
  it('finds the patterns that pictures are made of', async () => {
    const { bytes } = drawings(60, 1);
    const errors: number[] = [];
    const tokenizer = await clustered(bytes, { onProgress: ({ error }) => errors.push(error) });
    const fresh = drawings(20, 2);
    const ids = await tokenizer.encode(fresh.bytes, size);
    // Pattern 0 and 4 are one: a checkerboard of nothing. Each other one has tokens of its own.
    const patternOf = new Map<number, number>();
    for (const [patch, id] of ids.entries()) {
      const pattern = fresh.patterns[patch] === 4 ? 0 : fresh.patterns[patch]!;
      expect(patternOf.get(id) ?? pattern).toBe(pattern);
      patternOf.set(id, pattern);
    }
    expect(new Set(patternOf.values()).size).toBe(7);
    for (const [round, error] of errors.entries()) if (round > 0) expect(error).toBeLessThanOrEqual(errors[round - 1]!);
    // Noise in [0, 12) has a variance of 143 / 12.
    expect(errors.at(-1)).toBeCloseTo(143 / 12 / 127.5 ** 2, 4);
    tokenizer.dispose();
  });

  it('gives the nearest centre, as plain sums do, at any size of pictures', async () => {
    const tokenizer = await clustered(drawings(10, 3, 200).bytes, { tokens: 37 });
    const { bytes } = drawings(12, 4, 200);
    const expected = nearest(tokenizer, bytes);
    const ids = await tokenizer.encode(bytes, size);
    expect([...ids]).toEqual(expected.ids);
    const wide = bytes.subarray(0, 3 * (2 * size) ** 2);
    expect([...(await tokenizer.encode(wide, 2 * size))]).toEqual(nearest(tokenizer, wide, 2 * size).ids);
    // A comparison that cannot fail would take the ids of other pictures too.
    expect([...(await tokenizer.encode(drawings(12, 5, 200).bytes, size))]).not.toEqual(expected.ids);
    tokenizer.dispose();
  });

  it('has centres that are the means of their patches', async () => {
    const { bytes } = drawings(30, 6, 100);
    let last = { error: 0, changed: -1 };
    const tokenizer = await clustered(bytes, {
      iterations: 100,
      sample: 1000,
      onProgress: (progress) => {
        last = progress;
      },
    });
    expect(last.changed).toBe(0);
    const { ids, error } = nearest(tokenizer, bytes);
    expect(error).toBeCloseTo(last.error, 6);
    const { values } = tokenizer.centres();
    const sums = new Float64Array(values.length);
    const counts = new Int32Array(8);
    for (const [patch, id] of ids.entries()) {
      counts[id]!++;
      const [picture, place] = [Math.floor(patch / grid ** 2), patch % grid ** 2];
      for (let i = 0; i < perPatch; i++) {
        const [c, y, x] = [Math.floor(i / side ** 2), Math.floor(i / side) % side, i % side];
        const row = picture * size + Math.floor(place / grid) * side + y;
        sums[id * perPatch + i]! += bytes[(row * size + (place % grid) * side + x) * 3 + c]! / 127.5 - 1;
      }
    }
    for (const [i, value] of values.entries())
      expect(value).toBeCloseTo(sums[i]! / counts[Math.floor(i / perPatch)]!, 5);
    tokenizer.dispose();
  });

  it('is the same for the same seed, on any number of threads and in any parts, and another for another seed', async () => {
    const { bytes } = drawings(20, 7, 200);
    const half = bytes.length / 2;
    const all = await Promise.all([
      clustered(bytes, { tokens: 20, iterations: 3, sample: 100 }),
      clustered([bytes.subarray(0, half), bytes.subarray(half)], {
        tokens: 20,
        iterations: 3,
        sample: 100,
        threads: 2,
      }),
      clustered(bytes, { tokens: 20, iterations: 3, sample: 100, seed: 5 }),
    ]);
    const [first, parts, other] = all.map((tokenizer) => tokenizer.centres().values);
    expect(parts).toEqual(first);
    expect(other).not.toEqual(first);
    for (const tokenizer of all) tokenizer.dispose();
  });

  it('wastes no token on pictures that are mostly one patch', async () => {
    const { bytes } = drawings(20, 8, 1);
    // Nine of ten pictures are white.
    bytes.fill(255, bytes.length / 10);
    const tokenizer = await clustered(bytes, { tokens: 8 });
    const used = new Set(await tokenizer.encode(bytes, size));
    // Seven patterns and white.
    expect(used.size).toBe(8);
    tokenizer.dispose();
  });

  it('gives tokens that do not depend on the place of a picture, and stops when it is told', async () => {
    const tokenizer = await clustered(drawings(10, 9, 200).bytes, { tokens: 30 });
    const { bytes } = drawings(3, 10, 200);
    const all = await tokenizer.encode(bytes, size);
    const one = bytes.length / 3;
    expect(await tokenizer.encode(bytes.subarray(one, 2 * one), size)).toEqual(all.slice(grid ** 2, 2 * grid ** 2));
    expect(await tokenizer.encode(new Uint8Array(0), size)).toEqual(new Int32Array(0));
    await expectCode(() => tokenizer.encode(bytes, size, AbortSignal.abort()), 'MOME_ABORTED');
    for (const [wrong, imageSize, code] of [
      [bytes.subarray(1), size, 'MOME_INVALID_SHAPE'],
      [[...bytes], size, 'MOME_INVALID_ARGUMENT'],
      [bytes, 15, 'MOME_INVALID_ARGUMENT'],
      [bytes, 0, 'MOME_INVALID_ARGUMENT'],
      [bytes, 2 ** 20, 'MOME_TOO_LARGE'],
    ] as const)
      await expectCode(() => tokenizer.encode(wrong as Uint8Array, imageSize), code);
    tokenizer.dispose();
    await expectCode(() => tokenizer.encode(bytes, size), 'MOME_DISPOSED');
  });

  it('leaves the event loop free', async () => {
    const { bytes } = drawings(300, 14, 200);
    const tokenizer = await expectShortTurns(() => clustered(bytes, { tokens: 400, iterations: 2 }));
    await expectShortTurns(() => tokenizer.encode(bytes, size));
    tokenizer.dispose();
  });

  it('is read from its file as it was written', async () => {
    const tokenizer = await clustered(drawings(10, 11, 200).bytes, { tokens: 30 });
    const path = join(await temporaryFolder(), 'tokenizer.safetensors');
    await tokenizer.save(path);
    const read = await PatchTokenizer.load(path, { threads: 1 });
    expect(read.centres()).toEqual(tokenizer.centres());
    const { bytes } = drawings(3, 12, 200);
    expect(await read.encode(bytes, size)).toEqual(await tokenizer.encode(bytes, size));
    tokenizer.dispose();
    read.dispose();
  });

  it('refuses files of another kind, cut ones and wrong ones', async () => {
    const folder = await temporaryFolder();
    const tokenizer = await clustered(drawings(10, 11, 200).bytes);
    const path = join(folder, 'tokenizer.safetensors');
    await tokenizer.save(path);
    tokenizer.dispose();
    const { entries, metadata, file } = await openSafetensors(path);
    const data = await readTensor(entries.get('centres')!);
    file.close();
    const written = async (shape: readonly number[], values: Float32Array, format = metadata.format!) => {
      const other = join(folder, 'other.safetensors');
      await writeSafetensors(other, [{ name: 'centres', dtype: 'F32', shape, data: values }], { format });
      return other;
    };
    await expectCode(() => PatchTokenizer.load(join(folder, 'none')), 'MOME_NOT_FOUND');
    for (const [make, code] of [
      [() => written([8, 3, 4, 4], data, 'pt'), 'MOME_INVALID_FILE'],
      [() => written([8, 48], data), 'MOME_INVALID_FILE'],
      [() => written([8, 4, 4, 3], data), 'MOME_INVALID_FILE'],
      [() => written([0, 3, 4, 4], new Float32Array(0)), 'MOME_INVALID_FILE'],
      [() => written([2 ** 17, 3, 1, 1], new Float32Array(3 * 2 ** 17)), 'MOME_TOO_LARGE'],
      [
        () =>
          written(
            [8, 3, 4, 4],
            data.map((value, i) => (i === 77 ? Number.NaN : value)),
          ),
        'MOME_NON_FINITE',
      ],
    ] as const)
      await expectCode(async () => PatchTokenizer.load(await make()), code);
    const cut = join(folder, 'cut.safetensors');
    await writeFile(cut, await readFile(path));
    await truncate(cut, 500);
    await expectCode(() => PatchTokenizer.load(cut), 'MOME_INVALID_FILE');
  });

  it('refuses what cannot be clustered', async () => {
    const { bytes } = drawings(2, 13);
    for (const [options, code] of [
      [{ tokens: 33 }, 'MOME_INVALID_ARGUMENT'],
      [{ tokens: 1 }, 'MOME_INVALID_ARGUMENT'],
      [{ tokens: 2 ** 20 }, 'MOME_INVALID_ARGUMENT'],
      [{ sample: 7 }, 'MOME_INVALID_ARGUMENT'],
      [{ sample: 2 ** 40 }, 'MOME_TOO_LARGE'],
      [{ patchSize: 5 }, 'MOME_INVALID_ARGUMENT'],
      [{ patchsize: 4 }, 'MOME_INVALID_ARGUMENT'],
      [{ signal: AbortSignal.abort() }, 'MOME_ABORTED'],
    ] as const)
      await expectCode(() => clustered(bytes, options as Partial<FitPatchTokenizerOptions>), code);
    await expectCode(() => clustered(bytes.subarray(1)), 'MOME_INVALID_SHAPE');
    await expectCode(() => clustered(7 as unknown as Uint8Array[]), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => clustered([7] as unknown as Uint8Array[]), 'MOME_INVALID_ARGUMENT');
    const broken = (async function* () {
      yield bytes;
      throw new Error('the disk is gone');
    })();
    await expect(fitPatchTokenizer(broken, { imageSize: size, patchSize: side, tokens: 8 })).rejects.toThrow(
      'the disk',
    );
  });
});
