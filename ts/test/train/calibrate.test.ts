import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { writeCalibration } from '../../src/checkpoint/index.ts';
import { matchProbability } from '../../src/inference/fused-score.ts';
import { expectedCalibrationError, fitCalibration } from '../../src/train/calibrate.ts';
import { createRandom } from '../../src/train/random.ts';
import { expectCode, temporaryFolder } from '../helpers.ts';

/** Pairs whose log-odds are too sure: the truth follows slope and offset. */
function drawn(count: number, slope: number, offset: number, seed: number) {
  const random = createRandom(seed, 1);
  const logOdds = Array.from({ length: count }, () => random.uniform(-8, 8));
  const isRight = logOdds.map((z) => (random.uniform(0, 1) < matchProbability(z, { slope, offset }) ? 1 : 0));
  return { logOdds, isRight };
}

describe('fitCalibration', () => {
  it.each([
    [0.4, -1.5],
    [1, 0],
    [2.5, 3],
  ])('finds slope %f and offset %f again, and halves the error on pairs it has not seen', (slope, offset) => {
    const { logOdds, isRight } = drawn(20_000, slope, offset, 1);
    const fit = fitCalibration(logOdds, isRight);
    expect(Math.abs(fit.slope - slope)).toBeLessThan(0.06 * slope + 0.01);
    expect(Math.abs(fit.offset - offset)).toBeLessThan(0.15);
    const others = drawn(20_000, slope, offset, 2);
    const error = (calibration?: typeof fit) =>
      expectedCalibrationError(
        others.logOdds.map((z) => matchProbability(z, calibration)),
        others.isRight,
      );
    expect(error(fit)).toBeLessThan(0.02);
    if (slope !== 1) expect(error(fit)).toBeLessThan(error() / 2);
  });

  it('stays finite where log-odds part right from wrong', () => {
    const { slope, offset } = fitCalibration([-3, -2, -1, 1, 2, 3], [0, 0, 0, 1, 1, 1]);
    expect(slope).toBeGreaterThan(0);
    expect(slope).toBeLessThan(10);
    expect(offset).toBeCloseTo(0, 6);
  });

  it('refuses what nothing can be fitted to', async () => {
    await expectCode(() => fitCalibration([1, 2], [1]), 'MOME_INVALID_SHAPE');
    await expectCode(() => fitCalibration([1, 2], [1, 1]), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => fitCalibration([], []), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => fitCalibration([3, 2, -2, -3], [0, 0, 1, 1]), 'MOME_UNSUPPORTED');
  });
});

describe('expectedCalibrationError', () => {
  it('is the distance of what is said from what is so', () => {
    const half = Array.from({ length: 3000 }, (_, i) => i % 2);
    expect(
      expectedCalibrationError(
        half.map(() => 0.5),
        half,
      ),
    ).toBeLessThan(0.01);
    expect(
      expectedCalibrationError(
        half.map(() => 0.9),
        half,
      ),
    ).toBeCloseTo(0.4, 2);
    expect(expectedCalibrationError(half, half)).toBe(0);
    expect(
      expectedCalibrationError(
        half.map((right) => 1 - right),
        half,
      ),
    ).toBeGreaterThan(0.9);
  });
});

it('writes a calibration into a config.json and leaves all else', async () => {
  const folder = await temporaryFolder();
  await expectCode(() => writeCalibration(folder, { slope: 1, offset: 0 }), 'MOME_NOT_FOUND');
  await writeFile(join(folder, 'config.json'), JSON.stringify({ width: 8, fusionWeight: 0.5 }));
  await writeCalibration(folder, { slope: 0.5, offset: -1 });
  const written = { width: 8, fusionWeight: 0.5, matchCalibration: { slope: 0.5, offset: -1 } };
  expect(JSON.parse(await readFile(join(folder, 'config.json'), 'utf8'))).toEqual(written);
});
