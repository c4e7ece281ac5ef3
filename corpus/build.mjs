/**
 * Builds the corpus of the shipped model from packages of npm and Debian.
 *
 *   npm ci --prefix corpus --ignore-scripts
 *   node corpus/build.mjs [--output out/corpus] [--packages corpus/node_modules] [--debian folder] [--share 1]
 *
 * `--debian` is a folder with the contents of openclipart-svg, openclipart-png and sweethome3d-furniture; unless named, they are downloaded.
 * `--share` takes a part of the training drawings, for trials. docs/corpus.md describes what is written.
 */
import { createWriteStream, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import pLimit from 'p-limit';
import sharp from 'sharp';
import { askedOf, readRequests } from './asked.mjs';
import { captionsOf, randomOf } from './captions.mjs';
import { debianFolder } from './debian.mjs';
import { groupBy, readLines } from './files.mjs';
import { readSources } from './gather.mjs';
import { Lexicon } from './lexicon.mjs';
import { NearCopies, thumbnailOf } from './near-copies.mjs';
import { pixelsOf, writePng } from './render.mjs';
import { splitDrawings } from './select.mjs';
import { shareOf, shuffledBy } from './splits.mjs';
import { PairsWriter } from './write.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const { values } = parseArgs({
  options: {
    output: { type: 'string', default: join(dirname(here), 'out', 'corpus') },
    packages: { type: 'string', default: join(here, 'node_modules') },
    debian: { type: 'string' },
    share: { type: 'string', default: '1' },
  },
});
const output = resolve(values.output);
/** Side of training pictures, which augmentation turns and crops, and of held-out ones. */
const trainSide = 72;
const heldOutSide = 128;
const atOnce = 4;
/** How often drawings stand in an epoch, unless once: those in colour are few beside the icons, and are what people look for. */
const repeats = { emoji: 3, clipart: 2, furniture: 2 };
sharp.concurrency(1);

const log = (text) => process.stdout.write(`${new Date().toISOString().slice(11, 19)} ${text}\n`);
const debian = values.debian ?? (await debianFolder(join(output, '.debian')));
const { drawings, tags, meanings, glosses, leftOut } = await readSources(values.packages, debian, log);
const lexicon = new Lexicon(values.packages);
const requests = readRequests(join(here, 'requests.tsv'));
const parts = splitDrawings(drawings);
for (const [part, own] of parts)
  log(`${part}: ${own.length} drawings, ${new Set(own.map(({ concept }) => concept)).size} concepts`);
rmSync(join(output, 'train'), { recursive: true, force: true });
mkdirSync(join(output, 'train'), { recursive: true });

const keyOf = ({ set, icon }) => `${set}:${icon}`;
const limit = pLimit(atOnce);
const near = new NearCopies();
const trainConcepts = new Set(parts.get('train').map(({ concept }) => concept));
const counts = {};
const count = (part, set) => {
  counts[part] ??= {};
  counts[part][set] = (counts[part][set] ?? 0) + 1;
};

/** All words of a drawing: its own, and those of its concept. */
const wordsOf = ({ tags: own, concept, name }) =>
  [...new Set([...own, ...(tags.get(concept) ?? [])])].filter((word) => word !== name);

/** Held-out drawings: pictures and captions, and their thumbnails, so that no copy of them trains. */
for (const [part, own] of parts) {
  if (part === 'train') continue;
  const folder = join(output, part);
  const isWritten = part !== 'near-copies';
  if (isWritten) {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(join(folder, 'pictures'), { recursive: true });
  }
  const lines = [];
  await Promise.all(
    shuffledBy(own, keyOf).map((drawing, index) =>
      limit(async () => {
        const pixels = await pixelsOf(drawing.draw, trainSide);
        const thumbnail = pixels && thumbnailOf(pixels, trainSide);
        if (!thumbnail) return;
        near.add(thumbnail, drawing.concept, { heldOut: part });
        if (!isWritten) return;
        const image = `pictures/${String(index).padStart(6, '0')}.png`;
        await writePng(drawing.draw, heldOutSide, join(folder, image));
        const { name, others, concept, set, kind, label = name } = drawing;
        const seen = trainConcepts.has(concept);
        lines[index] = {
          image,
          caption: label,
          name,
          others,
          tags: wordsOf(drawing),
          concept,
          set,
          kind,
          seen,
          origin: keyOf(drawing),
        };
        count(part, set);
      }),
    ),
  );
  if (!isWritten) continue;
  const written = lines.filter(Boolean);
  const text = (list) => list.map((line) => `${JSON.stringify(line)}\n`).join('');
  writeFileSync(join(folder, 'captions.jsonl'), text(written));
  // One drawing a concept: the others of it are right answers too.
  const first = [...groupBy(written, ({ concept }) => concept).values()].map(([line]) => line);
  writeFileSync(join(folder, 'one-each.jsonl'), text(first));
  log(`${part}: ${written.length} written, ${first.length} concepts`);
}

