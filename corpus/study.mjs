/**
 * The paper in miniature: small models that differ in one thing, trained on a cut of the corpus by the same engine, several seeds each.
 *
 *   node corpus/study.mjs [--corpus out/corpus] [--output out/study] [--arms stagewise,scratch] [--seeds 1,2,3] [--drawings 8000] [--scale 1]
 *     [--threads 2]
 *
 * Runs that are finished are kept, and an interrupted one goes on. Results are in `results.json` and `study.md`; each arm takes minutes.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { RecordBatchReader } from 'apache-arrow';
import { Vlmo } from '../dist/index.mjs';
import { evaluatePairs, openPairs, runTraining } from '../dist/train.mjs';
import { arms, chainOf, tableOf } from './study/arms.mjs';
import { PairsWriter } from './write.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { values } = parseArgs({
  options: {
    corpus: { type: 'string', default: join(root, 'out', 'corpus') },
    output: { type: 'string', default: join(root, 'out', 'study') },
    arms: { type: 'string' },
    seeds: { type: 'string', default: '1,2,3' },
    drawings: { type: 'string', default: '8000' },
    scale: { type: 'string', default: '1' },
    threads: { type: 'string' },
  },
});
const { corpus, output } = values;
const wanted = values.arms?.split(',') ?? Object.keys(arms);
const unknown = wanted.find((name) => !(name in arms));
if (unknown) throw new Error(`study: expected arms of ${Object.keys(arms).join(', ')}, got ${unknown}`);
const seeds = values.seeds.split(',').map(Number);
const [drawings, scale] = [values.drawings, values.scale].map(Number);
mkdirSync(output, { recursive: true });

/** Emoji and icons in colour, evenly from the corpus, and their captions as texts. */
async function cut(pairs, texts) {
  const read = async (use) => {
    const handle = await open(join(corpus, 'train', 'pairs.arrow'));
    const reader = await RecordBatchReader.from(handle);
    await reader.open();
    for await (const batch of reader)
      for (const row of batch) if (row.kind === 'emoji' || row.kind === 'colour') use(row);
    await reader.return();
    await handle.close().catch(() => {});
  };
  let count = 0;
  await read(() => count++);
  const every = Math.max(1, count / drawings);
  const writer = new PairsWriter(pairs);
  const lines = new Set();
  let at = 0;
  let next = 0;
  await read((row) => {
    if (at++ < next) return;
    next += every;
    const caption = [...row.caption];
    writer.add({ ...row.toJSON(), pixels: Uint8Array.from(row.pixels), caption, asked: [...row.asked] });
    for (const line of caption) lines.add(line);
  });
  await writer.close();
  writeFileSync(texts, `${[...lines].join('\n')}\n`);
  process.stdout.write(`cut: ${writer.count} of ${count} drawings, ${lines.size} texts\n`);
}

const data = { pairs: join(output, 'pairs.arrow'), texts: join(output, 'texts.txt') };
if (!existsSync(data.texts)) await cut(data.pairs, data.texts);
// One vocabulary for all arms, learned from the texts.
data.vocabulary = join(output, 'vocabulary', 'vocab.txt');
if (!existsSync(data.vocabulary)) {
  const { model, stages } = chainOf('stagewise', data, 0, 0);
  const { name: _, ...stage } = stages.find(({ name }) => name === 'texts');
  const recipe = { ...stage, model, vocabulary: { size: 2000, minFrequency: 2 } };
  await runTraining(recipe, { output: dirname(data.vocabulary), overwrite: true, quiet: true });
}

/** Recall on drawings of a style that no arm has seen, and what the search takes. */
async function measured(folder) {
  const model = await Vlmo.load(folder);
  try {
    const dataset = await openPairs(join(corpus, 'validation', 'style', 'one-each.jsonl'), {
      size: model.config.imageSize,
    });
    const timed = async (k) => {
      const started = performance.now();
      return [await evaluatePairs({ model, dataset, k }), (performance.now() - started) / 1000];
    };
    const mean = ({ textToImage, imageToText }, at) => (textToImage[at] + imageToText[at]) / 2;
    const [dual, dualSeconds] = await timed(0);
    const [both, seconds] = model.abilities.has('match') ? await timed(16) : [undefined, undefined];
    return {
      dualR1: mean(dual.dual, 'r1'),
      dualR10: mean(dual.dual, 'r10'),
      rerankedR1: both ? mean(both.reranked, 'r1') : null,
      dualSeconds,
      rerankedSeconds: both ? seconds - dualSeconds : null,
    };
  } finally {
    await model.dispose();
  }
}

const file = join(output, 'results.json');
const results = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : [];
for (const seed of seeds) {
  for (const arm of wanted) {
    if (results.some((result) => result.arm === arm && result.seed === seed && result.scale === scale)) continue;
    const chain = chainOf(arm, data, seed, scale);
    const before = process.cpuUsage();
    const recipe = values.threads ? { ...chain, threads: Number(values.threads) } : chain;
    const run = await runTraining(recipe, { output: join(output, `${arm}-${seed}`), resume: true, quiet: true });
    const { user, system } = process.cpuUsage(before);
    // (Of a run that went on, this is the time of its last part.)
    const minutes = (user + system) / 6e7;
    results.push({ arm, seed, scale, minutes, steps: run.steps, ...(await measured(run.output)) });
    writeFileSync(file, `${JSON.stringify(results, null, 2)}\n`);
    writeFileSync(join(output, 'study.md'), tableOf(results.filter((result) => result.scale === scale)));
    process.stdout.write(`${JSON.stringify(results.at(-1))}\n`);
  }
}
process.stdout.write(tableOf(results.filter((result) => result.scale === scale)));
