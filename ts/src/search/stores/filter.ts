/** The one grammar of filters on metadata, and what it means. Backends translate its conditions; values are bound, never part of a text. */
import { describe, isObject } from '../../runtime/arguments.ts';
import { check, clip } from '../../runtime/errors.ts';

export type Scalar = string | number | boolean;
/** Fields of a row, by name. */
export type Metadata = Readonly<Record<string, Scalar>>;

/** Bounds of a field: numbers, or texts by their Unicode code points. */
export interface Range {
  readonly gt?: number | string;
  readonly gte?: number | string;
  readonly lt?: number | string;
  readonly lte?: number | string;
}

/**
 * Conditions on fields, all of which must hold: a value that the field is equal to, `{ in: [...] }`, or bounds. A row without the field, or
 * with a value of another type there, does not match: `5` is not `'5'`.
 *
 * @example
 * const filter = { kind: 'photo', year: { gte: 2020, lt: 2024 }, tag: { in: ['cat', 'dog'] } };
 */
export type Filter = Readonly<Record<string, Scalar | { readonly in: readonly Scalar[] } | Range>>;

export type Bound = 'gt' | 'gte' | 'lt' | 'lte';

/** One condition of a filter. */
export type Condition =
  | { readonly field: string; readonly op: 'in'; readonly values: readonly Scalar[] }
  | { readonly field: string; readonly op: Bound; readonly value: number | string };

const fieldPattern = /^[A-Za-z_][A-Za-z0-9_]{0,62}$/;
const bounds: readonly Bound[] = ['gt', 'gte', 'lt', 'lte'];
const maxFields = 64;
const maxValues = 1000;
/** Bytes of all metadata of a row, as JSON. */
const maxMetadataBytes = 2 ** 16;

/** Whether a text can be kept by every backend: whole characters, none of them NUL. */
export const isStorable = (text: string): boolean => !text.includes('\0') && !/\p{Surrogate}/u.test(text);

const isScalar = (value: unknown): value is Scalar =>
  typeof value === 'boolean' || Number.isFinite(value) || (typeof value === 'string' && isStorable(value));

const isPlain = (value: unknown): value is Readonly<Record<string, unknown>> =>
  isObject(value) && Object.prototype.toString.call(value) === '[object Object]';

/** Whether a value that was read again is metadata of a row. */
export const isMetadata = (value: unknown): value is Metadata => isPlain(value) && Object.values(value).every(isScalar);

/** The conditions of a filter. @throws MomeError `MOME_INVALID_ARGUMENT` for anything that the grammar does not have */
export function takeFilter(where: string, filter: unknown): readonly Condition[] {
  if (filter === undefined) return [];
  check(isPlain(filter), 'MOME_INVALID_ARGUMENT', `${where}: expected filter to be an object, got ${describe(filter)}`);
  const entries = Object.entries(filter);
  check(
    entries.length <= maxFields,
    'MOME_INVALID_ARGUMENT',
    `${where}: expected a filter of at most ${maxFields} fields, got ${entries.length}`,
  );
  return entries.flatMap(([field, wanted]) => conditionsOf(where, field, wanted));
}

function conditionsOf(where: string, field: string, wanted: unknown): readonly Condition[] {
  requireField(where, field);
  if (isScalar(wanted)) return [{ field, op: 'in', values: [wanted] }];
  const name = `${where}: filter of ${field}`;
  const expected = 'expected a text, a number, true, false, { in: [...] } or bounds { gt, gte, lt, lte }';
  check(isPlain(wanted), 'MOME_INVALID_ARGUMENT', `${name}: ${expected}, got ${describe(wanted)}`);
  const keys = Object.keys(wanted);
  if (keys.length === 1 && keys[0] === 'in') {
    const { in: values } = wanted;
    check(
      Array.isArray(values) && values.length <= maxValues && values.every(isScalar),
      'MOME_INVALID_ARGUMENT',
      `${name}: expected a list of at most ${maxValues} texts, numbers or truth values, got ${describe(values)}`,
    );
    return [{ field, op: 'in', values: [...(values as Scalar[])] }];
  }
  const isRange = keys.length > 0 && keys.every((key) => (bounds as readonly string[]).includes(key));
  check(isRange, 'MOME_INVALID_ARGUMENT', `${name}: ${expected}, got { ${clip(keys.join(', '))} }`);
  return keys.map((key): Condition => {
    const value = wanted[key];
    check(
      isScalar(value) && typeof value !== 'boolean',
      'MOME_INVALID_ARGUMENT',
      `${name}: expected ${key} to be a number or a text, got ${describe(value)}`,
    );
    return { field, op: key as Bound, value };
  });
}

function requireField(where: string, field: string): void {
  check(
    fieldPattern.test(field),
    'MOME_INVALID_ARGUMENT',
    `${where}: expected fields of letters, digits and _, at most 63 of them, got ${describe(field)}`,
  );
}

/** A copy of metadata. @throws MomeError `MOME_INVALID_ARGUMENT`, `MOME_TOO_LARGE` */
export function takeMetadata(where: string, metadata: unknown): Metadata {
  if (metadata === undefined) return {};
  check(
    isPlain(metadata),
    'MOME_INVALID_ARGUMENT',
    `${where}: expected metadata to be an object, got ${describe(metadata)}`,
  );
  const taken = Object.entries(metadata);
  for (const [field, value] of taken) {
    requireField(where, field);
    check(
      isScalar(value),
      'MOME_INVALID_ARGUMENT',
      `${where}: expected ${field} to be a text without NUL, a finite number, true or false, got ${describe(value)}`,
    );
  }
  const bytes = Buffer.byteLength(JSON.stringify(metadata));
  check(
    bytes <= maxMetadataBytes && taken.length <= maxFields,
    'MOME_TOO_LARGE',
    `${where}: expected metadata of at most ${maxFields} fields and ${maxMetadataBytes} bytes, got ${taken.length} and ${bytes}`,
  );
  return Object.fromEntries(taken) as Metadata;
}

/** Whether a row with this metadata matches. What backends do in their own language gives the same. */
export function matches(conditions: readonly Condition[], metadata: Metadata): boolean {
  return conditions.every((condition) => {
    const value = Object.hasOwn(metadata, condition.field) ? metadata[condition.field] : undefined;
    if (condition.op === 'in') return value !== undefined && condition.values.includes(value);
    if (value === undefined || typeof value !== typeof condition.value) return false;
    const order = compare(value as number | string, condition.value);
    switch (condition.op) {
      case 'gt':
        return order > 0;
      case 'gte':
        return order >= 0;
      case 'lt':
        return order < 0;
      case 'lte':
        return order <= 0;
      default:
        return condition satisfies never;
    }
  });
}

/** Numbers by size, texts by code points. */
function compare(a: number | string, b: number | string): number {
  return typeof a === 'number' && typeof b === 'number' ? a - b : byCodePoints(String(a), String(b));
}

/** The order of texts by their Unicode code points, which databases have as the order of their bytes in UTF-8. */
export function byCodePoints(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
