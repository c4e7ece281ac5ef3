/** All drawings that the corpus may have, with their words. */
import { reasonToLeaveOut } from './licences.mjs';
import { plainName } from './names.mjs';
import { brandTest, selectMono, withConcepts } from './select.mjs';
import { emojiDrawings, emojiSets, readEmojiNames, shadedEmoji } from './sources/emoji.mjs';
import { flagDrawings, flagSets } from './sources/flags.mjs';
import { fontAwesomeTerms } from './sources/font-awesome.mjs';
import { furniture } from './sources/furniture.mjs';
import { iconDrawings, readCollections, readIcons } from './sources/iconify.mjs';
import { clipart } from './sources/openclipart.mjs';
import { addTags, readTags } from './sources/tags.mjs';
import { readWordNet } from './sources/wordnet.mjs';

/** Sets of one colour that are taken whole: concrete things, and names that say how things stand together. */
const wholeSets = new Set(['game-icons', 'pinhead']);
/** Held-out sets of icons. */
const heldOutIcons = [
  'fluent-color',
  'healthicons',
  'fa7-solid',
  'fa7-regular',
  'fa6-solid',
  'fa6-regular',
  'fa-solid',
  'fa-regular',
  'fa',
  'la',
];

/** @returns drawings with concepts, search words by concept, WordNet, and why sets were left out */
export async function readSources(packages, debian, log) {
  const { glosses, meanings } = readWordNet(packages);
  const words = new Set(glosses.flatMap(([own]) => own));
  const tags = await readTags(packages);
  const emojiNames = readEmojiNames(packages);
  const collections = Object.entries(readCollections(packages));
  const logos = collections.filter(([, { category }]) => category === 'Logos').map(([set]) => set);
  const isBrand = brandTest(
    ['simple-icons', 'logos', 'cib', 'bxl', 'fa7-brands']
      .filter((set) => logos.includes(set))
      .flatMap((set) => readIcons(packages, set).map(({ icon }) => plainName(icon).replace(/ /g, ''))),
    (word) => words.has(word),
  );
  const special = new Set([...emojiSets.colour, ...emojiSets.mono, ...flagSets, ...heldOutIcons]);
  const leftOut = {};
  const mono = [];
  const drawings = [];
  for (const [set, info] of collections) {
    const reason = reasonToLeaveOut(set, info);
    if (reason) leftOut[set] = reason;
    if (reason || special.has(set)) continue;
    const own = iconDrawings(packages, set, info.palette ? 'colour' : 'mono').filter(({ name }) => !isBrand(name));
    (info.palette ? drawings : mono).push(...own);
  }
  const emoji = [...emojiSets.colour, ...emojiSets.mono].flatMap((set) => emojiDrawings(packages, set, emojiNames));
  drawings.push(...emoji, ...shadedEmoji(packages, emojiNames));
  for (const set of flagSets) drawings.push(...flagDrawings(packages, set));
  drawings.push(...clipart(debian), ...(await furniture(debian)));
  const terms = fontAwesomeTerms(packages);
  for (const set of heldOutIcons)
    for (const drawing of iconDrawings(packages, set, set === 'fluent-color' ? 'colour' : 'mono'))
      drawings.push(set === 'fa7-solid' ? { ...drawing, ...terms.get(drawing.icon) } : drawing);
  log(
    `${drawings.length} drawings in colour or held out, ${mono.length} of one colour, ${tags.size} concepts with search words`,
  );
  for (const { name, tags: own } of emoji) addTags(tags, name, own);
  const selected = selectMono(withConcepts(mono), tags, wholeSets);
  return { drawings: [...withConcepts(drawings), ...selected], tags, meanings, glosses, leftOut };
}
