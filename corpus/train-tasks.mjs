/**
 * Teaches one model questions and statements about composed scenes while it goes on learning pairs, so that its search stays: in each round a
 * step of each task on the same weights.
 *
 *   node corpus/train-tasks.mjs --init out/drawings/6-fusion [--output out/drawings/7-scenes] [--scenes out/scenes] [--rounds 2500] [--rate 3e-4]
 *     [--pairs 128] [--questions 64] [--statements 32] [--precision float32|bfloat16] [--checkpoint-every 50]
 *
 * Data and augmentation of the pairs are those of the stage `fusion` of recipes/drawings.json, or of --recipe. Goes on from its last checkpoint.
 * What it leaves is a stage like those before it: the model, `run.json` and `metrics.jsonl`, from which `corpus/publish.mjs` makes a model that ships.
 */
import { createWriteStream, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import {
  augmentDefaults,
  BatchLoader,
  buildAnswers,
  loadRun,
  openDataset,
  openStartingModel,
  saveRun,
  Trainer,
  writeModel,
} from '../dist/train.mjs';
import { keepRun, nextStage } from './publish/stages.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { values } = parseArgs({
  options: {
    init: { type: 'string' },
    output: { type: 'string', short: 'o' },
    scenes: { type: 'string', default: join(root, 'out', 'scenes') },
    recipe: { type: 'string', default: join(root, 'recipes', 'drawings.json') },
    rounds: { type: 'string', default: '2500' },
    rate: { type: 'string', default: '3e-4' },
    pairs: { type: 'string', default: '128' },
    questions: { type: 'string', default: '64' },
    statements: { type: 'string', default: '32' },
    precision: { type: 'string', default: 'float32' },
    'checkpoint-every': { type: 'string', default: '50' },
    threads: { type: 'string' },
  },
});
if (!values.init) throw new Error('train-tasks: expected --init, the model to start from');
const [rounds, every, rate] = [values.rounds, values['checkpoint-every'], values.rate].map(Number);
for (const name of ['rounds', 'pairs', 'questions', 'statements', 'checkpoint-every'])
  if (!(Number.isSafeInteger(Number(values[name])) && Number(values[name]) > 0))
    throw new Error(`train-tasks: expected --${name} to be a whole number above 0, got ${values[name]}`);
if (!(rate > 0)) throw new Error(`train-tasks: expected --rate to be a number above 0, got ${values.rate}`);
const { scenes, precision } = values;
const { output = nextStage(values.init, 'scenes') } = values;

// The model, with heads for the answers of the training questions and a type of its own for the second picture.
const part = join(scenes, 'train');
const annotations = [join(part, 'annotations.json')];
const answers = await buildAnswers(annotations, { fewest: 1 });
const { config: given } = await openStartingModel(values.init);
const start = await openStartingModel(values.init, {
  config: { ...given, answers: answers.length, tokenTypes: 3 },
  seed: 1,
});
const { config, tokenizer } = start;

const recipe = JSON.parse(readFileSync(values.recipe, 'utf8'));
const stage = recipe.stages.find(({ name }) => name === 'fusion');
if (stage === undefined) throw new Error(`train-tasks: expected a stage "fusion" in ${values.recipe}, found none`);
const { pairs: pairsFile, columns, repeat } = stage.data;
const { fusedPairs, vlBranch } = stage.phases.at(-1);

