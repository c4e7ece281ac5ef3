/**
 * Shared by all commands: model options, JSON or text output, progress, interruption, exit codes.
 */
import { type Command, InvalidArgumentError } from 'commander';
import { type LoadOptions, Vlmo } from '../inference/index.ts';
import { type DType, dtypes } from '../runtime/addon.ts';
import type { DeviceName } from '../runtime/device.ts';
import { exitCodes } from './output.ts';

/** Options of commands that load a model. */
export interface ModelFlags {
  readonly model?: string;
  readonly threads?: number;
  readonly target?: string;
  readonly device?: string;
  readonly memoryLimit?: number;
  readonly dtype?: DType;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** Adds `--model`, `--device`, `--threads`, `--target`, `--dtype`, `--json` and `--quiet`. */
export function withModelFlags(command: Command): Command {
  return command
    .option(
      '-m, --model <path>',
      'model folder, checkpoint or name of a pulled model; default: the model that ships with mome',
    )
    .option('--device <name>', 'auto, cpu, cuda or cuda:<index>', 'auto')
    .option('--memory-limit <MiB>', 'what a CUDA device may hold for the model; default: what there is', wholeNumber)
    .option('--threads <n>', 'worker threads; default: physical cores', wholeNumber)
    .option(
      '--target <name>',
      'kernel set, such as ref, avx2 or neon (mome doctor lists those of this processor); default: the fastest',
    )
    .option('--dtype <type>', `weights: ${dtypes.join(', ')}; default: as the model, 8-bit or float32`, dtypeOf)
    .option('--json', 'print JSON')
    .option('--quiet', 'no progress on standard error');
}

/** Parses a type of weights. */
export function dtypeOf(text: string): DType {
  const found = dtypes.find((dtype) => dtype === text);
  if (found === undefined) throw new InvalidArgumentError(`Expected ${dtypes.join(', ')}.`);
  return found;
}

/** Parses a whole number >= 0 of the command line. */
export function wholeNumber(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value))
    throw new InvalidArgumentError('Expected a whole number >= 0.');
  return value;
}

/** Parses a whole number > 0 of the command line. */
export function countNumber(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value === 0)
    throw new InvalidArgumentError('Expected a whole number > 0.');
  return value;
}

/** Loads the model a command was asked for. Ctrl-C ends the loading too. */
export async function loadedModel(flags: ModelFlags): Promise<Vlmo> {
  const options: LoadOptions = {
    signal: interruption(),
    ...(flags.threads !== undefined && { threads: flags.threads }),
    ...(flags.device !== undefined && { device: flags.device as DeviceName }),
    ...(flags.memoryLimit !== undefined && { memoryLimit: flags.memoryLimit * 2 ** 20 }),
    ...(flags.target !== undefined && { target: flags.target }),
    ...(flags.dtype !== undefined && { dtype: flags.dtype }),
  };
  return Vlmo.load(flags.model, options);
}

/** Loads the model a command was asked for, hands it over and frees it. */
export async function withModel<T>(flags: ModelFlags, use: (model: Vlmo) => Promise<T>): Promise<T> {
  const model = await loadedModel(flags);
  try {
    return await use(model);
  } finally {
    await model.dispose();
  }
}

let interrupted: AbortController | undefined;

/** A signal that fires on Ctrl-C and on SIGTERM; a second one of them ends the process at once. One signal serves the whole process. */
export function interruption(): AbortSignal {
  if (interrupted !== undefined) return interrupted.signal;
  const controller = new AbortController();
  interrupted = controller;
  const interrupt = () => {
    if (controller.signal.aborted) process.exit(exitCodes.interrupted);
    controller.abort(new Error('interrupted'));
  };
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', interrupt);
  return controller.signal;
}
