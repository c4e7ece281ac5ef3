/**
 * Statements when a run has more pairs than they need: on a device rows are rounded up, and the pairs that were asked for come first.
 */
import { expect, it } from 'vitest';
import { loadModel } from '../../src/inference/load.ts';
import { PictureSet } from '../../src/inference/pictures.ts';
import { Programs } from '../../src/inference/programs.ts';
import { layoutBatch } from '../../src/model/batch.ts';
import { argumentsOf, type reason } from '../../src/model/functions.ts';
import { expectCode, testImage, tinyModel } from '../helpers.ts';

it('read the first pairs alone, and no more than there are', async () => {
  const { engine, weights, config, abilities } = await loadModel(await tinyModel(), {});
  const programs = new Programs(engine, weights, config, abilities);
  const pictures = await PictureSet.prepare([testImage(1), testImage(2)], config.imageSize);
  const pairs = (count: number) =>
    Array.from({ length: count }, (_, i) => ({
      text: Int32Array.of(2, 5 + (i >> 1), 9, 3),
      picture: i % 2,
      type: i % 2 === 0 ? (1 as const) : (2 as const),
    }));
  const logits = async (count: number, statements: number) => {
    const batch = layoutBatch(config, { pairs: pairs(count) }, pictures.count);
    const args = argumentsOf<typeof reason>(batch, { bytes: pictures.bytes }, { dims: { statements } });
    return [...(await programs.get('reason').program.run(args)).nlvr2_logits];
  };
  const exact = await logits(2, 1);
  const all = await logits(8, 4);
  expect(exact).toHaveLength(2);
  expect(await logits(8, 1)).toEqual(exact);
  expect(all.slice(0, 2)).toEqual(exact);
  // Other statements have other logits: a wrong place would be noticed.
  expect(all.slice(2, 4)).not.toEqual(exact);
  await expectCode(() => logits(8, 5), 'MOME_INVALID_SHAPE');
  programs.dispose();
  weights.dispose();
  engine.dispose();
});
