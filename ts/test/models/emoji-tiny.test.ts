import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Vlmo } from '../../src/inference/index.ts';
import { packageRoot } from '../../src/runtime/addon.ts';
import { evaluateRetrieval } from '../../src/train/evaluate.ts';

const folder = join(packageRoot(), 'models', 'emoji-tiny');

describe('emoji-tiny', () => {
  it('is at most 16 MB', async () => {
    expect((await stat(join(folder, 'model.safetensors'))).size).toBeLessThanOrEqual(16e6);
  });

  it('gives the recall its card names, above the bounds', async () => {
    const scores = JSON.parse(await readFile(join(folder, 'scores.json'), 'utf8'));
    await using model = await Vlmo.load();
    const { n, dual } = await evaluateRetrieval({ model, k: 0 });
    expect(n).toBe(scores.n);
    for (const direction of ['textToImage', 'imageToText'] as const) {
      const recorded = scores.dual[direction];
      expect(dual[direction].r1).toBeCloseTo(recorded.r1, 2);
      expect(dual[direction].r10).toBeCloseTo(recorded.r10, 2);
      expect(recorded.r1).toBeGreaterThanOrEqual(0.3);
      expect(recorded.r10).toBeGreaterThanOrEqual(0.6);
    }
    for (const direction of ['textToImage', 'imageToText'] as const) {
      for (const at of ['r1', 'r5', 'r10'] as const)
        expect(scores.reranked[direction][at]).toBeGreaterThan(scores.dual[direction][at]);
    }
  });

  it.each([
    ['bfloat16', 0.999],
    ['int8', 0.99],
  ] as const)('keeps its embeddings and recall in %s', async (dtype, least) => {
    const { loadEmoji } = await import('../../src/train/data/emoji.ts');
    const drawings = loadEmoji({ style: 'noto' });
    const labels = drawings.map(({ label }) => label);
    const pictures = drawings.map(({ svg }) => Buffer.from(svg));
    await using exact = await Vlmo.load();
    await using rounded = await Vlmo.load(undefined, { dtype });
    for (const [a, b] of [
      [await exact.embedTexts(labels), await rounded.embedTexts(labels)],
      [await exact.embedImages(pictures), await rounded.embedImages(pictures)],
    ] as const) {
      let worst = 1;
      for (let row = 0; row < a.count; row++) {
        let cosine = 0;
        for (let i = row * a.width; i < (row + 1) * a.width; i++) cosine += a.embeddings[i]! * b.embeddings[i]!;
        worst = Math.min(worst, cosine);
      }
      expect(worst).toBeGreaterThanOrEqual(least);
    }
    const { dual } = await evaluateRetrieval({ model: rounded, k: 0 });
    const scores = JSON.parse(await readFile(join(folder, 'scores.json'), 'utf8'));
    for (const direction of ['textToImage', 'imageToText'] as const) {
      for (const at of ['r1', 'r5', 'r10'] as const)
        expect(Math.abs(dual[direction][at] - scores.dual[direction][at])).toBeLessThanOrEqual(0.005);
    }
  });

  it.each(['bfloat16', 'int8'] as const)(
    'keeps its recall after re-ranking in %s',
    { timeout: 300_000 },
    async (dtype) => {
      await using exact = await Vlmo.load();
      await using rounded = await Vlmo.load(undefined, { dtype });
      const expected = (await evaluateRetrieval({ model: exact, k: 4 })).reranked!;
      const actual = (await evaluateRetrieval({ model: rounded, k: 4 })).reranked!;
      for (const direction of ['textToImage', 'imageToText'] as const) {
        for (const at of ['r1', 'r5', 'r10'] as const)
          expect(Math.abs(actual[direction][at] - expected[direction][at])).toBeLessThanOrEqual(0.005);
      }
    },
  );

  it('is calibrated as its card says', async () => {
    const scores = JSON.parse(await readFile(join(folder, 'scores.json'), 'utf8'));
    await using model = await Vlmo.load();
    const { slope, offset, others } = scores.matchCalibration;
    expect(model.matchCalibration).toEqual({ slope, offset });
    expect(others.errorAfter).toBeLessThan(0.02);
    expect(others.errorAfter).toBeLessThan(others.errorBefore / 5);
  });

  it('tells matching captions from others', async () => {
    const { loadEmoji } = await import('../../src/train/data/emoji.ts');
    const drawings = loadEmoji({ style: 'noto' }).filter((_, i) => i % 40 === 0);
    await using model = await Vlmo.load();
    const right = await model.match(drawings.map(({ svg, label }) => ({ image: Buffer.from(svg), text: label })));
    const wrong = await model.match(
      drawings.map(({ svg }, i) => ({ image: Buffer.from(svg), text: drawings[(i + 7) % drawings.length]!.label })),
    );
    // The matching head was trained one in three, against look-alikes: its level says little, its order says much.
    const better = right.filter((score, i) => score > wrong[i]!).length / right.length;
    expect(better).toBeGreaterThan(0.8);
  });
});
