/**
 * Checks and copies the arguments of callers before any work. JavaScript has no types: a misspelt option would be ignored, and a list that
 * changes during a call would give wrong results.
 */
import { fileURLToPath } from 'node:url';
import { types } from 'node:util';
import { isAbortSignal } from './abort.ts';
import { check, MomeError } from './errors.ts';

/** Most characters of a caller's text in a message. */
const shownCharacters = 80;

/** A text as messages show it: in quotes, control characters escaped, its beginning alone when it is long. */
export function shortText(text: string): string {
  return JSON.stringify(text.length <= shownCharacters ? text : `${text.slice(0, shownCharacters - 3)}...`);
}

/** A value as messages show it: texts and numbers themselves, the class of an object. */
export function describe(value: unknown): string {
  if (typeof value === 'string') return shortText(value);
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'function') return 'a function';
  if (typeof value !== 'object' || value === null) return String(value);
  const name: unknown = value.constructor?.name;
  return typeof name === 'string' && name !== '' ? name : 'an object';
}

export function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

/** The accepted values of an option. */
export interface Kind {
  /** Reads after "expected <option> to be". */
  readonly expected: string;
  readonly accepts: (value: unknown) => boolean;
}

/** The kinds of options. */
export const kinds = {
  signal: { expected: 'an AbortSignal', accepts: isAbortSignal },
  callback: { expected: 'a function', accepts: (value) => typeof value === 'function' },
  count: { expected: 'a whole number above 0', accepts: (value) => Number.isSafeInteger(value) && Number(value) > 0 },
  size: {
    expected: 'a whole number of at least 0',
    accepts: (value) => Number.isSafeInteger(value) && Number(value) >= 0,
  },
  number: { expected: 'a finite number', accepts: (value) => Number.isFinite(value) },
  text: { expected: 'a text', accepts: (value) => typeof value === 'string' },
  path: { expected: 'a path', accepts: isPath },
  flag: { expected: 'true or false', accepts: (value) => typeof value === 'boolean' },
  object: { expected: 'an object', accepts: isObject },
  list: { expected: 'a list', accepts: Array.isArray },
  map: { expected: 'a Map', accepts: (value) => isObject(value) && 'get' in value && typeof value.get === 'function' },
  numbers: { expected: 'a list of numbers', accepts: isNumbers },
  // (Also arrays of another realm: a test runner may give each test its own.)
  floats: { expected: 'a Float32Array', accepts: types.isFloat32Array },
  integers: { expected: 'an Int32Array', accepts: types.isInt32Array },
} as const satisfies Readonly<Record<string, Kind>>;

/** Whether `value` is a list of numbers or a typed array of them. */
function isNumbers(value: unknown): boolean {
  if (Array.isArray(value)) return value.every((each) => typeof each === 'number' || typeof each === 'boolean');
  return ArrayBuffer.isView(value) && 'length' in value && !/^Big/.test(describe(value));
}

/** Anything with methods of these names. */
export function withMethods(expected: string, ...names: readonly string[]): Kind {
  return {
    expected,
    accepts: (value) =>
      isObject(value) &&
      names.every((name) => typeof (value as Readonly<Record<string, unknown>>)[name] === 'function'),
  };
}

/** One of the values in a list. */
export function oneOf(values: readonly unknown[]): Kind {
  return {
    expected: values
      .slice(0, -1)
      .join(', ')
      .concat(` or ${values.at(-1)}`),
    accepts: (value) => values.includes(value),
  };
}

/** The kind of every option of a call. */
export type Kinds<T> = Readonly<Record<keyof T, Kind>>;

/**
 * The options of a call, each read once. Those that are undefined are left out.
 *
 * @param where name of the call, for messages
 * @throws MomeError `MOME_INVALID_ARGUMENT` for options that are no plain object, an option that the call does not have, or a value of
 *   another kind
 */
export function takeOptions<T extends object>(where: string, options: T | undefined, known: Kinds<T>): T {
  return takeFields(where, 'options', options === undefined ? {} : options, known) as T;
}

