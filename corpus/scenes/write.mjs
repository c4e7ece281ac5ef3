/** Files of a part of the scenes: pictures, questions of VQA v2, statements of NLVR2, captions. */
import { copyFile, link, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import pLimit from 'p-limit';
import sharp from 'sharp';
import { createRandom } from '../../dist/train.mjs';
import { composeScene } from './compose.mjs';
import { withArticle } from './kinds.mjs';
import { Balance, questionsAbout } from './questions.mjs';
import { statementsAbout } from './statements.mjs';

const filesAtOnce = 4;
/** Answers of people that a file of VQA v2 has for each question. */
const people = 10;

/**
 * Composes and writes one part.
 *
 * @param options.folder of all parts
 * @param options.part `train`, `validation` or `test`
 * @param options.drawings of this part alone
 * @param options.nouns names that are asked for
 * @param options.scenes how many; `questions` of each at most, and `statements` in all
 * @param options.first number of the first picture: numbers differ over all parts
 * @returns the questions, with their templates, and the statements
 */
export async function writePart(options) {
  const {
    folder,
    part,
    drawings,
    nouns,
    scenes: count,
    questions: perScene,
    statements: statementCount,
    size,
    seed,
    first,
  } = options;
  const own = join(folder, part);
  for (const name of ['pictures', 'pairs']) await mkdir(join(own, name), { recursive: true });
  const limit = pLimit(filesAtOnce);
  const [scenes, written, questions, annotations, captions, asked] = [[], [], [], [], [], []];
  const balance = new Balance();
  const name = (at) => `${part}_${String(first + at).padStart(12, '0')}.png`;
  for (let at = 0; at < count; at++) {
    const random = createRandom(seed, first + at);
    const { pixels, ...scene } = composeScene(drawings, random, size);
    scenes.push(scene);
    written.push(limit(() => png(join(own, 'pictures', name(at)), pixels, size)));
    captions.push(JSON.stringify({ image: `pictures/${name(at)}`, caption: captionOf(scene) }));
    for (const chosen of balance.choose(questionsAbout(scene, nouns, random), perScene, random)) {
      const ids = { image_id: first + at, question_id: (first + at) * 100 + (questions.length % 100) };
      const { question, answer, type, template } = chosen;
      asked.push({ ...chosen, id: ids.question_id });
      questions.push({ ...ids, question });
      const answers = Array.from({ length: people }, (_, i) => ({
        answer,
        answer_confidence: 'yes',
        answer_id: i + 1,
      }));
      annotations.push({ ...ids, question_type: template, answer_type: type, multiple_choice_answer: answer, answers });
    }
    if (at % 200 === 199) await Promise.all(written.splice(0));
  }
  await Promise.all(written);
  const random = createRandom(seed, first, 1);
  const statements = statementsAbout(scenes, { count: Math.floor(statementCount / 2), nouns, random });
  const lines = [];
  for (const [at, { sentence, left, right, isTrue }] of statements.entries()) {
    const stem = `${part}-${at}-0`;
    for (const [side, scene] of [left, right].entries())
      await linked(join(own, 'pictures', name(scene)), join(own, 'pairs', `${stem}-img${side}.png`));
    lines.push(JSON.stringify({ identifier: `${stem}-0`, sentence, label: isTrue ? 'True' : 'False' }));
  }
  await writeFile(join(own, 'questions.json'), JSON.stringify({ questions }));
  await writeFile(join(own, 'annotations.json'), JSON.stringify({ annotations }));
  await writeFile(join(own, 'statements.jsonl'), `${lines.join('\n')}\n`);
  await writeFile(join(own, 'captions.jsonl'), `${captions.join('\n')}\n`);
  return { questions: asked, statements, scenes };
}

/** "a blue scooter and a salad on a white background": colours where they are clear, in the order of reading. */
export function captionOf({ objects, background }) {
  const words = [...objects]
    .sort((a, b) => Math.round(a.y * 3) - Math.round(b.y * 3) || a.x - b.x)
    .map(({ noun, colour }) => {
      const plain = withArticle(noun) === noun;
      if (!colour) return withArticle(noun);
      return plain ? `${colour} ${noun}` : `${withArticle(colour)} ${noun}`;
    });
  const list = words.length === 1 ? words[0] : `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`;
  return `${list} on ${withArticle(background)} background`;
}

async function png(file, pixels, size) {
  const { buffer, byteOffset, byteLength } = pixels;
  await sharp(Buffer.from(buffer, byteOffset, byteLength), { raw: { width: size, height: size, channels: 3 } })
    .png()
    .toFile(file);
}

/** Another name for a file; a copy where the file system has no links. */
async function linked(file, other) {
  await link(file, other).catch(async (error) => {
    if (error.code === 'ENOENT') throw error;
    await copyFile(file, other);
  });
}
