/**
 * `mome verify`: holds the library, or a converted checkpoint, to a recorded reference case.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { configFromArch } from '../architecture/config.ts';
import { configToRun, openCheckpoint, takeParameters, valuesOf } from '../checkpoint/index.ts';
import { prepareImage } from '../image/prepare.ts';
import { addon, type DType, dtypes } from '../runtime/addon.ts';
import { type Kinds, kinds, oneOf, takeOptions, takePath } from '../runtime/arguments.ts';
import { cudaInfo, type Device, type DeviceName, deviceName, resolveDevice } from '../runtime/device.ts';
import { check, requireNotAborted } from '../runtime/errors.ts';
import { exists } from '../runtime/files.ts';
import { CaseTensors, readCaseConfig } from './case-files.ts';
import { type CaseReport, type Check, type CheckKind, compare, report, type Skipped } from './compare.ts';
import { bounds, checkOutputs, ModelCase } from './model-case.ts';
import { caseObjectives, checkObjectives, checkTraining, gradientNames, trainingNames } from './objectives.ts';

export type { CaseReport, Check, Skipped } from './compare.ts';
export { compare } from './compare.ts';

export interface VerifyOptions {
  /** Where to run: `cpu` (default), `cuda` or `cuda:<index>`, which computes outputs alone. */
  readonly device?: DeviceName;
  /** Kernel set; default: the fastest of this processor. */
  readonly target?: string;
  /** Type of the weights. Losses, gradients and training are compared in float32 alone, and listed as skipped otherwise. */
  readonly dtype?: DType;
  /** Stops the comparison; it rejects with `MOME_ABORTED`. */
  readonly signal?: AbortSignal;
}

const verifyKinds: Kinds<VerifyOptions> = {
  device: kinds.text,
  target: kinds.text,
  dtype: oneOf(dtypes),
  signal: kinds.signal,
};

/** A channel value may differ by one of 255. */
const preprocessBound = 1;

const preprocessSchema = z.object({
  size: z.number().int().positive(),
  images: z.array(z.object({ file: z.string() })).min(1),
});
const weightsName = 'weights.pt';

/**
 * Runs the case in `folder` and compares everything in it, except for the values that the report lists as skipped.
 *
 * @throws MomeError `MOME_INVALID_ARGUMENT`, `MOME_NOT_FOUND`, `MOME_INVALID_FILE`, `MOME_INVALID_CONFIG` for a folder that is no case,
 *   `MOME_ABORTED`
 */
export async function verifyCase(path: string | URL, given?: VerifyOptions): Promise<CaseReport> {
  const folder = takePath('verify', path, 'a folder with a reference case');
  const options = takeOptions('verify', given, verifyKinds);
  requireNotAborted(options.signal, 'verify');
  const config = await readCaseConfig(folder);
  const name = typeof config.name === 'string' ? config.name : folder;
  const dtype = options.dtype ?? 'float32';
  const device = resolveDevice(options.device ?? 'cpu', { target: options.target, dtype });
  if (device.kind === 'cuda') {
    const { devices, reason } = cudaInfo();
    check(
      device.index < devices.length,
      'MOME_DEVICE_UNAVAILABLE',
      `verify: expected device ${deviceName(device)}, got ${devices.length} devices${reason && `: ${reason}`}`,
    );
  }
  const target =
    device.kind === 'cuda' ? 'cuda' : (options.target ?? (process.env.MOME_TARGET || addon().cpuInfo().best));
  const skipped: Skipped[] = [];
  const checks = await checksOf(folder, config, { device, target, dtype, signal: options.signal }, skipped);
  return report(name, { device: deviceName(device), target, dtype }, checks, skipped);
}

