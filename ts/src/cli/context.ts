/**
 * What every command shares: model options, JSON or text output, progress, interruption, exit codes.
 */
import { SingleBar } from 'cli-progress';
import type { Command } from 'commander';
import { type LoadOptions, Vlmo } from '../inference/vlmo.ts';
import { type DType, dtypes } from '../runtime/addon.ts';
import type { DeviceName } from '../runtime/device.ts';
import { check, MomeError } from '../runtime/errors.ts';

/** Exit codes: scripts may rely on them. */
export const exitCodes = { ok: 0, failure: 1, usage: 2, interrupted: 130 } as const;

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
    .option('-m, --model <path>', 'model folder or checkpoint; default: the model that ships with mome')
    .option('--device <name>', 'auto, cpu, cuda or cuda:<index>', 'auto')
    .option('--memory-limit <MiB>', 'what a CUDA device may hold for the model; default: what there is', wholeNumber)
    .option('--threads <n>', 'worker threads; default: physical cores', wholeNumber)
    .option('--target <name>', 'kernel set: ref, avx2, avx512 or avx512_vnni; default: the fastest')
    .option('--dtype <type>', `weights: ${dtypes.join(', ')}; default: as the model, 8-bit or float32`, dtypeOf)
    .option('--json', 'print JSON')
    .option('--quiet', 'no progress on standard error');
}

/** Parses a type of weights. */
export function dtypeOf(text: string): DType {
  const found = dtypes.find((dtype) => dtype === text);
  check(found !== undefined, 'MOME_INVALID_ARGUMENT', `expected ${dtypes.join(', ')}, got "${text}"`);
  return found;
}

/** Parses a whole number >= 0 of the command line. */
export function wholeNumber(text: string): number {
  const value = Number(text);
  check(
    Number.isSafeInteger(value) && value >= 0 && text.trim() !== '',
    'MOME_INVALID_ARGUMENT',
    `expected a whole number >= 0, got "${text}"`,
  );
  return value;
}

/** Loads the model a command was asked for, hands it over and frees it. */
export async function withModel<T>(flags: ModelFlags, use: (model: Vlmo) => Promise<T>): Promise<T> {
  const options: LoadOptions = {
    ...(flags.threads !== undefined && { threads: flags.threads }),
    ...(flags.device !== undefined && { device: flags.device as DeviceName }),
    ...(flags.memoryLimit !== undefined && { memoryLimit: flags.memoryLimit * 2 ** 20 }),
    ...(flags.target !== undefined && { target: flags.target }),
    ...(flags.dtype !== undefined && { dtype: flags.dtype }),
  };
  const model = await Vlmo.load(flags.model, options);
  try {
    return await use(model);
  } finally {
    await model.dispose();
  }
}

export function print(text: string): void {
  process.stdout.write(text.endsWith('\n') ? text : `${text}\n`);
}

export function printJson(value: unknown): void {
  print(JSON.stringify(value, null, 2));
}

/** A signal that fires on Ctrl-C; a second Ctrl-C ends the process at once. */
export function interruption(): AbortSignal {
  const controller = new AbortController();
  process.once('SIGINT', () => {
    controller.abort(new Error('interrupted'));
    process.once('SIGINT', () => process.exit(exitCodes.interrupted));
  });
  return controller.signal;
}

/** A progress bar on standard error, when that is a terminal and nobody asked for quiet. */
export function progressBar(
  label: string,
  quiet = false,
): { readonly update: (done: number, total: number) => void; readonly stop: () => void } {
  if (quiet || !process.stderr.isTTY) return { update: () => {}, stop: () => {} };
  const bar = new SingleBar({
    format: `${label} {bar} {value}/{total}  eta {eta_formatted}`,
    stream: process.stderr,
    clearOnComplete: true,
  });
  let started = false;
  return {
    update: (done, total) => {
      if (!started) bar.start(total, 0);
      started = true;
      bar.update(done);
    },
    stop: () => bar.stop(),
  };
}

/** Prints what went wrong and gives the exit code. */
export function reportFailure(error: unknown, json: boolean): number {
  const known = error instanceof MomeError;
  const code = known ? error.code : 'MOME_INTERNAL';
  const message = error instanceof Error ? error.message : String(error);
  if (json) process.stderr.write(`${JSON.stringify({ error: { code, message } })}\n`);
  else process.stderr.write(`mome: ${message} (${code})\n`);
  if (!known && error instanceof Error && process.env.MOME_DEBUG) process.stderr.write(`${error.stack}\n`);
  if (code === 'MOME_ABORTED') return exitCodes.interrupted;
  return code === 'MOME_INVALID_ARGUMENT' ? exitCodes.usage : exitCodes.failure;
}
