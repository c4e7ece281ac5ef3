import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { embeddingsOf } from '../../src/inference/embeddings.ts';
import { cosineSimilarity, hammingDistance, quantizeEmbeddings } from '../../src/inference/quantize.ts';
import { expectCode } from '../helpers.ts';

/** Rows of length 1 of any numbers. */
function rowsOf(count: number, width: number) {
  let state = 7;
  const values = Float32Array.from({ length: count * width }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
  for (let row = 0; row < count; row++) {
    const part = values.subarray(row * width, (row + 1) * width);
    const length = Math.hypot(...part);
    for (let i = 0; i < width; i++) part[i] = part[i]! / length;
  }
  return embeddingsOf(values, width);
}

describe('int8', () => {
  it('stands for the numbers within half a step, and keeps cosines', () => {
    const exact = rowsOf(40, 75);
    const small = quantizeEmbeddings(exact, 'int8');
    expect([small.count, small.width, small.embeddings.length, small.scales.length]).toEqual([40, 75, 3000, 40]);
    for (const [i, row] of small.rows().entries()) {
      const own = exact.rows()[i]!;
      expect(row.buffer).toBe(small.embeddings.buffer);
      expect(Math.max(...row.map(Math.abs))).toBe(127);
      for (const [j, integer] of row.entries())
        expect(Math.abs(integer * small.scales[i]! - own[j]!)).toBeLessThanOrEqual(0.5001 * small.scales[i]!);
      expect(cosineSimilarity(row, own)).toBeGreaterThan(0.9995);
    }
    expect(small.toArrays()).toEqual(small.rows().map((row) => [...row]));
  });

  it('makes zeros of a row of zeros', () => {
    const { embeddings, scales } = quantizeEmbeddings(embeddingsOf(new Float32Array(6), 3), 'int8');
    expect([[...embeddings], [...scales]]).toEqual([
      [0, 0, 0, 0, 0, 0],
      [0, 0],
    ]);
  });
});

describe('binary', () => {
  it('packs signs, the first dimension in the highest bit, and fills the last byte up', () => {
    const values = Float32Array.of(1, -1, 0, 0.5, -0, 2, 3, -4, 5, -6, 0.1, -1, -1, -1, -1, -1, -1, -1, -1, 9);
    const small = quantizeEmbeddings(embeddingsOf(values, 10), 'binary');
    expect([small.count, small.width, small.dimensions]).toEqual([2, 2, 10]);
    expect(small.toArrays()).toEqual([
      [0b10010110, 0b10000000],
      [0b10000000, 0b01000000],
    ]);
    expect(small.rows()[1]!.buffer).toBe(small.embeddings.buffer);
  });

  it('tells angles roughly', () => {
    const exact = rowsOf(30, 512);
    const small = quantizeEmbeddings(exact, 'binary').rows();
    const [a, b] = [exact.rows()[0]!, exact.rows()[1]!];
    const near = embeddingsOf(
      a.map((value, i) => value + 0.3 * b[i]!),
      512,
    );
    const [nearBits] = quantizeEmbeddings(near, 'binary').rows();
    const distance = hammingDistance(small[0]!, nearBits!);
    expect(Math.cos((Math.PI * distance) / 512)).toBeCloseTo(cosineSimilarity(a, near.embeddings), 1);
    for (const other of small.slice(1)) expect(hammingDistance(small[0]!, other)).toBeGreaterThan(distance);
    expect(hammingDistance(Uint8Array.of(0, 255, 0b1010), Uint8Array.of(255, 255, 0b0110))).toBe(10);
  });
});

describe('what is refused', () => {
  // biome-ignore lint/suspicious/noExplicitAny: what JavaScript callers may give
  const any = (value: unknown): any => value;
  const rows = rowsOf(2, 4);
  it.each([
    ['another precision', () => quantizeEmbeddings(rows, any('int4')), 'MOME_INVALID_ARGUMENT'],
    ['a list of numbers', () => quantizeEmbeddings(any([1, 2]), 'int8'), 'MOME_INVALID_ARGUMENT'],
    ['nothing', () => quantizeEmbeddings(any(undefined), 'int8'), 'MOME_INVALID_ARGUMENT'],
    ['lists as rows', () => quantizeEmbeddings({ ...rows, embeddings: any([1]) }, 'int8'), 'MOME_INVALID_ARGUMENT'],
    ['another size', () => quantizeEmbeddings({ ...rows, count: 3 }, 'binary'), 'MOME_INVALID_SHAPE'],
    ['a huge count', () => quantizeEmbeddings({ ...rows, count: 2 ** 60 }, 'binary'), 'MOME_INVALID_ARGUMENT'],
    ['no width', () => quantizeEmbeddings({ ...rows, count: 0, width: 0 }, 'binary'), 'MOME_INVALID_SHAPE'],
    ['NaN', () => quantizeEmbeddings(embeddingsOf(Float32Array.of(1, NaN), 1), 'binary'), 'MOME_NON_FINITE'],
    ['vectors of two lengths', () => cosineSimilarity([1, 2], [1]), 'MOME_INVALID_SHAPE'],
    ['one vector', () => cosineSimilarity([1, 2], any(undefined)), 'MOME_INVALID_ARGUMENT'],
    ['a hole', () => cosineSimilarity(new Array(2), [1, 2]), 'MOME_NON_FINITE'],
    ['floats as bits', () => hammingDistance(any(rows.embeddings), any(rows.embeddings)), 'MOME_INVALID_ARGUMENT'],
    ['bits of two lengths', () => hammingDistance(new Uint8Array(2), new Uint8Array(3)), 'MOME_INVALID_SHAPE'],
  ] as const)('%s', async (_, call, code) => {
    await expectCode(call, code);
  });

  it('and nothing at all is fine', () => {
    expect(quantizeEmbeddings(embeddingsOf(new Float32Array(0), 4), 'int8').rows()).toEqual([]);
    expect(cosineSimilarity([0, 0], [1, 2])).toBe(0);
  });
});

it('takes arrays of another realm, as test runners make them', () => {
  const { embeddings, bytes } = runInNewContext(
    '({ embeddings: Float32Array.of(0.6, -0.8), bytes: Uint8Array.of(3) })',
  ) as { embeddings: Float32Array; bytes: Uint8Array };
  expect(quantizeEmbeddings({ embeddings, count: 1, width: 2 }, 'int8').toArrays()).toEqual([[95, -127]]);
  expect(cosineSimilarity(embeddings, [0.6, -0.8])).toBeCloseTo(1, 6);
  expect(hammingDistance(bytes, Uint8Array.of(0))).toBe(2);
});
