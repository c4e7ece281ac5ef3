/** Credits of the corpus in NOTICE.md. */
import { describe, expect, it } from 'vitest';
import { withNotice } from '../../../corpus/notice-table.mjs';
import { parseProperties } from '../../../corpus/sources/furniture.mjs';
import { readMetadata } from '../../../corpus/sources/openclipart.mjs';
import { addTags } from '../../../corpus/sources/tags.mjs';
import { parseSynset } from '../../../corpus/sources/wordnet.mjs';

const collections = {
  tabler: { name: 'Tabler Icons', author: { name: 'Paweł | Kuna' }, license: { spdx: 'MIT' } },
  noto: { name: 'Noto Emoji', author: { name: 'Google Inc' }, license: { spdx: 'Apache-2.0' } },
  arcticons: { name: 'Arcticons', author: { name: 'Donnnno' }, license: { spdx: 'CC-BY-SA-4.0' } },
};
const packageOf = (name: string) => ({
  version: '1.2.3',
  license: 'ISC',
  author: `Maker of ${name} <a@b.c> (https://b.c)`,
});

describe('the notice', () => {
  it('credits each set, and is replaced when it is written again', () => {
    const counts = { train: { tabler: 7 }, 'test/concepts': { tabler: 2 }, 'test/noto': { noto: 5 } };
    const once = withNotice('# Data\n\nOwn text.\n', counts, collections, packageOf);
    expect(once).toContain('Own text.');
    expect(once).toContain('| Tabler Icons | Paweł / Kuna | MIT | `@iconify/json` 1.2.3, `tabler` | 7 | 2 |');
    expect(once).toContain('| Noto Emoji | Google Inc | Apache-2.0 | `@iconify/json` 1.2.3, `noto` | 0 | 5 |');
    expect(once).toContain('| `lucide-static` 1.2.3 | Maker of lucide-static | ISC |');
    const twice = withNotice(`${once}after\n`, { ...counts, train: { tabler: 8 } }, collections, packageOf);
    expect(twice).toBe(`${once.replace('| 7 | 2 |', '| 8 | 2 |')}after\n`);
  });

  it('is refused for a set that trains under another licence', () => {
    expect(() => withNotice('', { train: { arcticons: 1 } }, collections, packageOf)).toThrow(
      'arcticons: expected a permissive licence, got CC-BY-SA-4.0',
    );
    expect(withNotice('', { 'test/noto': { arcticons: 1 } }, collections, packageOf)).toContain('Arcticons');
  });
});

describe('metadata of sources', () => {
  const svg = (licence: string, title: string, words: readonly string[]) => `<svg><metadata><rdf:RDF><cc:Work>
    <dc:title>${title}</dc:title><dc:subject><rdf:Bag>${words.map((word) => `<rdf:li>${word}</rdf:li>`).join('')}</rdf:Bag></dc:subject>
    <dc:creator><cc:Agent><dc:title>Jane Doe</dc:title></cc:Agent></dc:creator>
    <cc:license rdf:resource="http://web.resource.org/cc/${licence}"/></cc:Work></rdf:RDF></metadata></svg>`;

  it('of clip art are words in the public domain alone', () => {
    const own = readMetadata(
      svg('PublicDomain', 'Eiffel Tower 02', ['tower', 'Jane Doe', 'HASH(0x8a)', 'unsorted', 'city']),
    );
    expect(own).toEqual({ name: 'eiffel tower', tags: ['tower', 'city'] });
    expect(readMetadata(svg('by-sa', 'Eiffel Tower', ['tower']))).toBeUndefined();
    expect(readMetadata(svg('PublicDomain', '', ['tower']))).toBeUndefined();
    expect(readMetadata('<svg/>')).toBeUndefined();
  });

  it('of furniture are properties', () => {
    const own = parseProperties('# note\nid#1=A#b\nname#1=Wash\\u0062asin\ntags#1=x,\\\n  y\n\n');
    expect([...own]).toEqual([
      ['id#1', 'A#b'],
      ['name#1', 'Washbasin'],
      ['tags#1', 'x,y'],
    ]);
  });

  it('of icons join words by concept, without the name itself', () => {
    const tags = new Map();
    addTags(tags, 'laptop-charging', ['Battery', 'laptops charging', 'ibm cloud', 'power', 'x']);
    addTags(tags, 'charging laptop', ['plug']);
    expect([...tags].map(([concept, words]) => [concept, [...words]])).toEqual([
      ['charging laptop', ['battery', 'power', 'plug']],
    ]);
  });

  it('of a dictionary are words, what is above them, and the gloss without examples', () => {
    const line =
      '02887489 06 n 02 bottle_opener 0 screw(a) 0 002 @ 03853924 n 0000 ~ 03109150 n 0000 | an opener (of bottles) for caps; "he used it"  ';
    expect(parseSynset(line)).toEqual({
      offset: '02887489',
      words: ['bottle opener', 'screw'],
      gloss: 'an opener for caps',
      above: ['03853924'],
    });
    expect(parseSynset('  1 This software')).toBeUndefined();
  });
});
