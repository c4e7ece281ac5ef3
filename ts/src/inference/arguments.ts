/**
 * What callers give, looked at before any work: JavaScript has no types, and a text or a buffer has a length like a list.
 */
import { check } from '../runtime/errors.ts';

/** @throws MomeError `MOME_INVALID_ARGUMENT` unless `value` is an array */
export function requireList(value: unknown, where: string, items: string): void {
  check(
    Array.isArray(value),
    'MOME_INVALID_ARGUMENT',
    `${where}: expected a list of ${items}, also for a single one, got ${kindOf(value)}`,
  );
}

/** @throws MomeError `MOME_INVALID_ARGUMENT` unless `value` is an array of pictures with their texts */
export function requirePairs(value: unknown, where: string): void {
  requireList(value, where, 'pairs { image, text }');
  for (const [i, pair] of (value as readonly unknown[]).entries()) {
    check(
      isObject(pair) && 'image' in pair && 'text' in pair && typeof pair.text === 'string',
      'MOME_INVALID_ARGUMENT',
      `${where}: expected pair ${i} to be { image, text }, got ${isObject(pair) ? `{ ${Object.keys(pair).join(', ')} }` : kindOf(pair)}`,
    );
  }
}

/** @throws MomeError `MOME_INVALID_ARGUMENT` unless `k` is a count above 0 */
export function requireCount(k: number, where: string): void {
  check(Number.isInteger(k) && k > 0, 'MOME_INVALID_ARGUMENT', `${where}: expected k > 0, got ${k}`);
}

export function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

function kindOf(value: unknown): string {
  return isObject(value) ? (value.constructor?.name ?? 'object') : value === null ? 'null' : typeof value;
}
