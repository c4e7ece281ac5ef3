/**
 * The official accuracy of VQA: how many of ten people gave the same answer, after both are brought into one spelling.
 */

import { takeText, takeTexts } from '../runtime/arguments.ts';

/** Marks that are taken out, or become a space inside a word. */
const marks = [...';/[]"{}()=+\\_-><@`,?!'];
const digitCommaDigit = /\d,\d/;
const periodNotBeforeDigit = /\.(?!\d)/g;
/** The official code takes out so many periods of an answer at most. */
const mostPeriods = 32;

const numberWords = ['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten'];
const digits = new Map([
  ['none', '0'],
  ...numberWords.map((word, value): readonly [string, string] => [word, String(value)]),
]);
const articles = new Set(['a', 'an', 'the']);

/** Contractions whose apostrophes answers leave out. Those that would be another word without one, such as "we're", are not among them. */
const contractions = `
  ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's how'd how'll how's
  isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't needn't not've o'clock oughtn't shan't she'd've should've
  shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've
  something'll that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll
  what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't
  wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're you've 'ow's'at`;

/** Each contraction by its spellings with one apostrophe left out. The last one is the official code's own. */
const spellings = new Map([
  ...contractions
    .trim()
    .split(/\s+/)
    .flatMap((word) =>
      [...word.matchAll(/'/g)].map(({ index }): readonly [string, string] => [
        word.slice(0, index) + word.slice(index + 1),
        word,
      ]),
    ),
  ["somebody'd", 'somebodyd'] as const,
]);

/** An answer without white space around it. */
function trimmed(answer: string): string {
  return answer.replace(/[\n\t]/g, ' ').trim();
}

/**
 * An answer as the official evaluation compares it: lower case, without punctuation and articles, with digits for number words and
 * apostrophes in contractions.
 *
 * @see https://visualqa.org/evaluation.html
 */
export function normaliseAnswer(answer: string): string {
  const text = trimmed(takeText('normaliseAnswer', answer, 'answer'));
  let spaced = text;
  for (const mark of marks) {
    const isApart = text.includes(`${mark} `) || text.includes(` ${mark}`) || digitCommaDigit.test(text);
    spaced = spaced.replaceAll(mark, isApart ? '' : ' ');
  }
  let periods = 0;
  const words = spaced
    .replace(periodNotBeforeDigit, (period) => (periods++ < mostPeriods ? '' : period))
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== '')
    .map((word) => digits.get(word) ?? word)
    .filter((word) => !articles.has(word));
  return words.map((word) => spellings.get(word) ?? word).join(' ');
}

/**
 * The accuracy of an answer, 0 to 1: the mean over all people of min(1, others who gave it / 3). Where all people agree, spellings are compared
 * as they are.
 *
 * @param people the answer of each person; ten in VQA v2
 */
export function officialAccuracy(answer: string, people: readonly string[]): number {
  takeText('officialAccuracy', answer, 'answer');
  const given = takeTexts('officialAccuracy', people, 'answers', 'answer').map(trimmed);
  const agree = new Set(given).size === 1;
  const own = agree ? trimmed(answer) : normaliseAnswer(answer);
  const matches = (agree ? given : given.map(normaliseAnswer)).filter((each) => each === own).length;
  // Whoever gave the answer has one other less.
  const withoutOwn = Math.min(1, (matches - 1) / 3);
  const withoutAnother = Math.min(1, matches / 3);
  return people.length === 0
    ? 0
    : (matches * Math.max(0, withoutOwn) + (people.length - matches) * withoutAnother) / people.length;
}

/** How right an answer is in training that so many of ten people gave: the soft targets of the original. */
export function softScore(people: number): number {
  return [0, 0.3, 0.6, 0.9][people] ?? 1;
}
