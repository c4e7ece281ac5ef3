import { describe, expect, it } from 'vitest';
import { arms, chainOf, spreadOf, tableOf } from '../../../corpus/study/arms.mjs';
import { parseChain, recipeConfig } from '../../src/train/recipe.ts';

const data = { pairs: 'pairs.arrow', texts: 'texts.txt', vocabulary: 'vocab.txt' };
const names = Object.keys(arms) as (keyof typeof arms)[];
const stagesOf = (name: string, seed = 1, scale = 1) => parseChain(chainOf(name as never, data, seed, scale));
const stepsOf = (name: string) =>
  stagesOf(name).map(({ recipe }) => recipe.phases.reduce((sum, { steps }) => sum + steps!, 0));

describe('the arms of the study', () => {
  it('are chains that mome train takes, ending with pairs', () => {
    for (const name of names) {
      const stages = stagesOf(name);
      expect(stages.at(-1)!.recipe.data, name).toHaveProperty('pairs');
      for (const { recipe } of stages) expect(() => recipeConfig(recipe, 2000), name).not.toThrow();
    }
  });

  it('differ from the stagewise one in what they say', () => {
    expect(stepsOf('stagewise')).toEqual([400, 600, 900]);
    expect(stepsOf('scratch')).toEqual([900]);
    expect(stepsOf('attention-learns')).toEqual(stepsOf('stagewise'));
    const trainable = (name: string) => stagesOf(name)[1]!.recipe.phases[0]!.trainable;
    expect(trainable('stagewise')).not.toContain('attn');
    expect(trainable('attention-learns')).toBeUndefined();
    const objectives = (name: string) => stagesOf(name).at(-1)!.recipe.phases[0]!.objectives;
    expect(objectives('itc')).toEqual(['itc']);
    expect(objectives('itc-itm')).toEqual(['itc', 'itm']);
    const vlLayers = (name: string) => {
      const { firstVlLayer, layers } = recipeConfig(stagesOf(name).at(-1)!.recipe, 2000);
      return layers - firstVlLayer;
    };
    expect([vlLayers('stagewise'), vlLayers('no-vl-experts')]).toEqual([2, 0]);
    const shares = (name: string) => stagesOf(name).map(({ recipe }) => recipeConfig(recipe, 2000).sharedFfn ?? false);
    expect([shares('stagewise'), shares('shared-ffn')]).toEqual([Array(3).fill(false), Array(3).fill(true)]);
    expect(trainable('shared-ffn')).toContain('|mlp_shared|norm2_shared|');
    expect(trainable('shared-ffn')).toContain('text_embeddings|token_type_embeddings|');
  });

  it('have a seed for each stage and each run', () => {
    const seeds = [1, 2, 3].flatMap((seed) => stagesOf('stagewise', seed).map(({ recipe }) => recipe.seed));
    expect(new Set(seeds).size).toBe(9);
  });

  it('are reported with their spread', () => {
    expect(spreadOf([0.1, 0.3, 0.2])).toEqual({ mean: expect.closeTo(0.2, 12), least: 0.1, most: 0.3, count: 3 });
    const result = (arm: string, seed: number, dualR1: number, rerankedR1: number | null) => ({
      arm,
      seed,
      dualR1,
      rerankedR1,
    });
    const rows = tableOf([
      result('itc', 1, 0.25, null),
      result('scratch', 1, 0.1, 0.2),
      result('scratch', 2, 0.3, 0.3),
    ]).split('\n');
    expect(rows).toHaveLength(5);
    expect(rows[2]).toContain('| scratch: pairs alone | 2 | 0.200 (0.100 to 0.300) | - | 0.250 (0.200 to 0.300) |');
    expect(rows[3]).toMatch(/^\| itc: .* \| 1 \| 0\.250 \(0\.250 to 0\.250\) \| - \| - \|/);
  });
});
