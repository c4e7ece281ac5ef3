import { execFile, spawnSync } from 'node:child_process';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import { presets } from '../../src/architecture/config.ts';
import { openSafetensors, readTensor } from '../../src/checkpoint/index.ts';
import { MomeError } from '../../src/runtime/errors.ts';
import { namedRecipe, recipeNames } from '../../src/train/named-recipes.ts';
import { mpiInfo } from '../../src/train/process-group-mpi.ts';
import { parseChain, parseRecipe } from '../../src/train/recipe.ts';
import { type RunOptions, runTraining } from '../../src/train/run.ts';
import type { StartPlan } from '../../src/train/start-plan.ts';
import { expectCode, temporaryFolder } from '../helpers.ts';
import { writeSquares } from './squares.ts';
import { tinyRecipeModel } from './tiny-model.ts';

const { answers: _, ...model } = { ...tinyRecipeModel, positions: 'relative', layerScale: 0.1 };
const chain = {
  model: { ...model, answers: 3 },
  vocabulary: { size: 60 },
  augment: 'none',
  data: { pairs: 'pairs.jsonl' },
  batchSize: 4,
  stages: [
    { recipe: 'text', phase: { steps: 3, learningRate: 1e-2, warmupSteps: 0 } },
    { recipe: 'pairs', name: 'both', phase: { steps: 4, learningRate: 1e-2, warmupSteps: 0 } },
  ],
};

const hasMpi = mpiInfo().library !== null && spawnSync('mpirun', ['--version']).status === 0;

let folder: string;
beforeAll(async () => {
  folder = await temporaryFolder();
  await writeSquares(folder);
});

