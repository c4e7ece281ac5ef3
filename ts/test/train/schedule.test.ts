import { describe, expect, it } from 'vitest';
import { parameterShapes } from '../../src/architecture/parameters.ts';
import { maskWords } from '../../src/train/masking.ts';
import { drawHardNegatives } from '../../src/train/mining.ts';
import { createRandom } from '../../src/train/random.ts';
import { rankAll, recall, rerankAll } from '../../src/train/retrieval.ts';
import { decays, learningRateAt, parameterGroups } from '../../src/train/schedule.ts';
import { expectCode } from '../helpers.ts';
import { tinyConfig } from './tiny-model.ts';

describe('learningRateAt', () => {
  const schedule = { learningRate: 1, totalSteps: 10, warmupSteps: 4, decay: 'polynomial', decayPower: 1 } as const;
  it('warms up from 0 and decays to the end', () => {
    expect([0, 2, 4, 7, 10, 20].map((step) => learningRateAt(schedule, step))).toEqual([0, 0.5, 1, 0.5, 0, 0]);
    expect(learningRateAt({ ...schedule, decay: 'cosine' }, 7)).toBeCloseTo(0.5, 12);
    expect(learningRateAt({ ...schedule, decay: 'constant' }, 9)).toBe(1);
    expect(learningRateAt({ ...schedule, endLearningRate: 0.2 }, 10)).toBe(0.2);
  });
  it('takes a warm-up below 1 as a share of the steps, rounded down', () => {
    for (const step of [0, 1, 3, 7])
      expect(learningRateAt({ ...schedule, warmupSteps: 0.49 }, step)).toBe(learningRateAt(schedule, step));
  });
  it('refuses a warm-up longer than the run', () =>
    expectCode(() => learningRateAt({ ...schedule, warmupSteps: 11 }, 0), 'MOME_INVALID_ARGUMENT'));
});

it('decays what the original recipe decays', () => {
  expect(decays('transformer.blocks.0.norm2_text.weight')).toBe(true);
  expect(decays('transformer.blocks.0.attn.qkv.weight')).toBe(true);
  expect(decays('relative_position_bias_table')).toBe(false);
  expect(decays('transformer.blocks.0.norm1.weight')).toBe(false);
  expect(decays('text_embeddings.LayerNorm.weight')).toBe(false);
});

it('groups parameters by decay, and the heads of answers and statements by their rate', () => {
  const names = [
    'vqa_classifier.3.weight',
    'vqa_classifier.3.bias',
    'nlvr2_classifier.1.weight',
    'itm_score.fc.weight',
    'itm_score.fc.bias',
  ];
  expect(parameterGroups(names, 0.1)).toEqual([
    { names: [names[0], names[2], names[3]], weightDecay: 0.1, learningRateScale: 1 },
    { names: [names[1], names[4]], weightDecay: 0, learningRateScale: 1 },
  ]);
  expect(parameterGroups(names, 0.1, { headRate: 20 })).toEqual([
    { names: [names[3]], weightDecay: 0.1, learningRateScale: 1 },
    { names: [names[0], names[2]], weightDecay: 0.1, learningRateScale: 20 },
    { names: [names[4]], weightDecay: 0, learningRateScale: 1 },
    { names: [names[1]], weightDecay: 0, learningRateScale: 20 },
  ]);
});

it('decays what BEiT decays: no vectors, positions or CLS token, but the table of positions', () => {
  const shapes = parameterShapes({ ...tinyConfig, positions: 'relative', layerScale: 0.1 });
  const [decayed, others] = parameterGroups(shapes.keys(), 0.1, { rule: 'beit', shapes });
  expect(decayed!.names).toContain('relative_position_bias_table');
  expect(decayed!.names).toContain('transformer.blocks.0.attn.qkv.weight');
  for (const name of [
    'transformer.cls_token',
    'transformer.blocks.0.gamma_1',
    'transformer.blocks.0.norm2_text.weight',
  ])
    expect(others!.names).toContain(name);
  expect(others!.names.every((name) => name === 'transformer.cls_token' || shapes.get(name)!.length < 2)).toBe(true);
  const absolute = parameterShapes(tinyConfig);
  const groups = parameterGroups(absolute.keys(), 0.1, { rule: 'beit', shapes: absolute });
  expect(groups[1]!.names).toContain('transformer.pos_embed');
});

