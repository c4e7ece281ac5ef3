/**
 * Checks and copies the arguments of a trainer before any work.
 */
import { gridOf, type VlmoConfig } from '../architecture/config.ts';
import { type Objective, objectiveNames } from '../model/objectives.ts';
import {
  describe,
  isObject,
  type Kinds,
  kinds,
  oneOf,
  takeFields,
  takeList,
  takeOptions,
} from '../runtime/arguments.ts';
import type { EngineOptions } from '../runtime/engine.ts';
import { check, MomeError } from '../runtime/errors.ts';
import { type AnswerTargets, objectiveNeeds, type TrainingBatch } from './objectives/step.ts';
import type { Schedule } from './schedule.ts';
import type { TrainerOptions } from './trainer.ts';

const where = 'trainer';
const atLeastZero = {
  expected: 'a number of at least 0',
  accepts: (value: unknown) => Number.isFinite(value) && Number(value) >= 0,
};

const trainerKinds: Kinds<TrainerOptions> = {
  objectives: {
    expected: `a list of ${objectiveNames.join(', ')}`,
    accepts: (value) => Array.isArray(value) && value.every((each) => objectiveNames.includes(each)),
  },
  lossWeights: kinds.object,
  schedule: kinds.object,
  betas: {
    expected: 'two numbers from 0 to below 1',
    accepts: (value) => Array.isArray(value) && value.length === 2 && value.every((beta) => beta >= 0 && beta < 1),
  },
  eps: kinds.number,
  weightDecay: kinds.number,
  clipNorm: kinds.number,
  accumulate: kinds.count,
  microBatch: kinds.count,
  processGroup: kinds.object,
  trainable: kinds.callback,
  maxLogitScale: { expected: 'a number', accepts: (value) => typeof value === 'number' && !Number.isNaN(value) },
  headRate: atLeastZero,
  decayRule: oneOf(['vlmo', 'beit']),
  precision: oneOf(['float32', 'bfloat16']),
  seed: kinds.number,
  groups: kinds.flag,
  vlBranch: kinds.flag,
  fusedPairs: kinds.count,
  negativeSharpness: kinds.number,
  maskProbability: kinds.number,
  maskedPatchShare: {
    expected: 'a share above 0, at most 1',
    accepts: (value) => typeof value === 'number' && value > 0 && value <= 1,
  },
  textDropout: kinds.number,
  masking: oneOf(['words', 'budget']),
  dropPath: kinds.number,
  dropExpertsApart: kinds.flag,
  checkpointActivations: kinds.flag,
};

const scheduleKinds: Kinds<Schedule> = {
  learningRate: kinds.number,
  totalSteps: kinds.size,
  warmupSteps: {
    expected: 'a whole number of at least 0, or a share below 1',
    accepts: (value) =>
      Number.isFinite(value) && Number(value) >= 0 && (Number(value) < 1 || Number.isSafeInteger(value)),
  },
  decay: oneOf(['polynomial', 'cosine', 'constant']),
  decayPower: kinds.number,
  endLearningRate: kinds.number,
};

const engineKinds: Kinds<Pick<EngineOptions, 'threads' | 'target'>> = { threads: kinds.count, target: kinds.text };