let runs = 0;
function runner() {
  const output = join(folder, `run-${runs++}`);
  const run = (recipe: object, options: Partial<RunOptions> = {}) =>
    runTraining(recipe, { output, folder, quiet: true, ...options });
  return { output, run };
}
const tensors = async (path: string) => {
  const { entries } = await openSafetensors(path);
  return new Map(
    await Promise.all([...entries].map(async ([name, entry]) => [name, await readTensor(entry)] as const)),
  );
};
const metricsOf = async (output: string): Promise<Record<string, unknown>[]> =>
  (await readFile(join(output, 'metrics.jsonl'), 'utf8'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

describe('the vocabulary of a chain', () => {
  it('is that of the chain that goes on', async () => {
    const { run } = runner();
    await run(chain);
    const other = { ...chain, vocabulary: { size: 50 } };
    const error = await expectCode(() => run(other, { resume: true }), 'MOME_INVALID_ARGUMENT');
    expect(error.message).toMatch(/vocabulary\.size \(60, now 50\)/);
    await run(chain, { resume: true });
  });

  it('is not learned to the end when the run is stopped', async () => {
    const { output, run } = runner();
    await expectCode(() => run(chain, { signal: AbortSignal.abort() }), 'MOME_ABORTED');
    expect(await readdir(output)).not.toContain('vocab.txt');
  });
});

describe('named recipes', () => {
  it('are whole for every size, with the rates of the original', () => {
    const data = { texts: 'texts.txt' };
    for (const name of recipeNames)
      for (const size of Object.keys(presets) as (keyof typeof presets)[]) {
        const { phases, preset } = parseRecipe({ ...namedRecipe(name, size), model: size, data });
        expect(preset).toBe('original');
        expect(phases.length).toBe(1);
      }
    const rate = (name: 'pairs' | 'vqa', size: keyof typeof presets) =>
      parseRecipe({ recipe: name, model: size, data }).phases[0]!.learningRate;
    expect(['base', 'base_plus', 'large'].map((size) => rate('pairs', size as 'base'))).toEqual([2e-4, 1e-4, 5e-5]);
    expect(rate('vqa', 'large')).toBe(1.5e-5);
  });

  it('give way to fields of their own, one by one', () => {
    const own = { recipe: 'vqa', model: 'base', data: { texts: 'a' }, batchSize: 7, phase: { steps: 3 } };
    const { batchSize, headRate, phases, imageSize } = parseRecipe(own);
    expect({ batchSize, headRate, imageSize }).toEqual({ batchSize: 7, headRate: 20, imageSize: 480 });
    expect(phases).toEqual([expect.objectContaining({ steps: 3, learningRate: 3e-5, warmupSteps: 0.1 })]);
    expect(phases[0]).not.toHaveProperty('epochs');
    // Sizes of one's own are the sizes of the run.
    expect(parseRecipe({ ...own, model }).imageSize).toBe(undefined);
    for (const wrong of [
      { ...own, recipe: 'chess' },
      { ...own, phase: 3 },
      { ...own, phases: [] },
    ])
      expect(() => parseRecipe(wrong)).toThrow(/recipe/);
  });
});

describe('a chain', () => {
  it('hands float32 weights on, and starts what a stage does not have fresh', async () => {
    const { output, run } = runner();
    const plans: [string | undefined, StartPlan][] = [];
    const { steps, output: last } = await run(chain, { onStart: (plan, stage) => plans.push([stage, plan]) });
    expect(steps).toBe(7);
    expect(last).toBe(join(output, '2-both'));
    expect(plans.map(([stage]) => stage)).toEqual(['1-text', '2-both']);
    const [first, second] = plans.map(([, plan]) => plan);
    const row = (plan: StartPlan, part: string) => plan.rows.filter((each) => each.part === part);
    expect(row(first!, 'attention').map(({ learning }) => learning)).toEqual(['frozen']);
    expect(row(first!, 'text experts')).toMatchObject([{ learning: 'trained', from: 'fresh' }]);
    expect(row(second!, 'text experts')).toMatchObject([{ learning: 'trained', from: 'checkpoint' }]);
    expect(row(second!, 'vision-language experts')).toMatchObject([{ learning: 'trained', from: 'fresh' }]);
    // A head that no stage trained is not written, so that nobody takes its answers for answers.
    const text = await tensors(join(output, '1-text', 'model.safetensors'));
    expect([...text.keys()].filter((name) => /^(?:vqa|nlvr2|itm|itc)_/.test(name))).toEqual([]);
    expect(text.has('mlm_score.bias')).toBe(true);
    // The second stage starts from just these values: its first checkpoint at rate 0 has them.
    const still = {
      ...chain,
      stages: [chain.stages[0], { ...chain.stages[1], phase: { steps: 1, learningRate: 1e-2, warmupSteps: 1 } }],
    };
    const other = runner();
    await other.run(still);
    const started = await tensors(join(other.output, '2-both', 'checkpoint-0-1.safetensors'));
    for (const [name, values] of text) expect(started.get(`param/${name}`)).toEqual(values);
    expect(await readFile(join(output, 'report.html'), 'utf8')).toMatch(/1-text[\s\S]*2-both/);
  });

  it('writes to a folder that is named from elsewhere than its recipe', async () => {
    const file = join(folder, 'chain.json');
    await writeFile(file, JSON.stringify(chain));
    const output = relative('.', join(folder, 'elsewhere'));
    expect((await runTraining(file, { output, quiet: true })).steps).toBe(7);
  });

  it('keeps what a stage does not train to the last bit', async () => {
    const { output, run } = runner();
    const twice = {
      ...chain,
      stages: [{ ...chain.stages[0], phase: { steps: 1, learningRate: 1e-2, warmupSteps: 0 } }, chain.stages[0]],
    };
    await run({ ...twice, stages: twice.stages.map((stage, i) => ({ ...stage, name: `s${i}` })) });
    const [before, after] = await Promise.all(
      ['1-s0', '2-s1'].map((name) => tensors(join(output, name, 'model.safetensors'))),
    );
    const same = (name: string) => expect(after!.get(name)).toEqual(before!.get(name));
    const changed = [...after!.keys()].filter(
      (name) => JSON.stringify(after!.get(name)) !== JSON.stringify(before!.get(name)),
    );
    for (const name of ['transformer.blocks.0.attn.qkv.weight', 'transformer.patch_embed.proj.weight']) same(name);
    expect(changed.every((name) => /text|mlm_score|position|transformer\.norm|token_type/.test(name))).toBe(true);
    expect(changed).toContain('transformer.blocks.0.mlp_text.fc1.weight');
  });

  it('goes on where it stopped, and refuses another chain or an older one', async () => {
    const { output, run } = runner();
    await run(chain);
    const whole = await tensors(join(output, '2-both', 'model.safetensors'));
    await expectCode(() => run(chain), 'MOME_INVALID_ARGUMENT');
    const vocabulary = await readFile(join(output, 'vocab.txt'), 'utf8');
    await expectCode(() => run({ ...chain, vocabulary: { size: 50 } }), 'MOME_INVALID_ARGUMENT');
    expect(await readFile(join(output, 'vocab.txt'), 'utf8')).toBe(vocabulary);
    // As if the second stage had been killed before its first checkpoint.
    for (const name of await readdir(join(output, '2-both')))
      if (/checkpoint|model/.test(name)) await rm(join(output, '2-both', name));
    expect((await run(chain, { resume: true })).steps).toBe(7);
    expect(await tensors(join(output, '2-both', 'model.safetensors'))).toEqual(whole);
    expect((await metricsOf(join(output, '2-both'))).map(({ step }) => step)).toEqual([1, 2, 3, 4]);
    const [text, pairs] = chain.stages;
    const longer = { ...chain, stages: [text, { ...pairs, phase: { ...pairs!.phase, steps: 5 } }] };
    await expectCode(() => run(longer, { resume: true }), 'MOME_INVALID_ARGUMENT');
  });

  it.skipIf(!hasMpi)('is trained by two processes as by one, and one of them writes', { timeout: 60_000 }, async () => {
    const stage = { ...chain.stages[1], phase: { steps: 4, learningRate: 1e-3, warmupSteps: 0 } };
    const own = { ...chain, dropPath: 0.1, textDropout: 0, threads: 1, stages: [stage] };
    await writeFile(join(folder, 'chain.json'), JSON.stringify(own));
    const { output, run } = runner();
    await run(own);
    const both = join(folder, 'both');
    const flags = ['--allow-run-as-root', '--oversubscribe', '-n', '2', process.execPath, 'dist/cli.mjs', 'train'];
    const args = [...flags, join(folder, 'chain.json'), '-o', both, '--quiet', '--json'];
    const { stdout } = await promisify(execFile)('mpirun', args);
    expect(JSON.parse(stdout).steps).toBe(4);
    const [one, two] = await Promise.all([output, both].map((each) => metricsOf(join(each, '1-both'))));
    expect(two!.length).toBe(4);
    for (const [i, { loss }] of one!.entries())
      expect(Math.abs((two![i]!.loss as number) - (loss as number)) / (loss as number)).toBeLessThan(1e-6);
    // Another seed is another run: the bound notices it.
    const other = runner();
    await other.run({ ...own, seed: 2 });
    const [last] = (await metricsOf(join(other.output, '1-both'))).slice(-1);
    expect(Math.abs((last!.loss as number) - (one!.at(-1)!.loss as number))).toBeGreaterThan(1e-3);
  });

  it('looks for the data of all its stages before its first step, and before it removes an older run', async () => {
    const { output, run } = runner();
    const [text, pairs] = chain.stages;
    const wrong = { ...chain, stages: [text, { ...pairs, data: { pairs: 'nowhere.jsonl' } }] };
    await expectCode(() => run(wrong), 'MOME_NOT_FOUND');
    expect(await readdir(output)).toEqual([]);
    await run(chain);
    const before = await readdir(output, { recursive: true });
    await expectCode(() => run(wrong, { overwrite: true }), 'MOME_NOT_FOUND');
    const unmeasured = { ...chain, stages: [text, { ...pairs, evaluation: { pairs: 'nowhere.jsonl' } }] };
    await expectCode(() => run(unmeasured, { overwrite: true }), 'MOME_NOT_FOUND');
    expect(await readdir(output, { recursive: true })).toEqual(before);
  });

  it('learns its vocabulary anew where one was left by a chain that never began', async () => {
    const { output, run } = runner();
    await mkdir(output);
    await writeFile(join(output, 'vocab.txt'), '[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nleft\n');
    await run(chain, { resume: true });
    expect(await readFile(join(output, 'vocab.txt'), 'utf8')).not.toMatch(/left/);
  });

  it('is refused where it makes no sense', () => {
    for (const stages of [
      [],
      3,
      [null],
      [{ ...chain.stages[0], name: '../up' }],
      [chain.stages[0], { ...chain.stages[1], init: 'a' }],
    ])
      expect(() => parseChain({ ...chain, stages })).toThrow(/stage/);
  });
});

describe('a run', () => {
  const recipe = {
    model: tinyRecipeModel,
    vocabulary: { size: 60 },
    data: { pairs: 'pairs.jsonl' },
    batchSize: 2,
    phases: [{ objectives: ['irtr'], steps: 6, learningRate: 1e-3, decay: 'constant' }],
    dtype: 'float32',
  };

  it('counts epochs, and keeps as many checkpoints as it is told', async () => {
    const { output, run } = runner();
    const phases = [{ objectives: ['irtr'], epochs: 3, learningRate: 1e-3 }];
    expect((await run({ ...recipe, phases, checkpointEvery: 1, keepCheckpoints: 2 })).steps).toBe(6);
    const names = (await readdir(output)).filter((name) => name.startsWith('checkpoint'));
    expect(names.sort()).toEqual(['checkpoint-0-5.safetensors', 'checkpoint-0-6.safetensors']);
    for (const length of [{}, { steps: 1, epochs: 1 }])
      expect(() => parseRecipe({ ...recipe, phases: [{ ...phases[0], epochs: undefined, ...length }] })).toThrow(
        /either/,
      );
  });

  it('writes the moving average of its weights, and resumes it to the last bit', async () => {
    const { output, run } = runner();
    const averaged = { ...recipe, movingAverage: 0.5, checkpointEvery: 1, keepCheckpoints: 6 };
    await run(averaged);
    const whole = await tensors(join(output, 'model.safetensors'));
    const state = await tensors(join(output, 'checkpoint-0-6.safetensors'));
    const name = 'transformer.blocks.0.attn.qkv.weight';
    expect(whole.get(name)).toEqual(state.get(`average/${name}`));
    expect(whole.get(name)).not.toEqual(state.get(`param/${name}`));
    // By hand from the weights of each step, from the average behind the first one on.
    const steps = await Promise.all(
      [1, 2, 3, 4, 5, 6].map((step) => tensors(join(output, `checkpoint-0-${step}.safetensors`))),
    );
    let average = [...steps[0]!.get(`average/${name}`)!];
    for (const [before, step] of steps.slice(1).entries()) {
      const keep = Math.min(0.5, (2 + before) / (11 + before));
      const weights = step.get(`param/${name}`)!;
      average = average.map((value, i) => keep * value + (1 - keep) * weights[i]!);
    }
    const largest = Math.max(...average.map(Math.abs));
    for (const [i, value] of average.entries())
      expect(Math.abs(whole.get(name)![i]! - value)).toBeLessThan(3e-7 * largest);
    const other = runner();
    let step = 0;
    const stop = new AbortController();
    const onEvaluate = async () => {
      if (++step === 4) stop.abort();
      return { score: step };
    };
    await expectCode(
      () => other.run({ ...averaged, evaluateEvery: 1 }, { onEvaluate, signal: stop.signal }),
      'MOME_ABORTED',
    );
    await other.run({ ...averaged, evaluateEvery: 1 }, { onEvaluate, resume: true });
    expect(await tensors(join(other.output, 'model.safetensors'))).toEqual(whole);
  });

  it('keeps the model that was best in an evaluation, also one of before it was stopped', async () => {
    const { output, run } = runner();
    const scores = [1, 5, 2];
    const stop = new AbortController();
    const onEvaluate = async (_: string, step: number) => {
      if (step === 6) stop.abort();
      return { score: scores[step / 2 - 1]!, other: 9 };
    };
    const evaluated = { ...recipe, evaluateEvery: 2, checkpointEvery: 1, phases: [{ ...recipe.phases[0], steps: 8 }] };
    await expectCode(() => run(evaluated, { onEvaluate, signal: stop.signal }), 'MOME_ABORTED');
    const best = await tensors(join(output, 'best', 'model.safetensors'));
    await run(evaluated, { resume: true, onEvaluate: async () => ({ score: 4 }) });
    expect(await tensors(join(output, 'best', 'model.safetensors'))).toEqual(best);
    const lines = await metricsOf(output);
    expect(lines.filter(({ best }) => best).map(({ step }) => step)).toEqual([2, 4]);
    // A better one takes its place.
    await run(evaluated, { overwrite: true, onEvaluate: async (_, step) => ({ score: step }) });
    const last = await tensors(join(output, 'best', 'model.safetensors'));
    expect(last).toEqual(await tensors(join(output, 'model.safetensors')));
  });

  it('makes up for an evaluation in which it was stopped', async () => {
    const { output, run } = runner();
    const steps = recipe.phases[0]!.steps;
    const stopped = async () => {
      throw new MomeError('MOME_ABORTED', 'stopped');
    };
    await expectCode(() => run(recipe, { onEvaluate: stopped }), 'MOME_ABORTED');
    const seen: number[] = [];
    const onEvaluate = async (_: string, step: number) => ({ score: seen.push(step) });
    await run(recipe, { resume: true, onEvaluate });
    await run(recipe, { resume: true, onEvaluate });
    expect(seen).toEqual([steps]);
    expect(await readdir(output)).toContain('best');
  });

  it('is refused on data that lack what its objectives read', async () => {
    for (const objective of ['nlvr2', 'vqa']) {
      const phases = [{ objectives: [objective], steps: 1, learningRate: 1e-3 }];
      const { message } = await expectCode(() => runner().run({ ...recipe, phases }), 'MOME_INVALID_CONFIG');
      expect(message).toMatch(new RegExp(`data.*"${objective}"`));
    }
  });

  it('learns from pictures alone without a vocabulary, and takes a patch tokenizer of its own sizes only', async () => {
    const phases = [{ objectives: ['mim'], steps: 2, learningRate: 1e-3 }];
    const { vocabulary: _, ...rest } = recipe;
    const pictures = { ...rest, phases, visualTokens: 3, augment: 'none' };
    const { output, run } = runner();
    await run(pictures);
    const patchTokenizer = join(output, 'patch-tokenizer.safetensors');
    expect((await runner().run({ ...pictures, patchTokenizer })).steps).toBe(2);
    await expectCode(() => runner().run({ ...pictures, patchTokenizer, visualTokens: 2 }), 'MOME_INVALID_CONFIG');
  });

  it('ends on gradients that are not finite and names the batch', async () => {
    const { run } = runner();
    const phases = [{ ...recipe.phases[0], learningRate: 1e30 }];
    const error = await expectCode(() => run({ ...recipe, phases, maxNonFiniteSteps: 2 }), 'MOME_NON_FINITE');
    expect(error.message).toMatch(/2 times in a row; the last batch, of step \d, has .*pairs\.jsonl:\d/);
  });

  it('reports curves that need no network', async () => {
    const { output, run } = runner();
    await run({ ...recipe, phases: [{ ...recipe.phases[0], objectives: ['itc', 'itm'] }] });
    const html = await readFile(join(output, 'report.html'), 'utf8');
    expect(html).not.toMatch(/<(?:script|link)[^>]*(?:src|href)=/);
    const data = JSON.parse(/<script type="application\/json" id="charts">(.*?)<\/script>/s.exec(html)![1]!);
    const [loss] = data;
    expect(loss.names).toEqual(['loss', 'itc', 'itm']);
    const lines = await metricsOf(output);
    expect(loss.data[0]).toEqual([1, 2, 3, 4, 5, 6]);
    expect(loss.data[1]).toEqual(lines.map((line) => Number((line.loss as number).toPrecision(6))));
  });
});