/** The same for an argument that is an object of named parts, such as `items` or `query`. */
export function takeFields<T extends object>(where: string, name: string, value: unknown, known: Kinds<T>): Partial<T> {
  const names = Object.keys(known);
  check(
    Object.prototype.toString.call(value) === '[object Object]',
    'MOME_INVALID_ARGUMENT',
    `${where}: expected ${name} to be an object { ${names.join(', ')} }, got ${describe(value)}`,
  );
  const given = value as Readonly<Record<string, unknown>>;
  const taken: Record<string, unknown> = {};
  for (const key of new Set([...names, ...Object.keys(given)])) {
    const field = given[key];
    if (field === undefined) continue;
    const kind = Object.hasOwn(known, key) ? known[key as keyof T] : undefined;
    check(
      kind !== undefined,
      'MOME_INVALID_ARGUMENT',
      `${where}: expected no ${name} but ${names.join(', ')}, got ${shortText(key)}`,
    );
    check(
      kind.accepts(field),
      'MOME_INVALID_ARGUMENT',
      `${where}: expected ${key} to be ${kind.expected}, got ${describe(field)}`,
    );
    taken[key] = field;
  }
  return taken as Partial<T>;
}

/** @throws MomeError `MOME_INVALID_ARGUMENT` unless `value`, the argument `name` of a call, is of the kind */
export function checkKind(where: string, name: string, value: unknown, kind: Kind): void {
  check(
    kind.accepts(value),
    'MOME_INVALID_ARGUMENT',
    `${where}: expected ${name} to be ${kind.expected}, got ${describe(value)}`,
  );
}

/** @throws MomeError `MOME_INVALID_ARGUMENT` unless `signal` is one or left out */
export function checkSignal(where: string, signal: unknown): void {
  if (signal !== undefined) checkKind(where, 'signal', signal, kinds.signal);
}

/**
 * A copy of a caller's list, each item read once.
 *
 * @param where name of the call, for messages
 * @param items name of the items in messages, in the plural
 * @param kind name of one item in messages
 * @throws MomeError `MOME_INVALID_ARGUMENT` unless `value` is an array, or for a place that holds nothing, with its index
 */
export function takeList(where: string, value: unknown, items: string, kind: string): unknown[] {
  check(
    Array.isArray(value),
    'MOME_INVALID_ARGUMENT',
    `${where}: expected a list (an array) of ${items}, also for a single one, got ${describe(value)}`,
  );
  const list: readonly unknown[] = value;
  const copy: unknown[] = [];
  for (let index = 0, count = list.length; index < count; index++) {
    const item = list[index];
    if (item === undefined || item === null) {
      const got = item === null ? 'null' : index in list ? 'undefined' : 'a hole in the list';
      throw new MomeError('MOME_INVALID_ARGUMENT', `${where}: ${kind} ${index}: expected a ${kind}, got ${got}`, {
        kind,
        index,
      });
    }
    copy.push(item);
  }
  return copy;
}

/** A copy of a list of texts. @throws MomeError `MOME_INVALID_ARGUMENT` with the index of an item that is no text */
export function takeTexts(where: string, value: unknown, items = 'texts', kind = 'text'): string[] {
  return takeList(where, value, items, kind).map((item, index) => takeText(where, item, kind, index));
}

/** @throws MomeError `MOME_INVALID_ARGUMENT` unless `value` is a text */
export function takeText(where: string, value: unknown, kind: string, index?: number): string {
  if (typeof value === 'string') return value;
  const name = index === undefined ? kind : `${kind} ${index}`;
  const message = `${where}: ${name}: expected a text, got ${describe(value)}`;
  throw new MomeError('MOME_INVALID_ARGUMENT', message, { kind, ...(index !== undefined && { index }) });
}

/**
 * A path: a text, or a `file:` URL.
 *
 * @param what names the file in messages
 * @throws MomeError `MOME_INVALID_ARGUMENT` for anything else, an empty text, or one with a NUL in it
 */
export function takePath(where: string, value: unknown, what: string): string {
  const path = value instanceof URL ? pathOfUrl(where, value, what) : value;
  check(isPath(path), 'MOME_INVALID_ARGUMENT', `${where}: expected the path of ${what}, got ${describe(path)}`);
  return path;
}

/** Whether `value` is a text that can name a file. */
export function isPath(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && !value.includes('\0');
}

function pathOfUrl(where: string, url: URL, what: string): string {
  try {
    return fileURLToPath(url);
  } catch (error) {
    const message = `${where}: expected the path or file: URL of ${what}, got ${shortText(url.href)}`;
    throw new MomeError('MOME_INVALID_ARGUMENT', message, { cause: error });
  }
}

/**
 * Tells a caller how far a call has come. A callback that fails, or whose promise does, ends the call with the same error.
 */
export async function report<T extends readonly unknown[]>(
  callback: ((...values: T) => unknown) | undefined,
  ...values: T
): Promise<void> {
  await callback?.(...values);
}
