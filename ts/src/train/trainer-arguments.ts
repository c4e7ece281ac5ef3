/**
 * What a trainer is given, checked and copied before any work.
 */
import type { VlmoConfig } from '../architecture/config.ts';
import { describe, isObject, type Kinds, kinds, takeFields, takeList, takeOptions } from '../runtime/arguments.ts';
import type { EngineOptions } from '../runtime/engine.ts';
import { check, MomeError } from '../runtime/errors.ts';
import type { TrainingBatch } from './objectives/step.ts';
import type { Schedule } from './schedule.ts';
import type { TrainerOptions } from './trainer.ts';

const where = 'trainer';
const objectives = ['itc', 'itm', 'mlm'];

const trainerKinds: Kinds<TrainerOptions> = {
  objectives: {
    expected: `a list of ${objectives.join(', ')}`,
    accepts: (value) => Array.isArray(value) && value.every((each) => objectives.includes(each)),
  },
  schedule: kinds.object,
  betas: {
    expected: 'two numbers from 0 to below 1',
    accepts: (value) => Array.isArray(value) && value.length === 2 && value.every((beta) => beta >= 0 && beta < 1),
  },
  eps: kinds.number,
  weightDecay: kinds.number,
  clipNorm: kinds.number,
  accumulate: kinds.count,
  trainable: kinds.callback,
  maxLogitScale: kinds.number,
  seed: kinds.number,
  groups: kinds.flag,
  vlBranch: kinds.flag,
  fusedPairs: kinds.count,
  negativeSharpness: kinds.number,
  maskProbability: kinds.number,
  textDropout: kinds.number,
  dropPath: kinds.number,
  checkpointActivations: kinds.flag,
};

const scheduleKinds: Kinds<Schedule> = {
  learningRate: kinds.number,
  totalSteps: kinds.size,
  warmupSteps: kinds.size,
  decay: {
    expected: 'polynomial, cosine or constant',
    accepts: (value) => ['polynomial', 'cosine', 'constant'].includes(value as string),
  },
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
  return {
    options: { ...taken, schedule, objectives: [...taken.objectives] } as TrainerOptions,
    engineOptions: takeOptions(where, engine, engineKinds),
  };
}

/**
 * A batch that is no longer the caller's: a step reads it more than once.
 *
 * @throws MomeError `MOME_INVALID_ARGUMENT` for another kind of value, `MOME_INVALID_SHAPE` for pixels or groups that do not fit the texts
 */
export function takeBatch(batch: TrainingBatch, pixelsPerPair: number, needsGroups: boolean): TrainingBatch {
  const anything = { expected: 'there', accepts: () => true };
  const known = { bytes: anything, texts: anything, groups: anything };
  const { bytes, texts: given, groups } = takeFields<TrainingBatch>(where, 'batch', batch, known);
  const texts = takeList(where, given, 'texts as Int32Arrays', 'text').map((text, index) => {
    if (text instanceof Int32Array) return text.slice();
    const message = `${where}: text ${index}: expected an Int32Array of ids, got ${describe(text)}`;
    throw new MomeError('MOME_INVALID_ARGUMENT', message, { kind: 'text', index });
  });
  check(texts.length > 0, 'MOME_INVALID_ARGUMENT', `${where}: expected at least one pair, got none`);
  check(
    bytes instanceof Uint8Array,
    'MOME_INVALID_ARGUMENT',
    `${where}: expected pixels as a Uint8Array, got ${describe(bytes)}`,
  );
  const pixels = texts.length * pixelsPerPair;
  check(
    bytes.length === pixels,
    'MOME_INVALID_SHAPE',
    `${where}: expected ${pixels} pixel bytes for ${texts.length} pairs, got ${bytes.length}`,
  );
  check(
    groups === undefined || groups instanceof Int32Array,
    'MOME_INVALID_ARGUMENT',
    `${where}: expected groups as an Int32Array, got ${describe(groups)}`,
  );
  check(
    !needsGroups || groups?.length === texts.length,
    'MOME_INVALID_SHAPE',
    `${where}: expected a group for each of ${texts.length} pairs, got ${groups?.length ?? 'none'}`,
  );
  return { bytes: new Uint8Array(bytes), texts, ...(groups && { groups: groups.slice() }) };
}
