/** Helpers of training refuse missing and wrong arguments with a code, whatever they are. */
import { describe, expect, it } from 'vitest';
import * as train from '../../src/train/index.ts';
import { expectCode } from '../helpers.ts';

const helpers = [
  'fitCalibration',
  'expectedCalibrationError',
  'evaluateRetrieval',
  'fitFusionWeight',
  'fitMatchCalibration',
  'evaluatePairs',
  'evaluateVqa',
  'evaluateNlvr2',
  'writeModel',
  'initialParameters',
  'createRandom',
  'rankAll',
  'rerankAll',
  'recall',
  'drawHardNegatives',
  'maskWords',
  'maskBudget',
  'maskBlocks',
  'learningRateAt',
  'decays',
  'normaliseAnswer',
  'officialAccuracy',
  'saveRun',
  'loadRun',
] as const satisfies readonly (keyof typeof train)[];

const all: Readonly<Record<string, unknown>> = { ...train };

describe.each(helpers)('%s', (name) => {
  const helper = all[name] as (...args: unknown[]) => unknown;
  it.each([
    ['nothing', []],
    ['nulls', [null, null, null, null, null]],
    ['objects', [{}, {}, {}, {}, {}]],
    ['symbols', [Symbol('a'), Symbol('b'), Symbol('c'), Symbol('d'), Symbol('e')]],
    ['a text without its fellows', [{ text: 1 }]],
  ])('refuses %s', async (_, args) => {
    const { message } = await expectCode(async () => helper(...args), 'MOME_INVALID_ARGUMENT');
    expect(message).toMatch(/expected /);
  });
});

it('numbers of pairs that do not fit are refused by their shape', async () => {
  const random = train.createRandom(1);
  const square = new Float32Array(4);
  expect(train.drawHardNegatives(square, 2, 2, random).image).toEqual(Int32Array.of(1, 0));
  await expectCode(() => train.drawHardNegatives(square, 3, 2, random), 'MOME_INVALID_SHAPE');
  await expectCode(() => train.drawHardNegatives(square, 2, 3, random), 'MOME_INVALID_SHAPE');
  await expectCode(() => train.drawHardNegatives(square, 2, 2, random, Int32Array.of(1)), 'MOME_INVALID_SHAPE');
});