/** @throws MomeError `MOME_INVALID_ARGUMENT` for a value of another kind, an option that a trainer does not have, or one that is missing */
export function takeTrainerOptions(
  config: VlmoConfig,
  parameters: ReadonlyMap<string, Float32Array>,
  given: TrainerOptions,
  engine: Pick<EngineOptions, 'threads' | 'target'> | undefined,
): { readonly options: TrainerOptions; readonly engineOptions: Pick<EngineOptions, 'threads' | 'target'> } {
  check(isObject(config), 'MOME_INVALID_ARGUMENT', `${where}: expected a configuration, got ${describe(config)}`);
  check(
    isObject(parameters) && typeof parameters.get === 'function',
    'MOME_INVALID_ARGUMENT',
    `${where}: expected parameters as a Map, got ${describe(parameters)}`,
  );
  const taken = takeFields<TrainerOptions>(where, 'options', given, trainerKinds);
  const schedule = takeFields<Schedule>(where, 'schedule', taken.schedule, scheduleKinds);
  for (const name of ['learningRate', 'totalSteps', 'warmupSteps', 'decay'] as const)
    check(schedule[name] !== undefined, 'MOME_INVALID_ARGUMENT', `${where}: expected schedule.${name}, got nothing`);
  check(
    taken.objectives !== undefined && taken.objectives.length > 0,
    'MOME_INVALID_ARGUMENT',
    `${where}: expected at least one objective, got none`,
  );
  checkObjectives(taken.objectives);
  check(
    !taken.objectives.includes('mim') || config.visualTokens !== undefined,
    'MOME_INVALID_ARGUMENT',
    `${where}: expected a configuration with visualTokens for "mim", whose head predicts them, got one without`,
  );
  check(
    !taken.objectives.includes('mim') || gridOf(config) >= 2,
    'MOME_INVALID_ARGUMENT',
    `${where}: expected pictures of at least 2 x 2 patches for "mim", got ${config.imageSize} pixels by patches of ${config.patchSize}`,
  );
  const weightKinds = Object.fromEntries(objectiveNames.map((name) => [name, atLeastZero])) as Kinds<
    Required<TrainerOptions>['lossWeights']
  >;
  const lossWeights = taken.lossWeights && takeFields(where, 'lossWeights', taken.lossWeights, weightKinds);
  const { objectives } = taken;
  const idle = Object.keys(lossWeights ?? {}).find((name) => !objectives.includes(name as Objective));
  check(
    idle === undefined,
    'MOME_INVALID_ARGUMENT',
    `${where}: expected lossWeights of the objectives ${objectives.join(', ')}, got one of ${idle}`,
  );
  return {
    options: {
      ...taken,
      schedule,
      objectives: [...taken.objectives],
      ...(lossWeights && { lossWeights }),
    } as TrainerOptions,
    engineOptions: takeOptions(where, engine, engineKinds),
  };
}

/** @throws MomeError `MOME_INVALID_ARGUMENT` for objectives that cannot be trained by the same step */
function checkObjectives(objectives: readonly Objective[]): void {
  const has = (objective: Objective) => objectives.includes(objective);
  check(
    !has('itm') || has('itc') || has('irtr'),
    'MOME_INVALID_ARGUMENT',
    `${where}: expected "itc" or "irtr" beside "itm", whose hard negatives it chooses, got "itm" without`,
  );
  check(
    !(has('itc') && has('irtr')),
    'MOME_INVALID_ARGUMENT',
    `${where}: expected one of "itc" and "irtr", which compare the same embeddings, got both`,
  );
  const needs = objectives.map((objective) => objectiveNeeds[objective]).filter(({ withoutTexts }) => !withoutTexts);
  const counts = new Set(needs.map(({ picturesPerText }) => picturesPerText).filter((n) => n > 0));
  check(
    counts.size < 2,
    'MOME_INVALID_ARGUMENT',
    `${where}: expected objectives that read as many pictures for each text, got "nlvr2", which reads two, beside others that read one`,
  );
}

/**
 * A batch that is no longer the caller's: a step reads it more than once.
 *
 * @throws MomeError `MOME_INVALID_ARGUMENT` for another kind of value, `MOME_INVALID_SHAPE` for pixels, groups, answers, truth or visual
 *   tokens that do not fit the texts or pictures
 */
