import { describe, expect, it } from 'vitest';
import { askedOf, clausesOf } from '../../../corpus/asked.mjs';
import { randomOf } from '../../../corpus/captions.mjs';
import { contentWords } from '../../../corpus/lexicon.mjs';

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
    const drawing = { name: 'spoon', others: [], tags: ['eat', 'kitchen'] };
    const many = Array.from({ length: 20 }, (_, i) => askedOf(drawing, ['plain'], lexicon, randomOf(i))).flat();
    expect(many.length).toBe(480);
    expect(many.filter((text) => text === 'plain').length / 480).toBeCloseTo(0.45, 1);
    expect(many).toContain('something used to stir or serve food');
    expect(many).toContain('he ate his soup with a spoon');
    expect(many).toContain('something to eat with');
    expect(many.some((text) => /\bkitchen\b/.test(text))).toBe(true);
    // A verb stands in no phrase of nouns.
    expect(many.filter((text) => /\b(?:my|some) eat\b/.test(text))).toEqual([]);
    expect(many.filter((text) => /[NVAMD]/.test(text))).toEqual([]);
    expect(many.filter((text) => /\ba [aeiou]/.test(text))).toEqual([]);
  });

  it('are the same for the same seed', () => {
    const drawing = { name: 'spoon', others: ['ladle'], tags: ['eat'] };
    const made = () => askedOf(drawing, ['plain'], lexicon, randomOf(7));
    expect(made()).toEqual(made());
  });

  it('tell content words from small ones', () => {
    expect(contentWords('It is used for the Spoons of a kitchen')).toEqual(['spoon', 'kitchen']);
  });
});
