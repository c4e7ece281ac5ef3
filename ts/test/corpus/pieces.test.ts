/** The pieces of the corpus that could be wrong without anybody seeing it: names, licences, splits, near-copies, captions. */
import { describe, expect, it } from 'vitest';
import { captionsOf, randomOf } from '../../../corpus/captions.mjs';
import { isPermissive, reasonToLeaveOut } from '../../../corpus/licences.mjs';
import { conceptOf, plainName, singular, withoutNumber, withoutStyles } from '../../../corpus/names.mjs';
import { NearCopies, thumbnailOf } from '../../../corpus/near-copies.mjs';
import { brandTest, selectMono, splitDrawings, withConcepts } from '../../../corpus/select.mjs';
import { splitOfConcept } from '../../../corpus/splits.mjs';

const drawing = (set: string, name: string, icon = name.replaceAll(' ', '-')) => ({
  set,
  icon,
  name,
  kind: 'mono',
  others: [] as string[],
  tags: [] as string[],
});

describe('names', () => {
  it('are words in lower case without numbers that tell nothing', () => {
    expect(plainName('arrowDown_2-Left')).toBe('arrow down 2 left');
    expect(plainName('  Café “Eiffel”  ')).toBe('cafe eiffel');
    expect(withoutNumber('home 2')).toBe('home');
    expect(withoutNumber('battery 50')).toBe('battery 50');
    expect(withoutNumber('7')).toBe('7');
  });

  it('of one concept are told by their words alone', () => {
    expect(conceptOf('arrow left')).toBe(conceptOf('Left-Arrows'));
    expect(conceptOf('flag of oman')).toBe(conceptOf('flag: Oman'));
    expect(conceptOf('book with bookmark')).toBe('book bookmark');
    expect(conceptOf('arrow left')).not.toBe(conceptOf('arrow right'));
    expect(conceptOf('!?')).toBeUndefined();
    expect(['berries', 'boxes', 'glasses', 'people', 'bus', 'mice', 'cherries', 'houses'].map(singular)).toEqual(
      'berry box glasses person bus mouse cherry house'.split(' '),
    );
  });

  it('lose what says how an icon is drawn, and no more', () => {
    const own = withoutStyles(['home', 'home-bold', 'traffic-light', 'sun-light', 'sun'], ['bold', 'light']);
    expect(Object.fromEntries(own)).toEqual({
      home: 'home',
      'home-bold': 'home',
      'traffic-light': 'traffic-light',
      'sun-light': 'sun',
      sun: 'sun',
    });
    const generic = withoutStyles(['cup-24-filled', 'cup-24-outline', 'night-light']);
    expect([...generic.values()]).toEqual(['cup', 'cup', 'night-light']);
  });
});

describe('licences', () => {
  it('are those that ask to be named alone', () => {
    const info = (spdx: string, more = {}) => ({ license: { spdx }, category: 'UI 24px', ...more });
    expect(['MIT', 'Apache-2.0', 'CC0-1.0', 'CC-BY-4.0', 'ISC'].every(isPermissive)).toBe(true);
    for (const spdx of ['GPL-2.0-only', 'CC-BY-SA-4.0', 'CC-BY-NC-4.0', 'CC-BY-NC-SA-4.0', 'OFL-1.1', 'MPL-2.0', ''])
      expect(isPermissive(spdx)).toBe(false);
    expect(isPermissive(undefined)).toBe(false);
    expect(reasonToLeaveOut('tabler', info('MIT'))).toBeUndefined();
    expect(reasonToLeaveOut('openmoji', info('CC-BY-SA-4.0'))).toContain('CC-BY-SA');
    for (const set of [
      'noto',
      'fluent-color',
      'healthicons',
      'fa7-solid',
      'fa6-solid',
      'fa',
      'la',
      'noto-v1',
      'fa6-brands',
    ])
      expect(reasonToLeaveOut(set, info('MIT'))).toBeDefined();
    expect(reasonToLeaveOut('logos', info('CC0-1.0', { category: 'Logos' }))).toBe('logos');
    expect(reasonToLeaveOut('old', info('MIT', { hidden: true }))).toBeDefined();
  });

  it('leave out trade marks, but no words', () => {
    const isBrand = brandTest(['github', 'apple', 'vscode'], (word: string) => word === 'apple');
    expect(['github', 'github circle', 'vs code', 'brand x', 'apple logo'].map(isBrand)).toEqual(Array(5).fill(true));
    expect(['apple', 'apple juice', 'code'].map(isBrand)).toEqual([false, false, false]);
  });
});