describe('maskWords', () => {
  const vocabulary = {
    vocabularySize: 100,
    maskId: 4,
    isSpecial: (id: number) => id < 5,
    isContinuation: (id: number) => id >= 90,
  };
  it('masks whole words, never special pieces, and remembers what stood there', () => {
    const text = Int32Array.of(2, 10, 91, 92, 20, 30, 95, 3);
    for (let seed = 0; seed < 50; seed++) {
      const { ids, positions, labels } = maskWords(text, vocabulary, createRandom(seed), 0.4);
      expect(positions.length).toBeGreaterThan(0);
      const chosen = new Set(positions);
      expect(chosen.has(1)).toBe(chosen.has(2) && chosen.has(3));
      expect(chosen.has(5)).toBe(chosen.has(6));
      expect([...labels]).toEqual([...positions].map((position) => text[position]));
      for (const [i, id] of ids.entries()) if (!chosen.has(i)) expect(id).toBe(text[i]);
      expect(chosen.has(0) || chosen.has(7)).toBe(false);
    }
  });
});

describe('drawHardNegatives', () => {
  it('prefers what is similar and never draws a match', () => {
    const rows = 6;
    const similarity = new Float32Array(rows * rows);
    for (let i = 0; i < rows; i++) similarity[i * rows + ((i + 1) % rows)] = 20;
    const group = Int32Array.of(0, 1, 2, 3, 4, 0);
    const random = createRandom(1);
    for (let round = 0; round < 20; round++) {
      const { image, text } = drawHardNegatives(similarity, rows, rows, random, group);
      for (let i = 0; i < rows; i++) {
        expect(group[image[i]!]).not.toBe(group[i]);
        expect(group[text[i]!]).not.toBe(group[i]);
        if (i < 4) expect(text[i]).toBe(i + 1);
      }
    }
  });
});

it('draws negatives evenly when told to', () => {
  const rows = 8;
  const similarity = new Float32Array(rows * rows);
  for (let i = 0; i < rows; i++) similarity[i * rows + ((i + 1) % rows)] = 50;
  const random = createRandom(2);
  const seen = new Set<number>();
  for (let round = 0; round < 60; round++)
    seen.add(drawHardNegatives(similarity, rows, 1, random, undefined, 0).text[0]!);
  expect(seen.size).toBe(rows - 1);
});

describe('recall', () => {
  it('counts hits at 1, 5 and 10', () => {
    const rankings = [
      Int32Array.of(0, 9),
      Int32Array.of(9, 8, 7, 1),
      Int32Array.of(9, 8, 7, 6, 5, 4, 2),
      Int32Array.of(9),
    ];
    expect(recall(rankings, (query, candidate) => query === candidate)).toEqual({ r1: 0.25, r5: 0.5, r10: 0.75 });
  });
  it('ranks by dot product, ties by index, and re-ranks the front', async () => {
    const items = Float32Array.of(1, 0, 0, 1, 1, 0);
    const { rankings, scores } = await rankAll(Float32Array.of(1, 0), items, 2, 3);
    expect(scores.map((each) => [...each])).toEqual([[1, 1, 0]]);
    await expectCode(() => rankAll(Float32Array.of(1), items, 2, 3), 'MOME_INVALID_SHAPE');
    expect(rankings.map((each) => [...each])).toEqual([[0, 2, 1]]);
    expect(rerankAll(rankings, [Float32Array.of(0.1, 0.9)]).map((each) => [...each])).toEqual([[2, 0, 1]]);
  });
});
