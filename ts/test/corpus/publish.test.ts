import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { cardOf } from '../../../corpus/publish/card.mjs';
import { chosenOf, figuresOf, lossOf } from '../../../corpus/publish/choice.mjs';
import { keepRun, nextStage, objectivesOf, stagesOf, untrainedBy } from '../../../corpus/publish/stages.mjs';
import { temporaryFolder } from '../helpers.ts';

const recipeOf = (objectives: readonly string[], seed: number, vlBranch = false) => ({
  imageSize: 32,
  batchSize: 512,
  betas: [0.9, 0.98],
  weightDecay: 0.05,
  clipNorm: 1,
  seed,
  phases: [{ objectives, steps: 10, learningRate: 0.001, decay: 'cosine', vlBranch }],
});
let run = '';
beforeAll(async () => {
  run = await temporaryFolder();
  const stages = [
    ['1-images', recipeOf(['mim'], 7)],
    ['2-texts', recipeOf(['textmlm'], 8)],
    ['3-pairs', recipeOf(['itc'], 9)],
    ['10-fusion', recipeOf(['itc', 'itm'], 10)],
  ] as const;
  for (const [name, recipe] of stages) {
    await mkdir(join(run, name));
    await writeFile(join(run, name, 'run.json'), JSON.stringify({ recipe }));
    const lines = [{ step: 10 }, { step: 10, evaluation: { 'textToImage.r1': 0.125 } }];
    await writeFile(join(run, name, 'metrics.jsonl'), lines.map((line) => JSON.stringify(line)).join('\n'));
  }
});

describe('the stages of a run', () => {
  it('are those up to the one that is published, by number', () => {
    const names = (model: string) => stagesOf(model).map(({ name }: { name: string }) => name);
    expect(names(join(run, '10-fusion'))).toEqual(['images', 'texts', 'pairs', 'fusion']);
    expect(names(join(run, '3-pairs', 'best'))).toEqual(['images', 'texts', 'pairs']);
    expect(objectivesOf(stagesOf(join(run, '10-fusion')))).toEqual(['mim', 'textmlm', 'itc', 'itm']);
    expect(() => stagesOf(run)).toThrow('run.json');
  });

  it('go on with one that is numbered behind the last, and never with another run in its folder', async () => {
    expect(nextStage(join(run, '10-fusion'), 'scenes')).toBe(join(run, '11-scenes'));
    expect(nextStage(join(run, '3-pairs', 'best'), 'scenes')).toBe(join(run, '4-scenes'));
    expect(() => nextStage(run, 'scenes')).toThrow('--output');
    const folder = join(await temporaryFolder(), '11-scenes');
    const made = { recipe: recipeOf(['itc', 'vqa', 'nlvr2'], 11) };
    keepRun(folder, made);
    keepRun(folder, made);
    expect(() => keepRun(folder, { recipe: recipeOf(['itc'], 11) })).toThrow('another one');
    const omit = untrainedBy(stagesOf(folder));
    expect(['vqa_classifier.3.weight', 'nlvr2_classifier.0.weight', 'pooler.dense.weight'].some(omit)).toBe(false);
  });

  it('say which heads were never trained', () => {
    const omitted = (model: string) => {
      const omit = untrainedBy(stagesOf(model));
      return [
        'itc_text_proj.fc.weight',
        'itc_vl_text_proj.fc.weight',
        'logit_scale',
        'itm_score.fc.bias',
        'pooler.dense.weight',
        'mlm_score.decoder.weight',
        'mim_score.fc.weight',
        'vqa_classifier.3.weight',
        'transformer.blocks.5.mlp_vl.fc1.weight',
      ].filter(omit);
    };
    const always = ['mlm_score.decoder.weight', 'mim_score.fc.weight', 'vqa_classifier.3.weight'];
    expect(omitted(join(run, '10-fusion'))).toEqual(['itc_vl_text_proj.fc.weight', ...always]);
    expect(omitted(join(run, '3-pairs'))).toEqual([
      'itc_vl_text_proj.fc.weight',
      'itm_score.fc.bias',
      'pooler.dense.weight',
      ...always,
    ]);
  });
});

