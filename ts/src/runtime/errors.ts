/**
 * The one list of error codes. `native/core/status.h` declares the same names; a test compares both with `docs/errors.md`.
 */
export const errorCodes = [
  'MOME_INVALID_ARGUMENT',
  'MOME_INVALID_SHAPE',
  'MOME_INVALID_FILE',
  'MOME_INVALID_IMAGE',
  'MOME_INVALID_CONFIG',
  'MOME_NOT_FOUND',
  'MOME_UNSUPPORTED',
  'MOME_TOO_LARGE',
  'MOME_OUT_OF_MEMORY',
  'MOME_NON_FINITE',
  'MOME_ABORTED',
  'MOME_DISPOSED',
  'MOME_DEVICE_UNAVAILABLE',
  'MOME_NATIVE_LOAD',
  'MOME_IO',
  'MOME_INTERNAL',
] as const;

/** Stable, machine-readable kind of a {@link MomeError}. */
export type ErrorCode = (typeof errorCodes)[number];

/** Most characters of a message: names come from files, and a file may hold megabytes of them. */
const maxMessageLength = 2000;
/** Most characters of a name in a message. */
const maxNameLength = 120;

/** A name or another text of a file, short enough for a message. */
export function clip(text: string, most: number = maxNameLength): string {
  if (text.length <= most) return text;
  const end = Math.floor(most / 4);
  return `${text.slice(0, most - end - 5)} ... ${text.slice(text.length - end)}`;
}

/** Every error this library raises on purpose. `message` reads "<where>: expected ..., got ..." and is short. */
export class MomeError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(clip(message, maxMessageLength), options);
    this.name = 'MomeError';
    this.code = code;
  }
}

/** Throws a {@link MomeError} unless `condition` holds. */
export function check(condition: unknown, code: ErrorCode, message: string): asserts condition {
  if (!condition) throw new MomeError(code, message);
}

/** @throws MomeError `MOME_ABORTED` when the signal has fired; its reason is the cause */
export function requireNotAborted(signal: AbortSignal | undefined, where: string): void {
  if (signal?.aborted) throw new MomeError('MOME_ABORTED', `${where}: the call was aborted`, { cause: signal.reason });
}
