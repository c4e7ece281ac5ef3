import { execFileSync } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import {
  captionQueries,
  conceptQueries,
  oneOfEachCaption,
  termQueries,
  withSameLooks,
  wordsOf,
  writeQueries,
} from '../../../corpus/evaluation/held-out.mjs';
import { packageRoot } from '../../src/runtime/addon.ts';
import { readQueries } from '../../src/train/evaluate-queries.ts';
import { temporaryFolder } from '../helpers.ts';

const item = (image: string, caption: string, tags: readonly string[] = [], concept = caption) => ({
  image,
  caption,
  name: caption,
  tags: [...tags],
  concept,
});

describe('queries of held-out sets', () => {
  it('are search terms of which no word is in the name', () => {
    const items = [
      item('taxi', 'taxi', ['car', 'cabs', 'taxi stand', 'Vehicles']),
      item('car', 'car side', ['vehicle', 'cars', 'auto']),
    ];
    const queries = termQueries(items);
    // "taxi stand" and "cars" have a word of the name; "Vehicles" and "vehicle" are one term.
    expect(queries).toEqual([
      { query: 'car', right: ['taxi'] },
      { query: 'cabs', right: ['taxi'] },
      { query: 'Vehicles', right: ['taxi', 'car'] },
      { query: 'auto', right: ['car'] },
    ]);
    // A planted error: a name in which every term is gives no query.
    expect(termQueries([{ ...items[1]!, name: 'auto vehicle car' }])).toEqual([]);
  });

  it('are captions, with all drawings of the concept or of the caption', () => {
    const items = [
      item('a', 'arrow left', [], 'arrow left'),
      item('b', 'left arrow', [], 'arrow left'),
      item('c', 'Arrow Left', [], 'arrow left'),
      item('d', 'cat'),
    ];
    expect(conceptQueries(items)).toEqual([
      { query: 'arrow left', right: ['a', 'b', 'c'] },
      { query: 'left arrow', right: ['a', 'b', 'c'] },
      { query: 'cat', right: ['d'] },
    ]);
    expect(captionQueries(items)[0]).toEqual({ query: 'arrow left', right: ['a', 'c'] });
    expect(oneOfEachCaption(items).map(({ image }: { image: string }) => image)).toEqual(['a', 'b', 'd']);
  });

  it('take pictures that look the same for the same', () => {
    const looks = new Map([
      ['a', 'x'],
      ['b', 'y'],
      ['c', 'x'],
    ]);
    expect(
      withSameLooks(
        [
          { query: 'q', right: ['a'] },
          { query: 'r', right: ['b'] },
        ],
        looks,
      ),
    ).toEqual([
      { query: 'q', right: ['a', 'c'] },
      { query: 'r', right: ['b'] },
    ]);
  });

  it('are written in the files that mome eval reads', async () => {
    const folder = await temporaryFolder();
    await mkdir(join(folder, 'pictures'));
    const lines = [];
    for (const [name, background] of [
      ['1', '#ff0000'],
      ['2', '#00ff00'],
      ['3', '#ff0000'],
    ] as const) {
      const image = `pictures/${name}.png`;
      await sharp({ create: { width: 8, height: 8, channels: 3, background } }).toFile(join(folder, image));
      lines.push(JSON.stringify(item(image, `caption ${name}`)));
    }
    await writeFile(join(folder, 'captions.jsonl'), `${lines.join('\n')}\n`);
    await writeQueries(folder, 'captions');
    expect(await readQueries(join(folder, 'queries.json'))).toEqual([
      { query: 'caption 1', right: ['pictures/1.png', 'pictures/3.png'] },
      { query: 'caption 2', right: ['pictures/2.png'] },
      { query: 'caption 3', right: ['pictures/1.png', 'pictures/3.png'] },
    ]);
  });

  it('compare words without case, accents and a plural', () => {
    expect(wordsOf('Piñatas, glass & buses')).toEqual(['pinata', 'glass', 'buse']);
  });
});

/** The corpus has packages of its own, which a clone need not have. */
const hasPackages = (() => {
  try {
    createRequire(join(packageRoot(), 'corpus', 'evaluate.mjs')).resolve('minisearch');
    return true;
  } catch {
    return false;
  }
})();

describe.skipIf(!hasPackages)('search by name (npm install in corpus)', () => {
  const run = (code: string): unknown => {
    const module = JSON.stringify(join(packageRoot(), 'corpus', 'evaluation', 'names.mjs'));
    const script = `import { searchByName } from ${module};\nprocess.stdout.write(JSON.stringify(${code}));`;
    return JSON.parse(execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' }));
  };

  it('finds names by their words, and nothing by others', () => {
    const pictures = `[['1', 'red car'], ['2', 'red apple'], ['3', 'fast red car'], ['4', 'dog']].map(([name, title]) => ({ name, title }))`;
    // The last two are planted errors: another right picture, and a query that no name has a word of.
    const asked = [
      ['a dog', '4'],
      ['red cars', '1'],
      ['red cars', '2'],
      ['it barks', '4'],
    ];
    const found = run(
      `${JSON.stringify(asked)}.map(([query, right]) => searchByName(${pictures}, [{ query, right: [right] }]).success.at1)`,
    );
    expect(found).toEqual([1, 1, 0, 0]);
  });
});

describe.skipIf(!hasPackages)('the evaluation', () => {
  it('names its rows and writes their table', () => {
    const module = (name: string) => JSON.stringify(join(packageRoot(), 'corpus', 'evaluation', name));
    const script = `import { rowsOf } from ${module('rows.mjs')};
      import { tableOf } from ${module('table.mjs')};
      const rows = rowsOf('test', { corpus: undefined, scenes: '/nowhere' });
      const metric = { dual: [0.5, 0.25], reranked: null, chance: 0.1, byName: 1 };
      const table = tableOf({ rows: [{ title: 'a', count: '4', metrics: { 'R@1': metric }, bound: 'b' }, { title: 'c', missing: 'no data' }] });
      process.stdout.write(JSON.stringify({ rows: rows.map(({ id, isThere }) => [id, isThere]), table }));`;
    const output = execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
    const { rows, table } = JSON.parse(output) as { rows: [string, boolean][]; table: string };
    expect(rows.filter(([, isThere]) => isThere).map(([id]) => id)).toEqual(['noto', 'natural']);
    expect(rows.map(([id]) => id)).toEqual(
      expect.arrayContaining([
        'noto',
        'family',
        'terms',
        'concepts',
        'openclipart',
        'natural',
        'questions',
        'statements',
      ]),
    );
    expect(table.split('\n')[2]).toBe('| a | 4 | R@1 | 0.500, 0.250 | - | 0.100 | 1.000 | - | b |');
    expect(table).toContain('| c | no data |');
  });
});
