/**
 * Questions about a scene with their true answers, from templates. Where people could disagree, such as about a drawing of two colours, nothing
 * is asked.
 */
import { colours, hasColour } from './colours.mjs';
import { countColour, countKind, objectAt, objectsBeside, placeOf } from './compose.mjs';
import { areAlike, kinds, withArticle } from './kinds.mjs';

const kindNames = Object.keys(kinds);
const colourNames = Object.keys(colours);
const sides = { left: 'on the left', right: 'on the right', top: 'at the top', bottom: 'at the bottom' };
const directions = ['left of', 'right of', 'above', 'below'];

/** Types of answers as VQA v2 names them. */
const typeOf = (answer) => (/^(yes|no)$/.test(answer) ? 'yes/no' : /^\d+$/.test(answer) ? 'number' : 'other');

/**
 * All questions that a scene answers.
 *
 * @param scene of `composeScene`
 * @param nouns all names that may be asked for; names outside this list are neither asked for nor answers
 * @param random draws what is asked for in vain
 * @returns `{ template, question, answer, type }`
 */
export function questionsAbout(scene, nouns, random) {
  const { objects, background } = scene;
  const found = [];
  const add = (template, question, answer) => found.push({ template, question, answer, type: typeOf(answer) });
  const named = objects.filter((object) => object.named);
  const absent = () => {
    for (let tries = 0; tries < 50; tries++) {
      const noun = random.pick(nouns);
      if (!objects.some((object) => areAlike(object.noun, noun))) return noun;
    }
    return undefined;
  };

  add('count', 'how many things are there?', `${objects.length}`);
  add('background', 'what colour is the background?', background);
  for (const kind of kindNames)
    add('count kind', `how many ${kinds[kind].plural} are there?`, `${countKind(scene, kind)}`);
  for (const colour of colourNames) {
    const count = countColour(scene, colour);
    if (count === undefined) continue;
    add('count colour', `how many ${colour} things are there?`, `${count}`);
    const own = objects.filter((object) => hasColour(object.shares, colour));
    if (count === 1 && own[0].named) add('what is colour', `what is ${colour}?`, own[0].noun);
    if (count === 1) add('kind of colour', `what kind of thing is ${colour}?`, own[0].kind);
    if (count === 1 && placeOf(own[0])) add('where is colour', `where is the ${colour} thing?`, placeOf(own[0]));
  }
  for (const object of named) {
    const { noun, colour } = object;
    if (colour) add('colour of', `what colour is the ${noun}?`, colour);
    const place = placeOf(object);
    if (place) add('where', `where is the ${noun}?`, place);
    for (const direction of directions) {
      const beside = objectsBeside(scene, object, direction);
      if (beside?.length === 1 && beside[0].named)
        add('what is beside', `what is ${direction} the ${noun}?`, beside[0].noun);
      if (beside?.length === 1) add('kind beside', `what kind of thing is ${direction} the ${noun}?`, beside[0].kind);
    }
    add('is there', `is there ${withArticle(noun)}?`, 'yes');
    for (const other of named) {
      if (other === object) continue;
      const direction = random.pick(directions);
      const beside = objectsBeside(scene, other, direction);
      if (beside)
        add('is beside', `is the ${noun} ${direction} the ${other.noun}?`, beside.includes(object) ? 'yes' : 'no');
    }
  }
  const missing = absent();
  if (missing) add('is there', `is there ${withArticle(missing)}?`, 'no');
  for (const [side, words] of Object.entries(sides)) {
    const object = objectAt(scene, side);
    if (!object) continue;
    if (object.named) add('what is at', `what is ${words}?`, object.noun);
    add('kind at', `what kind of thing is ${words}?`, object.kind);
    if (object.colour) add('colour at', `what colour is the thing ${words}?`, object.colour);
  }
  for (const kind of kindNames) {
    const own = objects.filter((object) => object.kind === kind);
    if (own.length !== 1) continue;
    if (own[0].named) add('which', `which ${kind} is there?`, own[0].noun);
    if (own[0].colour) add('colour of kind', `what colour is the ${kind}?`, own[0].colour);
    if (placeOf(own[0])) add('where is kind', `where is the ${kind}?`, placeOf(own[0]));
  }
  const present = kindNames.filter((kind) => countKind(scene, kind) > 0);
  const [first, second] = random.shuffle(random.chance(0.7) ? [...present] : [...kindNames]);
  for (const [one, other] of first && second
    ? [
        [first, second],
        [second, first],
      ]
    : []) {
    const more = countKind(scene, one) > countKind(scene, other);
    add('more', `are there more ${kinds[one].plural} than ${kinds[other].plural}?`, more ? 'yes' : 'no');
  }
  return found;
}

/**
 * Chooses questions so that the answers of each template stay even: of the templates the one with the fewest questions, and in it the question
 * with the rarest answer. A question whose answer is already frequent is not asked.
 */
export class Balance {
  #counts = new Map();

  /** @returns at most `count` of the questions, no two of one text */
  choose(questions, count, random) {
    const chosen = [];
    const left = new Map();
    for (const question of random.shuffle([...questions])) {
      const list = left.get(question.template) ?? [];
      list.push(question);
      left.set(question.template, list);
    }
    while (chosen.length < count && left.size > 0) {
      const template = [...left.keys()].reduce((a, b) => (this.#total(b) < this.#total(a) ? b : a));
      const list = left.get(template);
      left.delete(template);
      const question = list.reduce((a, b) => (this.#countOf(b) < this.#countOf(a) ? b : a));
      if (!this.#isRare(question)) continue;
      const counts = this.#counts.get(template) ?? new Map();
      counts.set(question.answer, this.#countOf(question) + 1);
      this.#counts.set(template, counts);
      chosen.push(question);
    }
    return chosen;
  }

  #total(template) {
    return [...(this.#counts.get(template)?.values() ?? [])].reduce((sum, count) => sum + count, 0);
  }

  #countOf({ template, answer }) {
    return this.#counts.get(template)?.get(answer) ?? 0;
  }

  /** Whether an answer would still be hardly more frequent than the others of its template. */
  #isRare(question) {
    const counts = this.#counts.get(question.template);
    if (counts === undefined) return true;
    // (Answers that have not come up yet count as one: yes and no come up at once.)
    const mean = this.#total(question.template) / Math.max(2, counts.size);
    return this.#countOf(question) <= (question.type === 'yes/no' ? mean + 1 : mean * 1.25 + 2);
  }
}

/**
 * Accuracy of the best answers without the picture, which are learned from the training questions: the most frequent answer of each
 * template, and of each text where the text was asked in training (else of its template).
 *
 * @param training questions with `template`, `question`, `answer`
 * @param asked the same, to be answered
 */
export function withoutPicture(training, asked) {
  const most = (keyOf) => {
    const counts = new Map();
    for (const question of training) {
      const key = keyOf(question);
      const own = counts.get(key) ?? new Map();
      own.set(question.answer, (own.get(question.answer) ?? 0) + 1);
      counts.set(key, own);
    }
    return new Map([...counts].map(([key, own]) => [key, [...own].reduce((a, b) => (b[1] > a[1] ? b : a))[0]]));
  };
  const byTemplate = most(({ template }) => template);
  const byText = most(({ question }) => question);
  const share = (isRight) => asked.filter(isRight).length / Math.max(1, asked.length);
  return {
    byTemplate: share(({ template, answer }) => byTemplate.get(template) === answer),
    byText: share(({ template, question, answer }) => (byText.get(question) ?? byTemplate.get(template)) === answer),
  };
}
