/**
 * Learning rate over steps, and which parameters decay.
 */
import { check } from '../runtime/errors.ts';

/** Warm-up from 0, then decay to `endLearningRate`. */
export interface Schedule {
  /** Highest rate, reached at the end of the warm-up. */
  readonly learningRate: number;
  readonly totalSteps: number;
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
  const { learningRate, totalSteps, warmupSteps, decay, decayPower = 1, endLearningRate = 0 } = schedule;
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
export const decays = (parameter: string): boolean => !noDecay.some((part) => parameter.includes(part));

/** Parameters that share the settings of an optimiser step. */
export interface ParameterGroup {
  readonly names: string[];
  readonly weightDecay: number;
  readonly learningRateScale: number;
}

/** Splits the parameters of an optimiser step into those that decay and those that do not. */
export function parameterGroups(names: Iterable<string>, weightDecay: number): ParameterGroup[] {
  const all = [...names];
  return [
    { names: all.filter(decays), weightDecay, learningRateScale: 1 },
    { names: all.filter((name) => !decays(name)), weightDecay: 0, learningRateScale: 1 },
  ];
}