/** Training drawings, each once. */
const writer = new PairsWriter(join(output, 'train', 'pairs.arrow'));
const texts = createWriteStream(join(output, 'train', 'texts.txt'));
const share = Number(values.share);
const training = shuffledBy(parts.get('train'), keyOf).filter((drawing) => shareOf('part', keyOf(drawing)) < share);
const dropped = { heldOutCopies: 0, copies: 0, empty: 0 };
const known = new Set();
const block = 1024;
for (let begin = 0; begin < training.length; begin += block) {
  const part = training.slice(begin, begin + block);
  const pixels = await Promise.all(part.map(({ draw }) => limit(() => pixelsOf(draw, trainSide))));
  for (const [i, drawing] of part.entries()) {
    const thumbnail = pixels[i] && thumbnailOf(pixels[i], trainSide);
    if (!thumbnail) {
      dropped.empty++;
      continue;
    }
    const copy = near.find(thumbnail, drawing.concept);
    if (copy) {
      dropped[copy.heldOut ? 'heldOutCopies' : 'copies']++;
      continue;
    }
    near.add(thumbnail, drawing.concept, {});
    const { name, concept, set, kind } = drawing;
    const random = randomOf(shareOf('captions', keyOf(drawing)) * 2 ** 32);
    const asking = randomOf(shareOf('asked', keyOf(drawing)) * 2 ** 32);
    const words = { ...drawing, tags: wordsOf(drawing), requests: requests.get(concept) ?? [] };
    count('train', set);
    for (let time = 0; time < (repeats[kind] ?? 1); time++) {
      const caption = captionsOf(words, meanings.get(name), random);
      const asked = askedOf(words, caption, lexicon, asking);
      writer.add({ pixels: pixels[i], caption, asked, group: concept, name, set, kind, origin: keyOf(drawing) });
      for (const each of [...caption, ...words.requests])
        if (!known.has(each)) {
          known.add(each);
          texts.write(`${each}\n`);
        }
    }
  }
  if ((begin / block) % 8 === 0) log(`train: ${begin + part.length} of ${training.length}, ${writer.count} rows`);
}
await writer.close();
for (const [words, gloss] of glosses) texts.write(`${words.slice(0, 3).join(', ')}: ${gloss}\n`);
await new Promise((done) => texts.end(done));

/** What is looked at while choosing, as one set: a style that is held out, and concepts that are. */
const chosenBy = ['style', 'concepts'].flatMap((part) =>
  readLines(join(output, 'validation', part, 'one-each.jsonl')).map((line) => {
    const item = JSON.parse(line);
    return `${JSON.stringify({ ...item, image: `${part}/${item.image}` })}\n`;
  }),
);
writeFileSync(join(output, 'validation', 'captions.jsonl'), chosenBy.join(''));
const total = Object.fromEntries(
  Object.entries(counts).map(([part, sets]) => [part, Object.values(sets).reduce((a, b) => a + b, 0)]),
);
writeFileSync(
  join(output, 'corpus.json'),
  `${JSON.stringify({ total, rows: writer.count, dropped, leftOut, counts, trainSide, heldOutSide }, null, 2)}\n`,
);
log(JSON.stringify({ total, rows: writer.count, dropped }));