async function checksOf(
  folder: string,
  config: Readonly<Record<string, unknown>>,
  where: {
    readonly device: Device;
    readonly target: string;
    readonly dtype: DType;
    readonly signal: AbortSignal | undefined;
  },
  skipped: Skipped[],
): Promise<Check[]> {
  if ('images' in config) return checkPreprocess(folder, config, where.signal);
  if (await exists(join(folder, 'converted.safetensors'))) return checkConversion(folder, config, where.signal);
  const arch = configFromArch(config.arch, join(folder, 'config.json'));
  const weights = typeof config.weights === 'string' ? join(folder, config.weights) : join(folder, weightsName);
  const checks: Check[] = [];
  const resized = await CaseTensors.openOptional(join(folder, 'resized.safetensors'));
  if (resized) {
    const checkpoint = await openCheckpoint(weights);
    const { sources } = await takeParameters(checkpoint, configToRun(arch, checkpoint));
    for (const key of resized.entries.keys()) {
      requireNotAborted(where.signal, 'verify');
      const source = sources.get(key);
      check(source !== undefined, 'MOME_INVALID_FILE', `${resized.path}: expected names of parameters, got ${key}`);
      checks.push(compare(key, 'resize', await valuesOf(source), await resized.floats(key), bounds.resize));
    }
  }
  const outputs = await CaseTensors.open(join(folder, 'outputs.safetensors'));
  const gradients = await CaseTensors.openOptional(join(folder, 'grads.safetensors'));
  const training = await CaseTensors.openOptional(join(folder, 'training.safetensors'));
  const model = await ModelCase.open(folder, weights, arch, where);
  try {
    checks.push(...(await checkOutputs(model, outputs)));
    refuseOthers(outputs, [
      ...checks.map((each) => each.name),
      ...caseObjectives.map((objective) => `loss/${objective}`),
    ]);
    if (gradients) refuseOthers(gradients, gradientNames(model.config));
    if (training) refuseOthers(training, trainingNames(model.config));
    const losses = [...outputs.entries.keys()].filter((key) => key.startsWith('loss/')).length;
    if (where.dtype !== 'float32' || where.device.kind !== 'cpu') {
      const reason = 'compared in float32 on the processor alone';
      const add = (kind: CheckKind, tensors: number) => tensors > 0 && skipped.push({ kind, tensors, reason });
      add('loss', losses);
      add('gradient', gradients?.entries.size ?? 0);
      add('training', training?.entries.size ?? 0);
      return checks;
    }
    if (losses > 0 || gradients || training) await model.weights.enableTraining();
    checks.push(...(await checkObjectives(model, outputs, gradients)));
    if (training) checks.push(...(await checkTraining(model, config.training, training)));
  } finally {
    model.dispose();
  }
  return checks;
}

/** Throws where a file of a case holds more than is compared: what nobody looked at must not pass. */
function refuseOthers(tensors: CaseTensors, known: Iterable<string>): void {
  const names = new Set(known);
  const left = [...tensors.entries.keys()].filter((key) => !names.has(key));
  check(
    left.length === 0,
    'MOME_INVALID_FILE',
    `${tensors.path}: expected tensors this library knows, got ${left.join(', ')}`,
  );
}

async function checkConversion(
  folder: string,
  config: Readonly<Record<string, unknown>>,
  signal: AbortSignal | undefined,
): Promise<Check[]> {
  const arch = configFromArch(config.arch, join(folder, 'config.json'));
  const expected = await CaseTensors.open(join(folder, 'converted.safetensors'));
  const { sources } = await takeParameters(await openCheckpoint(join(folder, weightsName)), arch);
  const checks: Check[] = [];
  for (const key of expected.entries.keys()) {
    requireNotAborted(signal, 'verify');
    const source = sources.get(key);
    check(
      source !== undefined,
      'MOME_INVALID_FILE',
      `${expected.path}: expected names the take-over gives, got ${key}`,
    );
    checks.push(compare(key, 'convert', await valuesOf(source), await expected.floats(key), bounds.exact));
  }
  return checks;
}

async function checkPreprocess(
  folder: string,
  config: Readonly<Record<string, unknown>>,
  signal: AbortSignal | undefined,
): Promise<Check[]> {
  const parsed = preprocessSchema.safeParse(config);
  check(parsed.success, 'MOME_INVALID_FILE', `${folder}/config.json: expected size and images`);
  const expected = await CaseTensors.open(join(folder, 'resized.safetensors'));
  refuseOthers(
    expected,
    parsed.data.images.map(({ file }) => file),
  );
  const checks: Check[] = [];
  for (const { file } of parsed.data.images) {
    requireNotAborted(signal, 'verify');
    const bytes = await prepareImage(join(folder, file), parsed.data.size);
    checks.push(compare(file, 'preprocess', bytes, await expected.integers(file), preprocessBound));
  }
  return checks;
}
