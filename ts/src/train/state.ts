/**
 * Saving and resuming a run exactly: weights, both moments, the trainer's counters and random state, and the place in the data.
 *
 * A checkpoint is one safetensors file: `param/<name>`, `m/<name>`, `v/<name>`, for a run with a moving average `average/<name>`, and, in
 * its metadata, a JSON state.
 */
import { z } from 'zod';
import type { VlmoConfig } from '../architecture/config.ts';
import { parameterShapes } from '../architecture/parameters.ts';
import { openSafetensors, readTensor, type SafetensorsFile, writeSafetensors } from '../checkpoint/index.ts';
import { checkKind, kinds, takePath, withMethods } from '../runtime/arguments.ts';
import { check, MomeError } from '../runtime/errors.ts';
import type { BatchPosition } from './data/pairs.ts';
import type { Trainer, TrainerState } from './trainer.ts';

/** Raised when the contents of checkpoints change. */
const stateVersion = 2;

const versionSchema = z.object({ version: z.number() });
const whole = z.number().int().min(0);
const word = z.number().int().min(0).max(0xffffffff);
const words = z
  .tuple([word, word, word, word])
  .refine((all) => all.some((each) => each !== 0), 'expected a word not 0');

/** Counters of a run beside the tensors. */
const stateSchema = z.object({
  trainer: z.object({ step: whole, random: words }),
  position: z.object({ epoch: whole, step: whole }),
});
type RunState = { readonly trainer: TrainerState; readonly position: BatchPosition };

const trainerKind = withMethods('a Trainer', 'restore', 'train');
const moments = ['m', 'v'] as const;

/**
 * Writes a checkpoint that {@link loadRun} continues from bit for bit.
 *
 * @param position the place in the data after the trainer's last optimiser step: gradients gathered since are not kept
 * @param average the moving average of the weights, where the run has one
 */
export async function saveRun(
  path: string,
  trainer: Trainer,
  position: BatchPosition,
  average?: ReadonlyMap<string, Float32Array>,
): Promise<void> {
  takePath('saveRun', path, 'a checkpoint');
  checkKind('saveRun', 'trainer', trainer, trainerKind);
  checkKind('saveRun', 'position', position, kinds.object);
  const tensors: { name: string; dtype: 'F32'; shape: readonly number[]; data: Float32Array }[] = [];
  for (const [name, shape] of parameterShapes(trainer.config)) {
    tensors.push({ name: `param/${name}`, dtype: 'F32', shape, data: await trainer.weights.read(name) });
    for (const moment of moments) {
      tensors.push({
        name: `${moment}/${name}`,
        dtype: 'F32',
        shape,
        data: await trainer.weights.readState(name, moment),
      });
    }
  }
  for (const [name, shape] of average ? parameterShapes(trainer.config) : [])
    tensors.push({ name: `average/${name}`, dtype: 'F32', shape, data: average!.get(name)! });
  const state: RunState = { trainer: trainer.state, position };
  await writeSafetensors(path, tensors, { state: JSON.stringify({ version: stateVersion, ...state }) });
}

/**
 * Puts a trainer where the checkpoint left off.
 *
 * @returns the place in the data to go on from
 * @throws MomeError `MOME_INVALID_FILE` when the file is no checkpoint of this model
 */
export async function loadRun(path: string, trainer: Trainer): Promise<BatchPosition> {
  takePath('loadRun', path, 'a checkpoint');
  checkKind('loadRun', 'trainer', trainer, trainerKind);
  const file = await openSafetensors(path);
  try {
    const state = parseState(path, file.metadata.state);
    for (const [name, shape] of parameterShapes(trainer.config)) {
      for (const kind of ['param', ...moments] as const) {
        const data = await readState(file, `${kind}/${name}`, shape);
        if (kind === 'param') await trainer.weights.write(name, data);
        else await trainer.weights.writeState(name, kind, data);
      }
    }
    trainer.restore(state.trainer);
    return state.position;
  } finally {
    file.file.close();
  }
}

/**
 * The moving average in a checkpoint, all of the model's parameters.
 *
 * @throws MomeError `MOME_INVALID_FILE` when the file has none of this model
 */
export async function loadAverage(path: string, config: VlmoConfig): Promise<Map<string, Float32Array>> {
  const file = await openSafetensors(path);
  try {
    const average = new Map<string, Float32Array>();
    for (const [name, shape] of parameterShapes(config))
      average.set(name, await readState(file, `average/${name}`, shape));
    return average;
  } finally {
    file.file.close();
  }
}

async function readState(file: SafetensorsFile, name: string, shape: readonly number[]): Promise<Float32Array> {
  const { path } = file;
  const entry = file.entries.get(name);
  check(entry !== undefined, 'MOME_INVALID_FILE', `${path}: expected tensor ${name}, found none`);
  const count = shape.reduce((product, dim) => product * dim, 1);
  const data = await readTensor(entry);
  check(data.length === count, 'MOME_INVALID_FILE', `${path}: expected ${count} values in ${name}, got ${data.length}`);
  return data;
}

function parseState(path: string, text: string | undefined): RunState {
  check(
    text !== undefined,
    'MOME_INVALID_FILE',
    `${path}: expected the state of a training run in the metadata, found none`,
  );
  let state: unknown;
  try {
    state = JSON.parse(text);
  } catch (error) {
    throw new MomeError(
      'MOME_INVALID_FILE',
      `${path}: expected the state of a training run, got text that is no JSON`,
      { cause: error },
    );
  }
  const version = versionSchema.safeParse(state).data?.version;
  check(
    version === stateVersion,
    'MOME_INVALID_FILE',
    `${path}: expected state version ${stateVersion}, got ${version ?? 'none'}`,
  );
  const parsed = stateSchema.safeParse(state);
  const issue = parsed.error?.issues[0];
  check(
    parsed.success,
    'MOME_INVALID_FILE',
    `${path}: expected the state of a training run, got ${issue?.path.join('.')}: ${issue?.message}`,
  );
  return parsed.data;
}
