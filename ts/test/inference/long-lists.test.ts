/** Lists of hundreds of thousands of items: a call takes them over in pieces, while other events run. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { takePicturesInPieces } from '../../src/image/input.ts';
import { Vlmo } from '../../src/inference/vlmo.ts';
import type { MomeError } from '../../src/runtime/errors.ts';
import { tinyModel } from '../helpers.ts';
import { expectShortTurns } from '../loop-gap.ts';

let model: Vlmo;
beforeAll(async () => {
  model = await Vlmo.load(await tinyModel());
}, 60_000);
afterAll(() => model.dispose());

/** Several times as many as a service would give: taken in one piece they hold the loop for more than the bound on any machine. */
const many = 600_000;
const paths = Array.from({ length: many }, (_, i) => `/nowhere/${i}.png`);

const refusal = (work: Promise<unknown>) =>
  work.then(
    () => 'done',
    (error: unknown) => (error as MomeError).code,
  );

describe('a list of very many pictures', () => {
  it('is taken over in pieces, and is the call’s own from its beginning', async () => {
    const own = [...paths];
    const sources = await expectShortTurns(() => takePicturesInPieces(own));
    expect(sources.length).toBe(many);
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
  });

  it('holds the loop of no other call, up to the first picture that is not there', async () => {
    expect(await expectShortTurns(() => refusal(model.embedImages(paths)))).toBe('MOME_NOT_FOUND');
  }, 120_000);
});