describe('splits', () => {
  const names = Array.from({ length: 4000 }, (_, i) => `thing${i} part`);

  it('hold out a tenth of the concepts of every set, and the same ones', () => {
    const drawings = withConcepts(['tabler', 'twemoji'].flatMap((set) => names.map((name) => drawing(set, name))));
    const parts = splitDrawings(drawings);
    const conceptsOf = (part: string) =>
      new Set((parts.get(part) ?? []).map(({ concept }: { concept: string }) => concept));
    const [train, test, validation] = ['train', 'test/concepts', 'validation/concepts'].map(conceptsOf);
    expect(test!.size / names.length).toBeCloseTo(0.1, 1.5);
    expect(validation!.size / names.length).toBeCloseTo(0.03, 1.5);
    expect([...test!, ...validation!].filter((concept) => train!.has(concept))).toEqual([]);
    for (const [part, own] of parts) expect(own.length, part).toBe(2 * conceptsOf(part).size);
    // Words in another order, and the plural, are the same concept and lie on the same side.
    for (const name of names.slice(0, 200))
      expect(splitOfConcept(conceptOf(`part of ${name.split(' ')[0]}`))).toBe(splitOfConcept(conceptOf(name)));
  });

  it('keep sets that are held out away from training', () => {
    const sets = ['noto', 'fluent-color', 'healthicons', 'fa7-solid', 'fa6-regular', 'la', 'fxemoji'];
    const parts = splitDrawings(
      withConcepts(sets.flatMap((set) => names.slice(0, 50).map((name) => drawing(set, name)))),
    );
    expect([...parts.keys()].sort()).toEqual(
      ['near-copies', 'test/family', 'test/fontawesome', 'test/noto', 'validation/style'].sort(),
    );
    const clipart = withConcepts(names.slice(0, 700).map((name) => drawing('openclipart', name)));
    expect(splitDrawings(clipart).get('test/openclipart')).toHaveLength(500);
    const glyphs = withConcepts(names.slice(0, 400).map((name) => drawing('pinhead', `${name} beside another`)));
    const held = splitDrawings(glyphs).get('test/pinhead').length;
    expect(held).toBeGreaterThan(150);
    expect(held).toBeLessThan(250);
  });

  it('take at most six drawings of a concept, of as many sets as there are', () => {
    const sets = ['a', 'b', 'c', 'd'];
    const many = withConcepts(sets.flatMap((set) => [1, 2, 3].map((i) => drawing(set, 'cup', `cup-${i}`))));
    const own = selectMono(many, new Map([['cup', new Set()]]), new Set());
    expect(own).toHaveLength(6);
    expect(new Set(own.map(({ set }: { set: string }) => set)).size).toBe(4);
    const one = withConcepts([drawing('a', 'strange thing')]);
    expect(selectMono(one, new Map(), new Set())).toHaveLength(0);
    expect(selectMono(one, new Map(), new Set(['a']))).toHaveLength(1);
  });
});

describe('near-copies', () => {
  const size = 48;
  /** A ring in a colour, at a place and of a size, with a gap at an angle. */
  function ring({ x = 24, y = 24, radius = 14, gap = 0, colour = [0, 0, 0] } = {}): Uint8Array {
    const pixels = new Uint8Array(size * size * 4);
    for (let at = 0; at < size * size; at++) {
      const [dx, dy] = [(at % size) - x, Math.floor(at / size) - y];
      const inside = Math.abs(Math.hypot(dx, dy) - radius * 0.8) < radius * 0.2;
      const turned = Math.abs(Math.atan2(dy, dx) - gap) < 0.5;
      if (inside && !turned) pixels.set([...colour, 255], at * 4);
    }
    return pixels;
  }
  const thumbnail = (options = {}) => thumbnailOf(ring(options), size)!;

  it('are found in another place and size, and not among other drawings', () => {
    const copies = new NearCopies();
    copies.add(thumbnail(), 'ring', 'first');
    expect(copies.find(thumbnail(), 'ring')).toBe('first');
    expect(copies.find(thumbnail({ x: 20, y: 27, radius: 19 }), 'ring')).toBe('first');
    expect(copies.find(thumbnail({ gap: 1.6 }), 'ring')).toBeUndefined();
    expect(copies.find(thumbnail({ colour: [255, 0, 0] }), 'ring')).toBeUndefined();
    // Of another concept a copy has to be nearer.
    expect(copies.find(thumbnail(), 'circle')).toBe('first');
    expect(thumbnailOf(new Uint8Array(size * size * 4), size)).toBeUndefined();
  });
});

describe('captions', () => {
  it('come from words of the drawing alone, the same each time', () => {
    const own = { name: 'corkscrew', others: ['bottle screw'], tags: ['wine', 'opener'], kind: 'emoji' };
    const meaning = { gloss: 'a bottle opener that pulls corks', synonyms: ['bottle screw'], kinds: ['opener'] };
    const captions = captionsOf(own, meaning, randomOf(3));
    expect(captions).toEqual(captionsOf(own, meaning, randomOf(3)));
    expect(captions).not.toEqual(captionsOf(own, meaning, randomOf(4)));
    expect(captions.length).toBeGreaterThanOrEqual(16);
    expect(captions).toContain(meaning.gloss);
    expect(captions.every((caption) => /corkscrew|bottle screw|wine|opener/.test(caption))).toBe(true);
    const bare = captionsOf({ name: 'cork', others: [], tags: [], kind: 'mono' }, undefined, randomOf(1));
    expect(bare.every((caption) => caption.includes('cork'))).toBe(true);
  });
});
