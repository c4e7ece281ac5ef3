import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { loadEmoji } from '../../src/train/data/emoji.ts';
import { readQueries } from '../../src/train/evaluate-queries.ts';

const file = fileURLToPath(new URL('../../../corpus/natural-sentences.json', import.meta.url));
const noto = new Set(loadEmoji({ style: 'noto' }).map(({ label }) => label));

/** Names of right drawings that the style does not have. */
const unknownIn = (queries: readonly { readonly right: readonly string[] }[]) =>
  queries.flatMap(({ right }) => right.filter((name) => !noto.has(name)));

describe('the natural sentences', () => {
  it('name drawings of Noto alone, each once for a sentence', async () => {
    const queries = await readQueries(file);
    expect(unknownIn(queries)).toEqual([]);
    // A planted error is seen.
    expect(unknownIn([...queries, { right: ['umbrella', 'corkscrew'] }])).toEqual(['corkscrew']);
    for (const { query, right } of queries) expect(new Set(right).size, query).toBe(right.length);
  });

  it('are many, all different, half for choosing and half for the report', async () => {
    const [validation, test] = [await readQueries(file, 'validation'), await readQueries(file, 'test')];
    const all = await readQueries(file);
    expect(all.length).toBeGreaterThanOrEqual(150);
    expect(validation.length + test.length).toBe(all.length);
    expect(Math.abs(validation.length - test.length)).toBeLessThanOrEqual(10);
    expect(new Set(all.map(({ query }) => query.toLowerCase())).size).toBe(all.length);
  });

  it('are sentences and not names of drawings', async () => {
    const { queries } = JSON.parse(await readFile(file, 'utf8')) as { queries: { query: string; topic: string }[] };
    for (const { query, topic } of queries) {
      expect(noto.has(query), query).toBe(false);
      expect(query.split(' ').length, query).toBeGreaterThanOrEqual(2);
      expect(topic).not.toBe('');
    }
  });
});
