/**
 * Statements about two scenes. Each sentence stands beside as many pairs where it is true as where it is false, so that a sentence alone says
 * nothing.
 */
import { colours } from './colours.mjs';
import { countColour, countKind } from './compose.mjs';
import { areAlike, kinds, withArticle } from './kinds.mjs';

const numbers = [
  'no',
  'one',
  'two',
  'three',
  'four',
  'five',
  'six',
  'seven',
  'eight',
  'nine',
  'ten',
  'eleven',
  'twelve',
];
/** Whether a scene shows something, or undefined where it shows what could be called so. */
function has({ objects }, noun) {
  if (objects.some((object) => object.noun === noun)) return true;
  return objects.some((object) => areAlike(object.noun, noun)) ? undefined : false;
}
/** Whether one of two is so, or both, where either may be unclear. */
const either = (one, other) => (one || other ? true : one === false && other === false ? false : undefined);
const both = (one, other) => (one === false || other === false ? false : one && other ? true : undefined);

/** A count in words: "two animals". */
function counted(count, kind) {
  if (count === 1) return `one ${kind === 'clothing' ? 'piece of clothing' : kind}`;
  return `${numbers[count]} ${kinds[kind].plural}`;
}

/** Ways to state something: each draws a sentence and says of a pair of scenes whether it is true, or undefined where that is not clear. */
const templates = [
  ({ kind, random }) => {
    const count = 1 + random.integer(3);
    return {
      sentence: `there are ${counted(count, kind)} in the left picture`.replace('are one', 'is one'),
      judge: (left) => countKind(left, kind) === count,
    };
  },
  ({ kind, random }) => {
    const count = 2 + random.integer(3);
    return {
      sentence: `there are ${counted(count, kind)} in total`,
      judge: (left, right) => countKind(left, kind) + countKind(right, kind) === count,
    };
  },
  ({ kind }) => ({
    sentence: `the right picture has more ${kinds[kind].plural} than the left one`,
    judge: (left, right) => countKind(right, kind) > countKind(left, kind),
  }),
  ({ kind }) => ({
    sentence: `both pictures have the same number of ${kinds[kind].plural}`,
    judge: (left, right) => countKind(left, kind) === countKind(right, kind),
  }),
  ({ noun }) => ({
    sentence: `one of the pictures shows ${withArticle(noun)}`,
    judge: (left, right) => either(has(left, noun), has(right, noun)),
  }),
  ({ noun }) => ({ sentence: `the left picture shows ${withArticle(noun)}`, judge: (left) => has(left, noun) }),
  ({ noun, colour }) => ({
    sentence: `the right picture shows ${withArticle(noun)} on ${withArticle(colour)} background`,
    judge: (_, right) => both(has(right, noun), right.background === colour),
    near: (_, right) => has(right, noun) === true || right.background === colour,
  }),
  ({ colour }) => ({
    sentence: `there is a ${colour} thing in both pictures`.replace('a orange', 'an orange'),
    judge: (left, right) => {
      const counts = [countColour(left, colour), countColour(right, colour)];
      return counts.includes(undefined) ? undefined : counts.every((count) => count > 0);
    },
  }),
  ({ colour }) => ({
    sentence: `the left picture has a ${colour} background and the right one has not`.replace('a orange', 'an orange'),
    judge: (left, right) => left.background === colour && right.background !== colour,
    near: (left, right) => left.background === colour || right.background === colour,
  }),
  () => ({
    sentence: 'the left picture has more things than the right one',
    judge: (left, right) => left.objects.length > right.objects.length,
  }),
  ({ random }) => {
    const count = 5 + random.integer(6);
    return {
      sentence: `there are ${numbers[count]} things in the two pictures together`,
      judge: (left, right) => left.objects.length + right.objects.length === count,
      near: (left, right) => Math.abs(left.objects.length + right.objects.length - count) <= 2,
    };
  },
];

/**
 * Sentences with pairs of scenes.
 *
 * @param scenes to choose from
 * @param count how many sentences; each has `pairs` true and `pairs` false pairs
 * @returns `{ sentence, template, left, right, isTrue }`, left and right being places in `scenes`
 */
export function statementsAbout(scenes, { count, pairs = 1, nouns, random }) {
  const statements = [];
  const seen = new Map();
  for (let tries = 0; statements.length < count * 2 * pairs; tries++) {
    if (tries > count * 20)
      throw new Error(`scenes: expected ${count} sentences, got ${statements.length / 2 / pairs}`);
    const template = tries % templates.length;
    const { sentence, judge, near } = templates[template]({
      random,
      kind: random.pick(Object.keys(kinds)),
      colour: random.pick(Object.keys(colours)),
      noun: random.pick(nouns),
    });
    // Sentences without a name in them are few: they come again, and again with as many true as false pairs.
    if ((seen.get(sentence) ?? 0) > count / 50) continue;
    const found = { true: [], false: [] };
    for (let draws = 0; draws < 4000 && (found.true.length < pairs || found.false.length < pairs); draws++) {
      const [left, right] = [random.integer(scenes.length), random.integer(scenes.length)];
      if (left === right) continue;
      const isTrue = judge(scenes[left], scenes[right]);
      if (isTrue === undefined || found[isTrue].length >= pairs) continue;
      // False pairs that are nearly true, where a template knows them: half of it must not be enough.
      if (!isTrue && near && draws < 2000 && !near(scenes[left], scenes[right])) continue;
      found[isTrue].push({ sentence, template, left, right, isTrue });
    }
    if (found.true.length < pairs || found.false.length < pairs) continue;
    seen.set(sentence, (seen.get(sentence) ?? 0) + 1);
    statements.push(...random.shuffle([...found.true, ...found.false]));
  }
  return statements;
}
