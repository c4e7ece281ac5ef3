/**
 * Which programs a step runs: objectives that read the same pass of the encoder share one.
 */
import type { Objective } from '../../model/objectives.ts';
import { contrastiveProgram } from './contrastive.ts';
import { fusedProgram } from './fused.ts';
import { picturesProgram } from './pictures.ts';
import { statementsProgram } from './statements.ts';
import type { StepProgram, StepSetting } from './step.ts';
import { textProgram } from './text.ts';

/** A program and the objectives that it serves. */
interface ProgramKind<O extends Objective = Objective> {
  readonly serves: readonly O[];
  readonly make: (setting: StepSetting, objectives: readonly O[]) => StepProgram;
}

const kind = <O extends Objective>(serves: readonly O[], make: ProgramKind<O>['make']): ProgramKind => ({
  serves,
  make: (setting, objectives) => make(setting, objectives as readonly O[]),
});

/** In the order in which they run: the contrastive one hands its negatives to the fused one. */
const programKinds: readonly ProgramKind[] = [
  kind(['itc', 'irtr'], contrastiveProgram),
  kind(['itm', 'mlm', 'vqa'], fusedProgram),
  kind(['nlvr2'], statementsProgram),
  kind(['textmlm'], textProgram),
  kind(['mim'], picturesProgram),
];

/** The programs of a step, in the order in which they run. */
export function programsOf(setting: StepSetting): StepProgram[] {
  return programKinds.flatMap(({ serves, make }) => {
    const objectives = serves.filter((objective) => setting.options.objectives.includes(objective));
    return objectives.length > 0 ? [make(setting, objectives)] : [];
  });
}
