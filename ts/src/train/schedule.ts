/**
 * Learning rate over steps, and which parameters decay.
 */
import { checkKind, kinds, takeText } from '../runtime/arguments.ts';
import { check } from '../runtime/errors.ts';

/** Warm-up from 0, then decay to `endLearningRate`. */
export interface Schedule {
  /** Highest rate, reached at the end of the warm-up. */
  readonly learningRate: number;
  readonly totalSteps: number;
  /** Steps of the warm-up; a number below 1 is a share of `totalSteps`, rounded down. */
  readonly warmupSteps: number;
  /** `polynomial`: (1 - progress)^power; `cosine`: half a cosine wave; `constant`: no decay. */
  readonly decay: 'polynomial' | 'cosine' | 'constant';
  readonly decayPower?: number;
  readonly endLearningRate?: number;
}

/**
 * The rate of step `step`, counted from 0: step 0 of a warm-up has rate 0, as in the original recipe.
 */
export function learningRateAt(schedule: Schedule, step: number): number {
  checkKind('learningRateAt', 'schedule', schedule, kinds.object);
  checkKind('learningRateAt', 'step', step, kinds.number);
  const { learningRate, totalSteps, decay, decayPower = 1, endLearningRate = 0 } = schedule;
  const warmupSteps = schedule.warmupSteps < 1 ? Math.floor(totalSteps * schedule.warmupSteps) : schedule.warmupSteps;
  check(
    totalSteps > 0 && warmupSteps >= 0 && warmupSteps <= totalSteps,
    'MOME_INVALID_ARGUMENT',
    `schedule: expected 0 <= warmupSteps <= totalSteps, got ${warmupSteps} and ${totalSteps}`,
  );
  if (step < warmupSteps) return (learningRate * step) / Math.max(1, warmupSteps);
  if (decay === 'constant') return learningRate;
  if (step >= totalSteps) return endLearningRate;
  const progress = (step - warmupSteps) / (totalSteps - warmupSteps);
  const factor = decay === 'cosine' ? 0.5 * (1 + Math.cos(Math.PI * progress)) : (1 - progress) ** decayPower;
  return endLearningRate + (learningRate - endLearningRate) * factor;
}

/** Substrings of parameter names that do not decay; `norm2_text.weight` contains none of them and decays. */
const noDecay = [
  'bias',
  'LayerNorm.bias',
  'LayerNorm.weight',
  'norm.bias',
  'norm.weight',
  'norm1.bias',
  'norm1.weight',
  'norm2.bias',
  'norm2.weight',
];

/** Whether weight decay applies to a parameter, by the rule of the original recipe. */
export const decays = (parameter: string): boolean =>
  !noDecay.some((part) => takeText('decays', parameter, 'parameter').includes(part));

/** Which parameters decay: as VLMo is trained, or as BEiT is trained on masked images. */
export type DecayRule = 'vlmo' | 'beit';

/** Whether weight decay applies to a parameter with `rank` dimensions. BEiT's rule leaves out vectors, positions and the CLS token. */
function decaysBy(rule: DecayRule, parameter: string, rank: number): boolean {
  return rule === 'vlmo' ? decays(parameter) : rank > 1 && !/(?:pos_embed|cls_token)$/.test(parameter);
}

/** Parameters that share the settings of an optimiser step. */
export interface ParameterGroup {
  readonly names: string[];
  readonly weightDecay: number;
  readonly learningRateScale: number;
}

/** Whether a parameter belongs to a head that the original tunes at a rate of its own: that of answers, or of statements. */
const isTunedHead = (parameter: string): boolean => /^(?:vqa|nlvr2)_classifier\./.test(parameter);

/**
 * Splits the parameters of an optimiser step into those that decay and those that do not, and both by their rate.
 *
 * @param options.headRate factor of the learning rate of the heads of answers and statements
 * @param options.shapes of the parameters, which `beit` looks at
 */
export function parameterGroups(
  names: Iterable<string>,
  weightDecay: number,
  options: {
    readonly headRate?: number;
    readonly rule?: DecayRule;
    readonly shapes?: ReadonlyMap<string, readonly number[]>;
  } = {},
): ParameterGroup[] {
  const { headRate = 1, rule = 'vlmo', shapes } = options;
  const groups: ParameterGroup[] = [];
  for (const decay of [weightDecay, 0])
    for (const learningRateScale of headRate === 1 ? [1] : [1, headRate])
      groups.push({ names: [], weightDecay: decay, learningRateScale });
  const perDecay = groups.length / 2;
  for (const name of names) {
    const decaying = decaysBy(rule, name, shapes?.get(name)?.length ?? 0);
    const group = (decaying ? 0 : perDecay) + (perDecay > 1 && isTunedHead(name) ? 1 : 0);
    groups[group]!.names.push(name);
  }
  return groups;
}
