/** The augmentation of the original's tasks, and that of its first stage: what is drawn by chance. `image/transform.ts` does it to a picture. */
import type { PixelOperation } from '../../image/pixel-operations.ts';
import type { CropTry, PictureTransform } from '../../image/transform.ts';
import type { Random } from '../random.ts';

/** `original`: of all tasks. `beit`: of masked image modelling. */
export type NamedAugmentation = 'original' | 'beit';

const cropTries = 10;
const ratios = [3 / 4, 4 / 3] as const;
/** Smallest share of a picture's area that a crop takes; the largest is all of it. */
const smallestArea: Readonly<Record<NamedAugmentation, number>> = { original: 0.5, beit: 0.08 };
/** Operations of a picture, and the probability of each. */
const operationsEach = 2;
const operationChance = 0.5;
/** Strengths at magnitude 7 of 10. */
const factor = 1.36;
const slope = 0.21;
const pixels = 7;
const degrees = 21;
/** How far brightness, contrast and saturation go from 1. */
const jitter = 0.4;

/** One of the original's operations; undefined for the one that changes nothing. `sign` is 1 or -1. */
const operations: readonly ((sign: number) => PixelOperation | undefined)[] = [
  () => undefined,
  () => ({ name: 'autocontrast' }),
  () => ({ name: 'equalize' }),
  () => ({ name: 'brightness', factor }),
  () => ({ name: 'sharpness', factor }),
  (sign) => ({ name: 'shearX', slope: sign * slope }),
  (sign) => ({ name: 'shearY', slope: sign * slope }),
  (sign) => ({ name: 'translateX', pixels: sign * pixels }),
  (sign) => ({ name: 'translateY', pixels: sign * pixels }),
  (sign) => ({ name: 'rotate', degrees: sign * degrees }),
];

/**
 * Draws what is done to one picture.
 *
 * - `original`: a part of half the area or more, ratio 3/4 to 4/3; mirrored every second time; then two operations, each with a probability
 *   of a half.
 * - `beit`: brightness, contrast and saturation times 0.6 to 1.4 in any order; mirrored every second time; a part of 0.08 of the area or more.
 */
export function drawTransform(kind: NamedAugmentation, random: Random): PictureTransform {
  const [lowest, highest] = ratios.map(Math.log) as [number, number];
  const tries = Array.from(
    { length: cropTries },
    (): CropTry => ({
      area: random.uniform(smallestArea[kind], 1),
      ratio: Math.exp(random.uniform(lowest, highest)),
      x: random.uniform(),
      y: random.uniform(),
    }),
  );
  const crop = { tries, ratios };
  const flip = random.chance(0.5);
  if (kind === 'beit') return { before: drawJitter(random), flip, crop };
  const after: PixelOperation[] = [];
  for (let i = 0; i < operationsEach; i++) {
    const make = random.pick(operations);
    const sign = random.chance(0.5) ? 1 : -1;
    const operation = random.chance(operationChance) ? make(sign) : undefined;
    if (operation) after.push(operation);
  }
  return { crop, flip, after };
}

function drawJitter(random: Random): PixelOperation[] {
  return random
    .shuffle(['brightness', 'contrast', 'saturation'] as ('brightness' | 'contrast' | 'saturation')[])
    .map((name) => ({ name, factor: random.uniform(1 - jitter, 1 + jitter) }));
}
