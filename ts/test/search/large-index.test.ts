/** An index of many pictures that are nowhere: what is done with it leaves the event loop free, and its memory to nobody else. */
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Vlmo } from '../../src/inference/index.ts';
import { SearchIndex } from '../../src/search/index.ts';
import { writeIndex } from '../../src/search/index-file.ts';
import { expectCode, temporaryFolder, tinyModel } from '../helpers.ts';
import { expectShortTurns } from '../loop-gap.ts';

const count = 50_000;

let model: Vlmo;
let folder = '';
let index: SearchIndex;
let embeddings: Float32Array;
const file = () => join(folder, 'index');
beforeAll(async () => {
  model = await Vlmo.load(await tinyModel());
  folder = await temporaryFolder();
  const { width } = model.config;
  embeddings = Float32Array.from({ length: count * width }, (_, i) => Math.sin(i));
  const items = Array.from({ length: count }, (_, i) => ({
    path: join(folder, `${i % 100}`, `picture-${i}.jpg`),
    size: i,
    modified: i,
    changed: i,
    hash: i.toString(16).padStart(32, '0'),
  }));
  await writeIndex(file(), model, { root: folder, items, embeddings });
  index = await SearchIndex.open(model, file());
}, 120_000);
afterAll(() => model.dispose());

describe('the event loop is free', () => {
  it('while an index is read and written', async () => {
    const opened = await expectShortTurns(() => SearchIndex.open(model, file()));
    expect(opened.items).toHaveLength(count);
    await expectShortTurns(() => opened.save(join(folder, 'copy')));
  }, 120_000);

  it('while all of it is ranked', async () => {
    for (const rerank of [0, 4]) {
      const results = await expectShortTurns(() => index.search('a red square', { k: 2 * count, rerank }));
      expect(results).toHaveLength(count);
      for (let i = 1; i < count; i++) expect(results[i - 1]!.score >= results[i]!.score).toBe(true);
    }
  }, 120_000);

  it('while it is brought up to date', async () => {
    const files = index.items.slice(0, 20_000).map(({ path }) => path);
    let missing = 0;
    const onError = () => missing++;
    const newer = await expectShortTurns(() => SearchIndex.build(model, files, { previous: index, onError }));
    expect(newer.items).toEqual([]);
    expect(missing % files.length).toBe(0);
  }, 120_000);
});

describe('the embeddings of an index', () => {
  it('are copies, whole or in part', async () => {
    const { width } = model.config;
    const { embeddings: copy } = index;
    expect(copy.length === embeddings.length && copy.every((value, i) => value === embeddings[i])).toBe(true);
    copy.fill(0);
    expect(index.rows(2, 4)).toEqual(embeddings.subarray(2 * width, 4 * width));
    expect(index.rows(count, count)).toHaveLength(0);
    for (const [first, end] of [
      [1, 0],
      [-1, 1],
      [0, count + 1],
      [0.5, 1],
    ] as const)
      await expectCode(() => index.rows(first, end), 'MOME_INVALID_ARGUMENT');
  });

  it('may be given to other threads while searches read them', async () => {
    const worker = new Worker("require('node:worker_threads').parentPort.on('message', (rows) => rows.fill(7))", {
      eval: true,
    });
    const expected = await index.search('a red square', { k: 20, rerank: 0 });
    for (let round = 0; round < 6; round++) {
      const searches = Array.from({ length: 4 }, () => index.search('a red square', { k: 20, rerank: 0 }));
      const given = index.embeddings;
      worker.postMessage(given, [given.buffer as ArrayBuffer]);
      const cloned = index.rows(0, count);
      structuredClone(cloned, { transfer: [cloned.buffer as ArrayBuffer] });
      for (const results of await Promise.all(searches)) expect(results).toEqual(expected);
    }
    await worker.terminate();
    expect(await index.search('a red square', { k: 20, rerank: 0 })).toEqual(expected);
  }, 60_000);
});
