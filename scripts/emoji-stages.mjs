/**
 * Writes a small set for every stage of training, made of emoji drawings: pictures, captions, texts, and questions in the format of VQA v2.
 * The pictures of one artist are held out. `recipes/stages.json` trains on it.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { loadEmoji, rasterise } from '../dist/train.mjs';

const folder = process.argv[2] ?? join(dirname(dirname(fileURLToPath(import.meta.url))), 'out', 'stages-data');
const size = 64;
/** Emoji of each group that are drawn. */
const perGroup = 40;
/** What the drawings of a group of Unicode show. */
const kinds = new Map([
  [0, 'face'],
  [3, 'animal'],
  [4, 'food'],
  [5, 'place'],
  [6, 'activity'],
  [7, 'object'],
]);

/** The drawings of a style, the first of each group that all artists drew. */
function drawingsOf(style, known) {
  const counts = new Map();
  return loadEmoji({ style }).filter(({ id, group }) => {
    if (!kinds.has(group) || !known.has(id) || (counts.get(group) ?? 0) >= perGroup) return false;
    counts.set(group, (counts.get(group) ?? 0) + 1);
    return true;
  });
}

/** Questions about a drawing, with their answers; the other label is that of a drawing which it is not. */
const questionsOf = ({ group, label }, other) => [
  ['what kind of thing is this?', kinds.get(group)],
  [`is this a ${label}?`, 'yes'],
  [`is this a ${other}?`, 'no'],
];

async function writePart(name, styles) {
  const pictures = join(folder, name);
  mkdirSync(pictures, { recursive: true });
  const known = new Set(loadEmoji({ style: 'noto' }).map(({ id }) => id));
  const [captions, questions, annotations] = [[], [], []];
  const texts = new Set();
  for (const style of styles) {
    const drawings = drawingsOf(style, known);
    for (const [i, drawing] of drawings.entries()) {
      const number = captions.length;
      const file = `${style}_${String(number).padStart(12, '0')}.png`;
      const pixels = await rasterise(drawing.svg, size);
      await sharp(pixels, { raw: { width: size, height: size, channels: 3 } })
        .png()
        .toFile(join(pictures, file));
      const own = [drawing.label, `a picture of ${drawing.label}`, drawing.tags.join(' ') || drawing.label];
      captions.push(JSON.stringify({ image: file, captions: own }));
      for (const text of own) texts.add(text);
      const other = drawings[(i + 7 * perGroup + 1) % drawings.length].label;
      for (const [question, answer] of questionsOf(drawing, other)) {
        const question_id = questions.length;
        questions.push({ image_id: number, question_id, question });
        const answers = Array.from({ length: 10 }, () => ({ answer }));
        annotations.push({ image_id: number, question_id, multiple_choice_answer: answer, answers });
      }
    }
  }
  writeFileSync(join(pictures, 'captions.jsonl'), `${captions.join('\n')}\n`);
  writeFileSync(join(folder, `${name}-texts.txt`), `${[...texts].join('\n')}\n`);
  writeFileSync(join(folder, `${name}-questions.json`), JSON.stringify({ questions }));
  writeFileSync(join(folder, `${name}-annotations.json`), JSON.stringify({ annotations }));
  process.stdout.write(`${name}: ${captions.length} pictures, ${texts.size} texts, ${questions.length} questions\n`);
}

await writePart('train', ['twemoji', 'openmoji', 'fluent-emoji-flat']);
await writePart('held-out', ['noto']);
