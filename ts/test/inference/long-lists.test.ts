/** Lists of hundreds of thousands of items: a call takes them over in pieces, while other events run. */
import { describe, expect, it } from 'vitest';
import { takePictures, takePicturesInPieces } from '../../src/image/input.ts';
import { takeManyImages, takePairs } from '../../src/inference/arguments.ts';

const paths = (count: number) => Array.from({ length: count }, (_, i) => `/nowhere/${i}.png`);

/** Turns that the event loop makes while work goes on. By turns and not by time: collecting garbage waits for cores that others use. */
async function turnsDuring(work: () => Promise<unknown>): Promise<number> {
  let turns = 0;
  let next = setImmediate(function again() {
    turns++;
    next = setImmediate(again);
  });
  await work();
  clearImmediate(next);
  return turns;
}

describe('a list of very many pictures', () => {
  it('is taken over in pieces, and is the call’s own from its beginning', async () => {
    const own = paths(1_000_000);
    expect(await turnsDuring(async () => takePictures(own))).toBeLessThanOrEqual(1);
    expect(await turnsDuring(() => takePicturesInPieces(own))).toBeGreaterThan(3);
    expect((await takePicturesInPieces(own)).length).toBe(own.length);
    const buffer = Buffer.from('bytes');
    const given: unknown[] = ['/a.png', buffer, '/b.png', buffer, new URL('file:///c.png')];
    const taking = takePicturesInPieces(given);
    given.reverse();
    buffer.fill(0);
    const taken = await taking;
    expect(taken.map(({ name }) => name)).toEqual([
      '/a.png',
      'Buffer of 5 bytes',
      '/b.png',
      'Buffer of 5 bytes',
      'file:///c.png',
    ]);
    expect(taken[1]).toBe(taken[3]);
    const content = taken[1]!.content();
    expect(content.kind === 'bytes' && Buffer.from(await content.read()).toString()).toBe('bytes');
  }, 120_000);

  it('is taken so by the calls of a model', async () => {
    const list = paths(1_000_000);
    const pairs = list.slice(0, 500_000).map((image) => ({ image, text: 'a cat' }));
    expect(await turnsDuring(() => takeManyImages('embedImages', list))).toBeGreaterThan(3);
    expect(await turnsDuring(() => takePairs('match', pairs))).toBeGreaterThan(2);
  }, 120_000);
});
