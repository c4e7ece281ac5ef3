/** Lists of hundreds of thousands of items: a call takes them over in pieces, while other events run. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { takePictures, takePicturesInPieces } from '../../src/image/input.ts';
import { Vlmo } from '../../src/inference/vlmo.ts';
import type { MomeError } from '../../src/runtime/errors.ts';
import { tinyModel } from '../helpers.ts';
import { expectShortTurns, loopGap } from '../loop-gap.ts';

let model: Vlmo;
beforeAll(async () => {
  model = await Vlmo.load(await tinyModel());
}, 60_000);
afterAll(() => model.dispose());

const paths = (count: number) => Array.from({ length: count }, (_, i) => `/nowhere/${i}.png`);

/** Milliseconds of the longest turn of work, the shortest of three. */
async function longestTurn(work: () => unknown): Promise<number> {
  const turns: number[] = [];
  for (let run = 0; run < 3; run++) turns.push((await loopGap(work)).held);
  return Math.min(...turns);
}

const refusal = (work: Promise<unknown>) =>
  work.then(
    () => 'done',
    (error: unknown) => (error as MomeError).code,
  );

describe('a list of very many pictures', () => {
  it('is taken over in pieces, and is the call’s own from its beginning', async () => {
    // So many that taking them in one piece shows on any machine, whatever else runs on it.
    const own = paths(1_000_000);
    const together = await longestTurn(() => takePictures(own));
    expect(await longestTurn(() => takePicturesInPieces(own))).toBeLessThan(together / 2);
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

  it('holds the loop of no other call, up to the first picture that is not there', async () => {
    const list = paths(200_000);
    expect(await expectShortTurns(() => refusal(model.embedImages(list)))).toBe('MOME_NOT_FOUND');
  }, 120_000);
});
