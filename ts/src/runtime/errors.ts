/**
 * Codes of the library and its addon. `native/core/status.h` declares the same names; a test compares both with `docs/errors.md`.
 */
export const nativeErrorCodes = [
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
  'MOME_PROCESS_LOST',
  'MOME_IO',
  'MOME_INTERNAL',
] as const;

/** Codes of a queue in front of a model, which the addon knows nothing of. */
export const queueErrorCodes = ['MOME_OVERLOADED', 'MOME_DEADLINE'] as const;

/** The one list of error codes. */
export const errorCodes = [...nativeErrorCodes, ...queueErrorCodes] as const;

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

/** The item of a call that an error is about. */
export interface ErrorItem {
  /** One of `picture`, `text`, `pair`, `candidate`, `query`, `question` or `statement`. */
  readonly kind?: string;
  /** Its place in the caller's list, from 0. */
  readonly index?: number;
  /** A short name: the path of a picture, the beginning of a text. */
  readonly item?: string;
}

/** Every error this library raises on purpose. `message` reads "<where>: expected ..., got ..." and is short. */
export class MomeError extends Error {
  readonly code: ErrorCode;
  /** What kind of item the error is about, where it is about one: `picture`, `text`, `pair`, `candidate`, `query`, and so on. */
  declare readonly kind?: string;
  /** Place of that item in the caller's list, from 0. */
  declare readonly index?: number;
  /** Short name of that item. */
  declare readonly item?: string;

  constructor(code: ErrorCode, message: string, { kind, index, item, ...options }: ErrorOptions & ErrorItem = {}) {
    super(clip(message, maxMessageLength), options);
    this.name = 'MomeError';
    this.code = code;
    if (kind !== undefined) this.kind = kind;
    if (index !== undefined) this.index = index;
    if (item !== undefined) this.item = item;
  }
}

/** A queue has no room: the same call may succeed later. */
export class OverloadedError extends MomeError {
  /** When there should be room, in milliseconds, by the rate at which the queue was worked off lately. */
  readonly retryAfterMs: number;

  constructor(message: string, retryAfterMs: number) {
    super('MOME_OVERLOADED', message);
    this.retryAfterMs = retryAfterMs;
  }
}

/** Errors that are about the whole call, whatever item it was at. */
const ofWholeCall: readonly ErrorCode[] = [
  'MOME_OVERLOADED',
  'MOME_DEADLINE',
  'MOME_ABORTED',
  'MOME_DISPOSED',
  'MOME_NATIVE_LOAD',
  'MOME_PROCESS_LOST',
  'MOME_INTERNAL',
];

/** The same error, saying which item of a call it is about, unless it says so already. */
export function aboutItem(error: unknown, where: string, about: ErrorItem): unknown {
  return error instanceof MomeError && error.kind === undefined ? ofOuterCall(error, where, about) : error;
}

/** The same error of a call inside another one, about the item of the outer call. */
export function ofOuterCall(error: unknown, where: string, about: ErrorItem): unknown {
  if (!(error instanceof MomeError) || ofWholeCall.includes(error.code)) return error;
  const { kind, index, item = error.item } = about;
  const name = `${kind}${index === undefined ? '' : ` ${index}`}${item === undefined ? '' : ` (${item})`}`;
  const options = { ...about, ...(item !== undefined && { item }), cause: error.cause };
  return new MomeError(error.code, `${where}: ${name}: ${expectation(error)}`, options);
}

/** The message of an error without the names of call and item: "expected ..., got ...". */
export function expectation({ message }: Error): string {
  return /(?:^|: )(expected .*)$/s.exec(message)?.[1] ?? message;
}

/** Throws a {@link MomeError} unless `condition` holds. */
export function check(condition: unknown, code: ErrorCode, message: string): asserts condition {
  if (!condition) throw new MomeError(code, message);
}

/** @throws MomeError `MOME_ABORTED` when the signal has fired; its reason is the cause */
export function requireNotAborted(signal: AbortSignal | undefined, where: string): void {
  if (signal?.aborted) throw new MomeError('MOME_ABORTED', `${where}: the call was aborted`, { cause: signal.reason });
}
