/** Results as files: what was measured takes the place of what was there, and rows that were not measured stay with their date. */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

/** JSON with lists of numbers, of which there are many, on one line each. */
export function printed(value) {
  return JSON.stringify(value, null, 2).replace(/\[[-\d.e+,\s]+\]/g, (list) => list.replace(/\s+/g, ' '));
}

/** Rows in the order of these names; those of one name stay as they are. */
export function inOrder(rows, names) {
  return [...rows].sort((a, b) => names.indexOf(a.name) - names.indexOf(b.name));
}

/**
 * A result with the rows of an older one that it lacks. Each of those says by `of` what run it is from. Rows that the table no longer has
 * are dropped. The order is that of the table.
 *
 * @param {any} result
 * @param {any | undefined} older the file as it is
 * @param {readonly string[]} names all rows of the table
 */
export function withOlderRows(result, older, names) {
  if (older === undefined) return result;
  const { date, commit, rounds } = older;
  const measured = new Set(result.rows.map(({ name }) => name));
  const kept = older.rows
    .filter(({ name }) => names.includes(name) && !measured.has(name))
    .map((row) => ({ ...row, of: row.of ?? { date, commit, rounds } }));
  const versions = { ...(kept.length > 0 && older.versions), ...result.versions };
  return { ...result, versions, rows: inOrder([...result.rows, ...kept], names) };
}

/** The result in a file, undefined where there is none. */
export function readResult(path) {
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : undefined;
}

/** Writes a result. The file is whole at any time: a run can end at any time. */
export function writeResult(path, result) {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.new`, `${printed(result)}\n`);
  renameSync(`${path}.new`, path);
}