const schedule = { learningRate: rate, totalSteps: rounds, warmupSteps: 0.03, decay: 'cosine', endLearningRate: 1e-6 };
const optimiser = { clipNorm: 1, weightDecay: 0.05, betas: [0.9, 0.98], dropPath: 0.05, precision };
const shared = { ...optimiser, schedule, groups: false };
const tasks = [
  {
    name: 'pairs',
    dataset: await openDataset({ files: resolve(dirname(values.recipe), pairsFile), columns, repeat }),
    batchSize: Number(values.pairs),
    augment: { ...augmentDefaults, ...stage.augment },
    options: { ...shared, objectives: ['itc', 'itm', 'mlm'], groups: true, vlBranch, fusedPairs, seed: 11 },
  },
  {
    name: 'questions',
    dataset: await openDataset({
      files: join(part, 'questions.json'),
      kind: 'vqa',
      annotations,
      images: join(part, 'pictures'),
      answers,
    }),
    batchSize: Number(values.questions),
    augment: 'none',
    options: { ...shared, objectives: ['vqa'], headRate: 3, seed: 12 },
  },
  {
    name: 'statements',
    dataset: await openDataset({ files: join(part, 'statements.jsonl'), kind: 'nlvr2', images: join(part, 'pairs') }),
    batchSize: Number(values.statements),
    augment: 'none',
    options: { ...shared, objectives: ['nlvr2'], headRate: 3, seed: 13 },
  },
];
const { learningRate, warmupSteps, decay, endLearningRate } = schedule;
keepRun(output, {
  version: 1,
  recipe: {
    ...optimiser,
    init: values.init,
    imageSize: config.imageSize,
    seed: tasks[0].options.seed,
    batchSize: tasks.map(({ batchSize }) => batchSize).join(' + '),
    data: { pairs: pairsFile, columns, repeat, scenes },
    phases: [
      {
        objectives: tasks.flatMap(({ options }) => options.objectives),
        steps: rounds,
        learningRate,
        warmupSteps,
        decay,
        endLearningRate,
        vlBranch,
        fusedPairs,
        negativeSharpness: 1,
      },
    ],
  },
});
const engine = values.threads ? { threads: Number(values.threads) } : {};
const [first, ...others] = tasks;
first.trainer = await Trainer.create(config, start.parameters, tokenizer, first.options, engine);
for (const task of others) task.trainer = first.trainer.beside(task.options);

// A checkpoint is one file of weights and moments, and a small one, named by its round, of where each task stands.
const checkpoint = join(output, 'checkpoint.safetensors');
const placesOf = (round) => join(output, `tasks-${round}.json`);
for (const task of tasks) task.position = { epoch: 0, step: 0 };
if (existsSync(checkpoint)) {
  first.position = await loadRun(checkpoint, first.trainer);
  const places = JSON.parse(readFileSync(placesOf(first.trainer.step), 'utf8'));
  for (const task of others) {
    task.trainer.restore(places[task.name].state);
    task.position = places[task.name].position;
  }
  process.stderr.write(`goes on from round ${first.trainer.step}\n`);
}
let saved = first.trainer.step;
async function save() {
  const round = first.trainer.step;
  if (round === saved) return;
  const places = Object.fromEntries(
    others.map(({ name, trainer, position }) => [name, { state: trainer.state, position }]),
  );
  writeFileSync(`${placesOf(round)}.new`, JSON.stringify(places));
  await rename(`${placesOf(round)}.new`, placesOf(round));
  await saveRun(checkpoint, first.trainer, first.position);
  await rm(placesOf(saved), { force: true });
  saved = round;
}

let isStopping = false;
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => (isStopping = true));
const metrics = createWriteStream(join(output, 'metrics.jsonl'), { flags: 'a' });
for (const task of tasks) {
  const { dataset, batchSize, augment, options, position } = task;
  task.loader = new BatchLoader(dataset, { config, tokenizer, batchSize, augment, seed: options.seed, from: position });
}
const started = performance.now();
while (first.trainer.step < rounds && !isStopping) {
  const line = {};
  for (const task of tasks) {
    const { training, position } = await task.loader.next();
    const { losses, accuracies, learningRate, applied } = await task.trainer.train(training);
    task.position = position;
    line[task.name] = { losses, accuracies, ...(applied ? {} : { applied }) };
    line.learningRate = learningRate;
  }
  const round = first.trainer.step;
  metrics.write(`${JSON.stringify({ step: round, seconds: (performance.now() - started) / 1000, ...line })}\n`);
  if (round % every === 0) await save();
}
for (const { loader, dataset } of tasks) {
  loader.close();
  dataset.close();
}
await save();
metrics.end();
if (first.trainer.step >= rounds) {
  await writeModel(output, config, await first.trainer.parameters(), {
    dtype: 'bfloat16',
    vocabularyFiles: [start.vocabularyFile],
    fusionWeight: start.fusionWeight,
    answers,
  });
  process.stdout.write(`the model is in ${output}\n`);
} else process.stdout.write(`stopped in round ${first.trainer.step}; the same command goes on\n`);
first.trainer.dispose();
