/** Which drawings the corpus has, and to which part each belongs. */
import { groupBy } from './files.mjs';
import { heldOutSets } from './licences.mjs';
import { conceptOf } from './names.mjs';
import { shareOf, shuffledBy, splitOfConcept } from './splits.mjs';

export const mostMonoOfConcept = 6;
export const heldOutClipart = 500;
const heldOutFurniture = 0.2;

/** Adds `concept` to drawings, and drops those without a word in their names. */
export function withConcepts(drawings) {
  return drawings.flatMap((drawing) => {
    const concept = conceptOf(drawing.name);
    const others = [...new Set(drawing.others)].filter(
      (name) => name !== drawing.name && conceptOf(name) !== undefined,
    );
    return concept === undefined || !/[a-z]{2}/.test(drawing.name) ? [] : [{ ...drawing, others, concept }];
  });
}

/**
 * One-colour icons: of concepts that have search words, or that several sets drew, at most some drawings, of as many sets as possible.
 *
 * @param tagged concepts with search words
 * @param whole sets that are taken whole
 */
export function selectMono(drawings, tagged, whole, most = mostMonoOfConcept) {
  const byConcept = groupBy(drawings, ({ concept }) => concept);
  const selected = [];
  for (const [concept, own] of byConcept) {
    const sets = groupBy(
      shuffledBy(own, ({ set, icon }) => `${set}:${icon}`),
      ({ set }) => set,
    );
    const isWanted = tagged.has(concept) || sets.size > 1;
    const taken = [];
    for (let round = 0; isWanted && round < 2; round++)
      for (const list of sets.values()) if (list[round] && taken.length < most) taken.push(list[round]);
    const others = own.filter((drawing) => whole.has(drawing.set) && !taken.includes(drawing));
    selected.push(...taken, ...others);
  }
  return selected;
}

/**
 * The part of each drawing: `train`, `validation/<name>` or `test/<name>`, or `near-copies` for held-out drawings of no test.
 *
 * @returns [part, drawings] by part
 */
export function splitDrawings(drawings) {
  const clipart = shuffledBy(
    drawings.filter(({ set }) => set === 'openclipart'),
    ({ icon }) => icon,
  );
  const heldOut = new Set(clipart.slice(0, heldOutClipart));
  return groupBy(drawings, (drawing) => (heldOut.has(drawing) ? 'test/openclipart' : partOf(drawing)));
}

function partOf({ set, icon, name, concept }) {
  const test = heldOutSets.get(set);
  if (test === 'style') return 'validation/style';
  if (test === 'fontawesome-other') return 'near-copies';
  if (test) return `test/${test}`;
  if (set === 'sweethome3d' && shareOf('furniture', icon) < heldOutFurniture) return 'test/furniture';
  if (set === 'pinhead' && name.split(' ').length >= 4 && shareOf('pinhead', icon) < 0.5) return 'test/pinhead';
  const split = splitOfConcept(concept);
  return split === 'train' ? 'train' : `${split}/concepts`;
}

/** Names of trade marks whose words are no others: the slugs of sets of logos that no dictionary knows. */
export function brandTest(slugs, isWord) {
  const brands = new Set(slugs.filter((slug) => slug.length > 2 && !isWord(slug)));
  return (name) => {
    const [first] = name.split(' ');
    return /\b(?:logo|brand)\b/.test(name) || brands.has(first) || brands.has(name.replace(/ /g, ''));
  };
}