const rows = (dual: readonly number[], reranked: readonly number[] | null) => [
  {
    id: 'style',
    title: 'a style',
    count: '2 drawings',
    command: 'mome eval',
    metrics: { 'R@1': { dual, reranked, chance: 0.5 } },
  },
  { id: 'questions', title: 'questions', missing: 'the model has no head to answer' },
];

describe('the choice of a type', () => {
  it('takes what loses least within the limit', () => {
    expect(figuresOf(rows([0.5, 0.25], [0.75, 0.5]))).toEqual([0.5, 0.25, 0.75, 0.5]);
    expect(lossOf(rows([0.5, 0.25], null), rows([0.25, 0.25], null))).toBe(0.125);
    expect(() => lossOf(rows([0.5, 0.25], null), rows([0.25, 0.25], [1, 1]))).toThrow('as many figures');
    const candidates = [
      { dtype: 'bfloat16', bytes: 30, loss: 0 },
      { dtype: 'int8', bytes: 20, loss: 0.125 },
    ];
    expect(chosenOf(candidates, 24).dtype).toBe('int8');
    expect(chosenOf(candidates, 30).dtype).toBe('bfloat16');
    expect(chosenOf([candidates[0]!, { ...candidates[1]!, loss: 0 }], 30).dtype).toBe('int8');
    expect(() => chosenOf(candidates, 19)).toThrow('at most 19 bytes');
  });
});

describe('the card', () => {
  const made = () => ({
    test: undefined as unknown,
    name: 'drawings',
    config: {
      width: 256,
      layers: 6,
      heads: 8,
      firstVlLayer: 4,
      positions: 'absolute',
      imageSize: 32,
      patchSize: 8,
      maxTextLength: 32,
      vocabularySize: 8000,
    },
    corpus: {
      total: { train: 76217, 'validation/style': 470, 'validation/concepts': 3216, 'test/noto': 1653 },
      rows: 89518,
      dropped: { copies: 10940, heldOutCopies: 1960 },
    },
    stages: stagesOf(join(run, '10-fusion')),
    choice: {
      dtype: 'int8',
      bytes: 18.6e6,
      loss: 0.0025,
      candidates: [{ dtype: 'int8', bytes: 18.6e6, loss: 0.0025 }],
    },
    validation: { rows: rows([0.5, 0.25], [0.625, 0.5]) },
    fits: {
      fusionWeight: { weight: 0.35, fitted: { dual: 0.5, reranked: 0.6 }, others: { dual: 0.4, reranked: 0.5 } },
      matchCalibration: {
        slope: 0.7,
        offset: -1.5,
        pairs: 4700,
        share: 0.08,
        others: { errorBefore: 0.1, errorAfter: 0.01 },
      },
    },
  });

  it('has data, recipe, seeds, figures and limits, and says that the test split was not measured', () => {
    const card = cardOf(made());
    for (const part of [
      '76,217 training drawings in 89,518 rows',
      '18.6 MB, matrices of the blocks in 8 bits',
      '| fusion | 32 px | itc + itm | 10 | 512 | 0.001, cosine | - | 0 | - | 10 |',
      '| a style | 2 drawings | R@1 | 0.500, 0.250 | 0.625, 0.500 |',
      'log-odds count 0.35',
      'log-odds times 0.70 minus 1.50',
      '| int8 | 18.6 MB | -0.25 |',
      'The test split was not measured yet.',
      'No head for masked words beside a picture, questions, statements about two pictures.',
      '12,900 near-copies were left out',
    ])
      expect(card).toContain(part);
    expect(card).not.toMatch(/undefined|NaN/);
  });

  it('has the figures of the test split once there are some', () => {
    const card = cardOf({ ...made(), test: { rows: rows([0.75, 0.625], null) } });
    expect(card).toContain('0.750, 0.625');
    expect(card).not.toContain('not measured yet');
  });
});
