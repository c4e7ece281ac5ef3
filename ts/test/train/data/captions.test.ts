import { describe, expect, it } from 'vitest';
import {
  captionDefaults,
  captionLabelOnly,
  duplicateLabels,
  evaluationCaption,
  sampleCaption,
} from '../../../src/train/data/captions.ts';
import { createRandom } from '../../../src/train/random.ts';

const cat = { label: 'Grinning  Cat', tags: ['animal', 'smile', 'Mouth'] };
const off = { label: 0, labelAndTags: 0, tags: 0, template: 0, mostTags: 5 };

describe('sampleCaption', () => {
  it('is decided by the generator and varied', () => {
    const draw = () => Array.from({ length: 200 }, (_, at) => sampleCaption(cat, createRandom(3, at)));
    expect(draw()).toEqual(draw());
    const kinds = new Set(draw());
    expect(kinds.size).toBeGreaterThan(20);
    expect(kinds).toContain('grinning cat');
    expect(kinds).toContain('a drawing of grinning cat');
    for (const caption of kinds) expect(caption).toMatch(/^[a-z]([a-z, :]*[a-z])?$/);
  });

  it('makes each kind alone', () => {
    const random = createRandom(1);
    for (let round = 0; round < 50; round++) {
      expect(sampleCaption(cat, random, captionLabelOnly)).toBe('grinning cat');
      expect(sampleCaption(cat, random, { ...off, labelAndTags: 1 })).toMatch(
        /^grinning cat(, (animal|smile|mouth)){1,3}$/,
      );
      expect(sampleCaption(cat, random, { ...off, labelAndTags: 1, mostTags: 1 })).toMatch(/^grinning cat, \w+$/);
      expect(sampleCaption(cat, random, { ...off, tags: 1 })).toMatch(
        /^(animal|smile|mouth)(,? (animal|smile|mouth)){1,2}$/,
      );
      expect(sampleCaption(cat, random, { ...off, template: 1 })).toMatch(/.grinning cat$|^grinning cat./);
    }
  });

  it('falls back on the label where there are no tags', () => {
    const bare = { label: 'cat', tags: [] };
    expect(sampleCaption(bare, createRandom(1), { ...off, tags: 1 })).toBe('cat');
    expect(sampleCaption(bare, createRandom(1), { ...off, labelAndTags: 1 })).toBe('cat');
  });

  it('draws the kinds as often as their weights say', () => {
    const random = createRandom(5);
    let labels = 0;
    for (let round = 0; round < 10_000; round++) if (sampleCaption(cat, random) === 'grinning cat') labels++;
    expect(labels / 10_000).toBeCloseTo(captionDefaults.label, 1);
  });

  it('refuses weights that name no caption', () => {
    for (const options of [off, { ...captionDefaults, tags: -1 }, { ...captionDefaults, mostTags: 0 }]) {
      expect(() => sampleCaption(cat, createRandom(1), options)).toThrow(
        expect.objectContaining({ code: 'MOME_INVALID_ARGUMENT' }),
      );
    }
  });
});

describe('evaluation captions', () => {
  it('are the labels as they stand', () => {
    expect(evaluationCaption(cat)).toBe('Grinning  Cat');
  });

  it('finds labels that a tokeniser cannot tell apart', () => {
    const entries = ['Réunion', 'cat', 'reunion', 'cat: one'].map((label) => ({ label, tags: [] }));
    expect(duplicateLabels(entries)).toEqual([{ label: 'reunion', indices: [0, 2] }]);
  });
});
