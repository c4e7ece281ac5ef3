/** The output of commands: results, notes and failures, without control characters that would act on a terminal. */
import { CommanderError } from 'commander';
import { type ErrorCode, MomeError } from '../runtime/errors.ts';
import { printable, printableJson, printableLines } from '../runtime/printable.ts';
import { besideProgress, styled } from './terminal.ts';

/** Exit codes: scripts may rely on them. */
export const exitCodes = { ok: 0, failure: 1, usage: 2, partial: 3, interrupted: 130 } as const;

export function print(text: string): void {
  printSafe(printableLines(text));
}

/** Prints text in which nothing from outside can act on the terminal, and which may have styles. */
export function printSafe(text: string): void {
  besideProgress(() => process.stdout.write(text.endsWith('\n') ? text : `${text}\n`));
}

/** Prints a line that explains the lines above it. */
export function printExplanation(text: string): void {
  printSafe(styled('dim', printable(text)));
}

export function printJson(value: unknown): void {
  printSafe(printableJson(value, 2));
}

/** Prints a value as one line of JSON. */
export function printJsonLine(value: unknown): void {
  printSafe(printableJson(value));
}

/** Prints a line for people on standard error. */
export function note(text: string): void {
  writeError(`mome: ${printable(text)}\n`);
}

/** Where nobody reads standard error, or its disk is full, nothing more can be said. */
function writeError(text: string): void {
  try {
    besideProgress(() => process.stderr.write(text));
  } catch {
    process.exitCode ??= exitCodes.failure;
  }
}

/** Prints an error and returns the exit code. */
export function reportFailure(error: unknown, json: boolean): number {
  if (error instanceof CommanderError && error.exitCode === 0) return exitCodes.ok;
  const { code, message } = failureOf(error);
  if (json) writeError(`${printableJson({ error: { code, message } })}\n`);
  else if (!isHelp(error)) writeError(`mome: ${printable(message)} (${code})\n`);
  if (code === 'MOME_INTERNAL' && error instanceof Error && process.env.MOME_DEBUG) writeError(`${error.stack}\n`);
  if (code === 'MOME_ABORTED') return exitCodes.interrupted;
  return code === 'MOME_INVALID_ARGUMENT' ? exitCodes.usage : exitCodes.failure;
}

/** Whether the error stands for the help text, which a command without its arguments has printed. */
const isHelp = (error: unknown): boolean => error instanceof CommanderError && error.code === 'commander.help';

function failureOf(error: unknown): { readonly code: ErrorCode; readonly message: string } {
  if (error instanceof MomeError) return { code: error.code, message: error.message };
  if (error instanceof CommanderError) {
    const message = isHelp(error) ? 'expected a command, got none' : error.message.replace(/^error: /, '');
    const hint =
      error.code === 'commander.unknownOption' ? '; what begins with a dash and is no option goes behind --' : '';
    return { code: 'MOME_INVALID_ARGUMENT', message: message.replace(/\s*\n\s*/g, ' ').trim() + hint };
  }
  const message = error instanceof Error ? error.message : String(error);
  return isSystemError(error)
    ? { code: 'MOME_IO', message: error.code === 'ENOSPC' ? `the disk is full: ${message}` : message }
    : { code: 'MOME_INTERNAL', message };
}

const isSystemError = (error: unknown): error is NodeJS.ErrnoException =>
  error instanceof Error && 'errno' in error && 'syscall' in error;

/** Ends the process in words, whatever happens to its streams and wherever an error comes from. */
export function guardProcess(json: boolean): void {
  // A reader that has seen enough, such as `head`, is no failure.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    process.exit(error.code === 'EPIPE' ? exitCodes.ok : reportFailure(error, json));
  });
  process.stderr.on('error', () => {});
  process.on('uncaughtException', (error) => process.exit(reportFailure(error, json)));
}