export function takeBatch(batch: TrainingBatch, config: VlmoConfig, options: TrainerOptions): TrainingBatch {
  const anything = { expected: 'there', accepts: () => true };
  const known = {
    bytes: anything,
    texts: anything,
    groups: anything,
    answers: anything,
    truth: anything,
    visualTokens: anything,
  };
  const taken = takeFields<TrainingBatch>(where, 'batch', batch, known);
  const { bytes, texts: given, groups, answers, truth, visualTokens } = taken;
  const texts = takeList(where, given, 'texts as Int32Arrays', 'text').map((text, index) => {
    if (text instanceof Int32Array) return text.slice();
    const message = `${where}: text ${index}: expected an Int32Array of ids, got ${describe(text)}`;
    throw new MomeError('MOME_INVALID_ARGUMENT', message, { kind: 'text', index });
  });
  const needs = options.objectives.map((objective) => objectiveNeeds[objective]);
  const ofTexts = needs.filter(({ withoutTexts }) => !withoutTexts);
  check(
    texts.length > 0 || ofTexts.length === 0,
    'MOME_INVALID_ARGUMENT',
    `${where}: expected at least one text, got none`,
  );
  const picturesPerText = Math.max(0, ...ofTexts.map((each) => each.picturesPerText));
  const alone = picturesPerText === 0 && ofTexts.length < needs.length;
  const pictureBytes = 3 * config.imageSize ** 2;
  const pictures = alone ? Math.max(1, Math.ceil((bytes?.length ?? 0) / pictureBytes)) : texts.length * picturesPerText;
  check(
    bytes instanceof Uint8Array || (bytes === undefined && pictures === 0),
    'MOME_INVALID_ARGUMENT',
    `${where}: expected pixels as a Uint8Array, got ${describe(bytes)}`,
  );
  const pixels = pictures * pictureBytes;
  check(
    (bytes?.length ?? 0) === pixels,
    'MOME_INVALID_SHAPE',
    alone
      ? `${where}: expected ${pictureBytes} pixel bytes for each picture, got ${bytes?.length} in all`
      : `${where}: expected ${pixels} pixel bytes for ${texts.length} texts, got ${bytes?.length}`,
  );
  const oneEach = (name: string, values: Int32Array | undefined, needed: boolean): Int32Array | undefined => {
    check(
      values === undefined || values instanceof Int32Array,
      'MOME_INVALID_ARGUMENT',
      `${where}: expected ${name} as an Int32Array, got ${describe(values)}`,
    );
    check(
      !needed || values?.length === texts.length,
      'MOME_INVALID_SHAPE',
      `${where}: expected ${name} with a number for each of ${texts.length} texts, got ${values?.length ?? 'none'}`,
    );
    return values?.slice();
  };
  // Pictures alone have no groups: there is no text that one of them would match.
  const ownGroups = oneEach('groups', groups, (options.groups ?? false) && ofTexts.length > 0);
  const needsTruth = needs.some((each) => each.truth);
  const ownTruth = oneEach('truth', truth, needsTruth);
  check(
    !needsTruth || ownTruth?.every((value) => value === 0 || value === 1),
    'MOME_INVALID_ARGUMENT',
    `${where}: expected truth to be 0 or 1 for each statement, got another number`,
  );
  return {
    texts,
    ...(bytes && { bytes: new Uint8Array(bytes) }),
    ...(ownGroups && { groups: ownGroups }),
    ...(ownTruth && { truth: ownTruth }),
    ...(needs.some((each) => each.visualTokens) && { visualTokens: takeVisualTokens(visualTokens, pictures, config) }),
    ...(needs.some((each) => each.answers) && { answers: takeAnswers(answers, texts.length, config.answers) }),
  };
}

function takeVisualTokens(given: unknown, pictures: number, config: VlmoConfig): Int32Array {
  check(
    given instanceof Int32Array,
    'MOME_INVALID_ARGUMENT',
    `${where}: expected visualTokens as an Int32Array, got ${describe(given)}`,
  );
  const patches = gridOf(config) ** 2;
  check(
    given.length === pictures * patches,
    'MOME_INVALID_SHAPE',
    `${where}: expected visualTokens of ${patches} patches for each of ${pictures} pictures, got ${given.length}`,
  );
  const known = config.visualTokens!;
  const wrong = given.findIndex((token) => token < 0 || token >= known);
  check(
    wrong < 0,
    'MOME_INVALID_ARGUMENT',
    `${where}: expected visual tokens in [0, ${known}), got ${given[wrong]} at ${wrong}`,
  );
  return given.slice();
}

function takeAnswers(given: unknown, questions: number, known: number): AnswerTargets[] {
  const answers = takeList(where, given, 'answers as objects { labels, scores }', 'answers');
  check(
    answers.length === questions,
    'MOME_INVALID_SHAPE',
    `${where}: expected answers for each of ${questions} questions, got ${answers.length}`,
  );
  return answers.map((each, index) => {
    const wrong = (what: string): MomeError =>
      new MomeError('MOME_INVALID_ARGUMENT', `${where}: answers ${index}: expected ${what}`, {
        kind: 'answers',
        index,
      });
    if (!isObject(each)) throw wrong(`an object { labels, scores }, got ${describe(each)}`);
    const { labels: givenLabels, scores: givenScores } = each as Partial<Record<keyof AnswerTargets, unknown>>;
    if (!isNumbers(givenLabels) || !isNumbers(givenScores)) throw wrong('labels and scores as lists of numbers');
    const [labels, scores] = [Array.from(givenLabels), Array.from(givenScores)];
    if (labels.length !== scores.length)
      throw wrong(`a score for each of ${labels.length} labels, got ${scores.length}`);
    for (const label of labels)
      if (!Number.isInteger(label) || label < 0 || label >= known)
        throw wrong(`labels in [0, ${known}), got ${describe(label)}`);
    if (new Set(labels).size < labels.length) throw wrong('each label once, got one twice');
    for (const score of scores)
      if (!(score >= 0 && score <= 1)) throw wrong(`scores in [0, 1], got ${describe(score)}`);
    return { labels, scores };
  });
}

function isNumbers(value: unknown): value is ArrayLike<number> {
  return (Array.isArray(value) && value.every((each) => typeof each === 'number')) || ArrayBuffer.isView(value);
}
