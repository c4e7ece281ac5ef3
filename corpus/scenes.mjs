/**
 * Composes scenes of 2 to 6 drawings with questions, statements and captions, for training, validation and test. Training scenes have training
 * drawings; the others have drawings that no training saw.
 *
 *   node corpus/scenes.mjs [--output out/scenes] [--corpus folder of the built corpus] [--size 64] [--scenes 20000] [--held-out 1500]
 *     [--questions 4] [--statements 10000] [--seed 1]
 *
 * Without --corpus the drawings are emoji of the installed packages: Twemoji and Fluent to train, OpenMoji to choose, Noto to test.
 */
import { existsSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { emojiDrawings, folderDrawings, trainingDrawings } from './scenes/drawings.mjs';
import { withoutPicture } from './scenes/questions.mjs';
import { writePart } from './scenes/write.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { values } = parseArgs({
  options: {
    output: { type: 'string', default: join(root, 'out', 'scenes') },
    corpus: { type: 'string' },
    size: { type: 'string', default: '64' },
    scenes: { type: 'string', default: '20000' },
    'held-out': { type: 'string', default: '1500' },
    questions: { type: 'string', default: '4' },
    statements: { type: 'string', default: '10000' },
    seed: { type: 'string', default: '1' },
  },
});
const counts = Object.fromEntries(
  ['size', 'scenes', 'held-out', 'questions', 'statements', 'seed'].map((name) => {
    const value = Number(values[name]);
    if (!Number.isSafeInteger(value) || value < (name === 'seed' ? 0 : 1))
      throw new Error(`scenes: expected --${name} to be a whole number, got ${values[name]}`);
    return [name, value];
  }),
);

const { corpus } = values;
const drawings = corpus
  ? {
      train: await trainingDrawings(join(corpus, 'train', 'pairs.arrow')),
      validation: await folderDrawings(['concepts', 'style'].map((name) => join(corpus, 'validation', name))),
      test: await folderDrawings(['noto', 'concepts'].map((name) => join(corpus, 'test', name))),
    }
  : {
      train: await emojiDrawings(['twemoji', 'fluent-emoji-flat']),
      validation: await emojiDrawings(['openmoji']),
      test: await emojiDrawings(['noto']),
    };
const nouns = [...new Set(drawings.train.map(({ thing }) => thing.noun))].sort();
// Things that no training drawing shows stand in held-out scenes and are counted, but nobody asks for their names.
for (const list of Object.values(drawings))
  for (const drawing of list) drawing.named = nouns.includes(drawing.thing.noun);

if (existsSync(values.output)) await rm(values.output, { recursive: true });
const parts = {};
let first = 1;
for (const part of ['train', 'validation', 'test']) {
  const scenes = part === 'train' ? counts.scenes : counts['held-out'];
  const statements = part === 'train' ? counts.statements : Math.min(counts.statements, counts['held-out']);
  const options = { folder: values.output, part, drawings: drawings[part], nouns, scenes, statements, first };
  parts[part] = await writePart({ ...options, questions: counts.questions, size: counts.size, seed: counts.seed });
  first += scenes;
  process.stdout.write(
    `${part}: ${scenes} scenes of ${drawings[part].length} drawings, ${parts[part].questions.length} questions, ${parts[part].statements.length} statements\n`,
  );
}

const { questions: training } = parts.train;
const summary = {
  ...counts,
  answers: new Set(training.map(({ answer }) => answer)).size,
  nouns: nouns.length,
  parts: Object.fromEntries(
    Object.entries(parts).map(([part, { questions, statements, scenes }]) => [
      part,
      {
        drawings: drawings[part].length,
        scenes: scenes.length,
        questions: questions.length,
        statements: statements.length,
        withoutPicture: withoutPicture(training, questions),
      },
    ]),
  ),
};
await writeFile(join(values.output, 'scenes.json'), `${JSON.stringify(summary, null, 2)}\n`);
process.stdout.write(`${JSON.stringify(summary, null, 2)}\n`);
