/**
 * Searches emoji drawings of a style the model has never seen, before and after fusion re-ranking, and writes a page with the
 * pictures.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { renderResults, SearchIndex, Vlmo } from '../dist/index.mjs';
import { loadEmoji } from '../dist/train.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const folder = join(root, 'out', 'demo');
const drawingsFolder = join(folder, 'noto');
const queries = ['a happy cat', 'something to eat with noodles', 'a vehicle on rails', 'it is raining'];
const pictureQuery = 'hamburger';
const k = 8;
const candidates = 32;

const started = performance.now();
mkdirSync(drawingsFolder, { recursive: true });
const labels = new Map();
for (const { id, label, svg } of loadEmoji({ style: 'noto' })) {
  const path = join(drawingsFolder, `${label.replace(/[^\p{L}\p{N}]+/gu, '-')}-${id}.svg`); // labels alone are not apart: some differ in signs only
  writeFileSync(path, svg);
  labels.set(path, label);
}
process.stdout.write(`${labels.size} drawings of a style the model was not trained on\n`);

const model = await Vlmo.load();
const index = await SearchIndex.build(model, [...labels.keys()]);
process.stdout.write(`indexed in ${((performance.now() - started) / 1000).toFixed(1)} s on ${model.target}\n`);

const caption = (path) => labels.get(path) ?? path;
const line = ({ path, score, match }) =>
  `${caption(path).padEnd(34).slice(0, 34)} ${score.toFixed(3)}${match === null ? '' : `  match ${match.toFixed(3)}`}`;
const sections = [];
for (const query of queries) {
  const before = await index.search(query, { k, rerank: 0 });
  const begun = performance.now();
  const results = await index.search(query, { k, rerank: candidates });
  sections.push({ query, before, results, caption, among: labels.size, milliseconds: performance.now() - begun });
  process.stdout.write(`\n"${query}"\n  ${'dual encoder alone'.padEnd(44)}after fusion re-ranking\n`);
  for (const [i, result] of results.entries()) process.stdout.write(`  ${line(before[i]).padEnd(44)}${line(result)}\n`);
}
const image = [...labels].find(([, label]) => label === pictureQuery)[0];
const begun = performance.now();
const alike = await index.search({ image }, { k: k + 1 });
const results = alike.filter(({ path }) => path !== image).slice(0, k); // the picture itself is no news
const milliseconds = performance.now() - begun;
sections.push({
  query: `pictures like "${pictureQuery}"`,
  queryImage: image,
  results,
  caption,
  among: labels.size - 1,
  milliseconds,
});
process.stdout.write(`\npictures like "${pictureQuery}"\n`);
for (const result of results) process.stdout.write(`  ${line(result)}\n`);

const page = join(folder, 'index.html');
writeFileSync(
  page,
  await renderResults('Searching drawings the model has never seen', sections, { folder, model: 'emoji-tiny' }),
);
await model.dispose();
process.stdout.write(`\n${page}\n${((performance.now() - started) / 1000).toFixed(1)} s in all\n`);
