import { copyFile, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { openSafetensors } from '../../src/checkpoint/index.ts';
import { openPairs } from '../../src/train/data/open-pairs.ts';
import { everyCaption } from '../../src/train/data/pairs.ts';
import { originalSettings, parseRecipe } from '../../src/train/recipe.ts';
import { runTraining } from '../../src/train/run.ts';
import { expectCode, temporaryFolder } from '../helpers.ts';
import { writeSquares } from './squares.ts';
import { tinyRecipeModel } from './tiny-model.ts';

const recipe = {
  model: tinyRecipeModel,
  vocabulary: { size: 60 },
  data: { pairs: 'pairs.jsonl' },
  batchSize: 2,
  phases: [{ objectives: ['irtr'], steps: 2, learningRate: 1e-3 }],
  checkpointEvery: 1,
};

let folder: string;
beforeAll(async () => {
  folder = await temporaryFolder();
  await writeSquares(folder);
});

let runs = 0;
/** A new folder for a run, and what runs a recipe in it. */
function runner() {
  const output = join(folder, `run-${runs++}`);
  const run = async (own: object = recipe, options = {}) => {
    await writeFile(join(folder, 'recipe.json'), JSON.stringify(own));
    return runTraining(join(folder, 'recipe.json'), { output, quiet: true, ...options });
  };
  return { output, run };
}
const message = (work: () => Promise<unknown>) =>
  work().then(
    () => 'no error',
    (error: Error) => error.message,
  );

describe('a folder with an older run', () => {
  it('is refused to a new run, unless that is to overwrite it', async () => {
    const { output, run } = runner();
    await run();
    await expectCode(() => run(), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => run({ ...recipe, seed: 5 }), 'MOME_INVALID_ARGUMENT');
    const before = await readFile(join(output, 'model.safetensors'));
    // Words that the older vocabulary lacks are learned anew, and the metrics begin anew.
    await run({ ...recipe, seed: 5, vocabulary: { size: 50 } }, { overwrite: true });
    expect((await readFile(join(output, 'model.safetensors'))).equals(before)).toBe(false);
    const metrics = (await readFile(join(output, 'metrics.jsonl'), 'utf8')).trim().split('\n');
    expect(metrics.length).toBe(2);
    await expectCode(() => run(recipe, { overwrite: true, resume: true }), 'MOME_INVALID_ARGUMENT');
  });

  it('stays whole where the run that is to overwrite it cannot begin', async () => {
    const { output, run } = runner();
    await run();
    const before = await readdir(output);
    for (const wrong of [{ data: { pairs: 'none.jsonl' } }, { evaluation: { pairs: 'none.jsonl' } }])
      await expectCode(() => run({ ...recipe, ...wrong }, { overwrite: true }), 'MOME_NOT_FOUND');
    expect(await readdir(output)).toEqual(before);
  });

  it('stays whole where no head of the new run could be measured', async () => {
    const { output, run } = runner();
    await run();
    const before = await readdir(output);
    // The heads of answers and statements are there, and nobody trains them.
    const files = { images: '.', annotations: 'recipe.json' };
    for (const evaluation of [
      { ...files, questions: 'recipe.json' },
      { images: '.', statements: 'recipe.json' },
    ]) {
      const error = await expectCode(() => run({ ...recipe, evaluation }, { overwrite: true }), 'MOME_INVALID_CONFIG');
      expect(error.message).toMatch(/evaluation: expected data for a head that the run trains/);
    }
    expect(await readdir(output)).toEqual(before);
  });

  it('stays whole where the model has another number of answers than the list', async () => {
    const { output, run } = runner();
    await run();
    const before = await readdir(output);
    const questions = ['red', 'green'].map((answer, id) => ({
      image_id: id,
      question_id: id,
      question: 'what?',
      answer,
    }));
    const annotations = questions.map(({ answer, ...of }) => ({
      ...of,
      multiple_choice_answer: answer,
      answers: Array(10).fill({ answer }),
    }));
    await writeFile(join(folder, 'questions.json'), JSON.stringify({ questions }));
    await writeFile(join(folder, 'annotations.json'), JSON.stringify({ annotations }));
    for (const id of [0, 1]) await copyFile(join(folder, `${id}.png`), join(folder, `p_00000000000${id}.png`));
    const data = {
      questions: 'questions.json',
      annotations: 'annotations.json',
      images: '.',
      answers: { fewest: 1 },
    };
    const vqa = (answers: number) => ({
      ...recipe,
      model: { ...tinyRecipeModel, answers },
      data,
      phases: [{ objectives: ['vqa'], steps: 1, learningRate: 1e-3 }],
    });
    const error = await expectCode(() => run(vqa(3), { overwrite: true }), 'MOME_INVALID_CONFIG');
    expect(error.message).toMatch(/left out, or the 2 of the data's list, got 3/);
    expect(await readdir(output)).toEqual(before);
    await run(vqa(2), { overwrite: true });
  });

  it('lends nothing to a new run: a vocabulary that was left is learned anew', async () => {
    const { output, run } = runner();
    await mkdir(output);
    await writeFile(join(output, 'vocab.txt'), '[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nleft\n');
    await run();
    expect(await readFile(join(output, 'vocab.txt'), 'utf8')).not.toMatch(/left/);
  });

  it('is refused to a new run that was killed before its first checkpoint, and then resumed', async () => {
    const { output, run } = runner();
    await run();
    const stop = new AbortController();
    const stopping = { overwrite: true, signal: stop.signal, onStart: () => stop.abort() };
    await expectCode(() => run({ ...recipe, seed: 7 }, stopping), 'MOME_ABORTED');
    await rm(join(output, 'checkpoint-0-0.safetensors'));
    const fresh = runner();
    await fresh.run({ ...recipe, seed: 7 });
    await run({ ...recipe, seed: 7 }, { resume: true });
    const weights = (name: string) => readFile(join(name, 'model.safetensors'));
    expect((await weights(output)).equals(await weights(fresh.output))).toBe(true);
  });
});

describe('a run that cannot measure its model', () => {
  it('is refused before its first step', async () => {
    for (const [evaluation, code] of [
      [{ texts: 'pairs.jsonl' }, 'MOME_INVALID_CONFIG'],
      [{ pairs: ['pairs.jsonl', 'pairs.jsonl'] }, 'MOME_INVALID_CONFIG'],
      [{ questions: 'pairs.jsonl' }, 'MOME_INVALID_CONFIG'],
      [{ pairs: 'none.jsonl' }, 'MOME_NOT_FOUND'],
    ] as const) {
      const { output, run } = runner();
      await expectCode(() => run({ ...recipe, evaluation }), code);
      expect(await readdir(output)).toEqual([]);
    }
  });
});

describe('a run in which nothing learns', () => {
  it('is refused', async () => {
    const { run } = runner();
    const phases = [{ ...recipe.phases[0], trainable: 'no_such_parameter' }];
    await expectCode(() => run({ ...recipe, phases }), 'MOME_INVALID_CONFIG');
  });
});

describe('going on', () => {
  it('is refused with what differs named', async () => {
    const { run } = runner();
    await run();
    const phases = [{ ...recipe.phases[0], learningRate: 2e-3 }];
    for (const [own, named] of [
      [{ ...recipe, seed: 5 }, /seed \(0, now 5\)/],
      [{ ...recipe, batchSize: 1 }, /batchSize/],
      [{ ...recipe, phases }, /phases\.0\.learningRate/],
      [{ ...recipe, model: { ...tinyRecipeModel, heads: 4 } }, /model\.heads \(2, now 4\)/],
      [{ ...recipe, masking: 'budget' }, /masking/],
    ] as const) {
      await expectCode(() => run(own, { resume: true }), 'MOME_INVALID_ARGUMENT');
      expect(await message(() => run(own, { resume: true }))).toMatch(named);
    }
    // How often something is written, and by how many threads it is computed, changes no number.
    await run({ ...recipe, checkpointEvery: 7, threads: 1 }, { resume: true });
  });

  it('is refused with other data, another vocabulary or other weights to start from', async () => {
    const { output, run } = runner();
    await copyFile(join(folder, 'pairs.jsonl'), join(folder, 'own.jsonl'));
    const own = { ...recipe, data: { pairs: 'own.jsonl' } };
    await run(own);
    const text = await readFile(join(folder, 'own.jsonl'), 'utf8');
    await writeFile(join(folder, 'own.jsonl'), text.replace('something red', 'something dark'));
    expect(await message(() => run(own, { resume: true }))).toMatch(/differ: data/);

    const started = runner();
    const from = { ...recipe, init: output, vocabulary: join(output, 'vocab.txt') };
    await started.run(from);
    await rename(join(output, 'model.safetensors'), join(output, 'kept.safetensors'));
    const other = runner();
    await other.run({ ...recipe, seed: 9 });
    await copyFile(join(other.output, 'model.safetensors'), join(output, 'model.safetensors'));
    expect(await message(() => started.run(from, { resume: true }))).toMatch(/differ: init/);
    await rename(join(output, 'kept.safetensors'), join(output, 'model.safetensors'));
    const words = (await readFile(join(output, 'vocab.txt'), 'utf8')).trimEnd().split('\n');
    await writeFile(join(output, 'vocab.txt'), [...words.slice(0, -2), words.at(-1), words.at(-2)].join('\n'));
    expect(await message(() => started.run(from, { resume: true }))).toMatch(/vocabulary/);
  });

  it('is refused for a description that is none, and for checkpoints without one', async () => {
    const { output, run } = runner();
    await run();
    for (const text of ['', '{}', '[1]', '{"version": 2}']) {
      await writeFile(join(output, 'run.json'), text);
      await expectCode(() => run(recipe, { resume: true }), 'MOME_INVALID_FILE');
    }
    await rm(join(output, 'run.json'));
    await expectCode(() => run(recipe, { resume: true }), 'MOME_INVALID_FILE');
  });

  it('in an empty folder begins', async () => {
    const { run } = runner();
    expect((await run(recipe, { resume: true })).steps).toBe(2);
  });
});

describe('the settings of the original', () => {
  const original = { ...recipe, preset: 'original' };

  it('stand where a recipe says nothing', () => {
    const parsed = parseRecipe(original);
    expect(parsed).toMatchObject({ ...originalSettings, textDropout: 0.1 });
    expect(parsed.phases[0]).toMatchObject({ decay: 'polynomial', decayPower: 1, endLearningRate: 0 });
    expect(parseRecipe(recipe)).toMatchObject({ masking: 'words', groups: true, clipNorm: 1, textDropout: 0 });
  });

  it('give way to what a recipe says, and text dropout follows drop path', () => {
    const own = { ...original, clipNorm: 3, dropPath: 0.2, phases: [{ ...recipe.phases[0], decay: 'cosine' }] };
    expect(parseRecipe(own)).toMatchObject({ clipNorm: 3, dropPath: 0.2, textDropout: 0.2, masking: 'budget' });
    expect(parseRecipe(own).phases[0]!.decay).toBe('cosine');
    expect(parseRecipe({ ...own, textDropout: 0 }).textDropout).toBe(0);
  });

  it('train, and hand weights over in float32', async () => {
    const { output, run } = runner();
    const phases = [
      { objectives: ['textmlm'], steps: 2, learningRate: 1e-3, warmupSteps: 0.5 },
      { objectives: ['itc', 'itm', 'mlm'], steps: 2, learningRate: 1e-3, lossWeights: { itc: 0.5 } },
    ];
    expect((await run({ ...original, phases })).steps).toBe(4);
    const file = await openSafetensors(join(output, 'model.safetensors'));
    expect(file.entries.get('transformer.norm.weight')!.dtype).toBe('F32');
  });

  it('refuse what is no recipe as before', () => {
    for (const value of [
      { ...original, phases: 3 },
      { ...original, phases: [null] },
      { ...recipe, preset: 'paper' },
      { ...recipe, phases: [{ ...recipe.phases[0], warmupSteps: 1.5 }] },
      { ...recipe, phases: [{ ...recipe.phases[0], lossWeights: { chess: 1 } }] },
    ])
      expect(() => parseRecipe(value)).toThrow(/recipe/);
  });
});

describe('a set with an item for each caption', () => {
  it('shows each picture as often as it has captions', async () => {
    const pairs = await openPairs(join(folder, 'pairs.jsonl'), { size: 16 });
    const each = everyCaption(pairs);
    expect(each.length).toBe(8);
    expect(each.captions(3)).toEqual(['something green']);
    expect(each.group(2)).toBe(each.group(3));
    expect(each.group(2)).not.toBe(each.group(4));
    expect(await each.image(3)).toEqual(await pairs.image(1));
    expect(each.source!(3)).toBe('1.png');
    await expectCode(() => each.captions(8), 'MOME_INVALID_ARGUMENT');
  });
});
