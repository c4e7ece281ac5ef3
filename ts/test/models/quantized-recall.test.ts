/** What fewer bits cost the shipped model in recall, as the page of the API says it. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { type Embeddings, Vlmo } from '../../src/inference/index.ts';
import { hammingDistance, quantizeEmbeddings } from '../../src/inference/quantize.ts';
import { packageRoot } from '../../src/runtime/addon.ts';
import { loadEmoji } from '../../src/train/data/emoji.ts';

/** Candidates by bits that are scored once more by their exact rows. */
const candidates = 40;

it('is what the documentation says', async () => {
  await using model = await Vlmo.load();
  const drawings = loadEmoji({ style: 'noto' });
  const texts = await model.embedTexts(drawings.map(({ label }) => label));
  const images = await model.embedImages(drawings.map(({ svg }) => Buffer.from(svg)));
  const measured = [
    ['float32', 4 * model.dimensions, exact],
    ['int8', model.dimensions + 4, integers],
    ['binary', model.dimensions / 8, bits],
    [`binary, the best ${candidates} by float32`, model.dimensions / 8, rescored],
  ] as const;
  const rows = measured.map(
    ([name, bytes, scores]) => `| ${name} | ${bytes} | ${recalls(texts, images, scores).join(' | ')} |`,
  );
  const page = await readFile(join(packageRoot(), 'docs/api.md'), 'utf8');
  expect(page.split('\n').filter((line) => /^\| (?:float32|int8|binary)[^|]*\| \d+ \|/.test(line))).toEqual(rows);
  expect(page).toContain(`on ${drawings.length} drawings`);
}, 1_200_000);

/** Gives the scores of all items for a query. */
type Scores = (queries: Embeddings, items: Embeddings) => (query: number) => number[];

const exact: Scores = (queries, items) => {
  const [q, x] = [queries.rows(), items.rows()];
  return (query) => x.map((row) => dot(q[query]!, row));
};

/** The query stays as it is: its row is there in any case. */
const integers: Scores = (queries, items) => {
  const q = queries.rows();
  const x = quantizeEmbeddings(items, 'int8').rows();
  const lengths = x.map((row) => Math.sqrt(dot(row, row)));
  return (query) => x.map((row, item) => dot(q[query]!, row) / lengths[item]!);
};

const bits: Scores = (queries, items) => {
  const q = quantizeEmbeddings(queries, 'binary').rows();
  const x = quantizeEmbeddings(items, 'binary').rows();
  return (query) => x.map((row) => -hammingDistance(q[query]!, row));
};

const rescored: Scores = (queries, items) => {
  const [coarse, fine] = [bits(queries, items), exact(queries, items)];
  return (query) => {
    const byBits = coarse(query).map((score, item) => ({ score, item }));
    byBits.sort((a, b) => b.score - a.score || a.item - b.item);
    const kept = new Set(byBits.slice(0, candidates).map(({ item }) => item));
    return fine(query).map((score, item) => (kept.has(item) ? score : Number.NEGATIVE_INFINITY));
  };
};

/** Recall at 1 and 10 in percent, text to picture and picture to text: row i of one belongs to row i of the other. */
function recalls(texts: Embeddings, images: Embeddings, scores: Scores): string[] {
  const directions = [
    [texts, images],
    [images, texts],
  ] as const;
  return directions.flatMap(([queries, items]) => {
    const of = scores(queries, items);
    const places = Array.from({ length: queries.count }, (_, query) => placeOf(of(query), query));
    return [1, 10].map((k) => ((100 * places.filter((place) => place < k).length) / places.length).toFixed(1));
  });
}

/** Items in front of `own`: those with higher scores, and equal ones of lower places. */
function placeOf(scores: readonly number[], own: number): number {
  let place = 0;
  for (const [item, score] of scores.entries())
    if (score > scores[own]! || (score === scores[own] && item < own)) place++;
  return place;
}

function dot(a: Float32Array | Int8Array, b: Float32Array | Int8Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}
