/** Names of data files: patterns, numbered shards and folders, as lists of files. */
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { check, MomeError } from '../../runtime/errors.ts';
import { byCodeUnits } from '../../runtime/pace.ts';

const mostFiles = 100_000;
/** Missing files that a message names. */
const mostNamed = 10;

/**
 * The files that a name stands for, in the order of their names. `{000..127}` counts, with zeros in front where the first number has them; `*`
 * and `?` in the last part of a path match what is there. Shards named `00003-of-00010` must all be there.
 *
 * @throws MomeError `MOME_NOT_FOUND` naming what is missing; `MOME_INVALID_ARGUMENT` for ranges that are none
 */
export async function filesOf(name: string): Promise<string[]> {
  const files: string[] = [];
  for (const each of countedNames(name)) files.push(...(await matches(each)));
  const missing: string[] = [];
  for (const file of files) if (!(await stat(file).catch(() => undefined))) missing.push(file);
  requireAll(missing, name);
  requireAll(missingOfSet(files), name);
  return files;
}

function requireAll(missing: readonly string[], name: string): void {
  const more = missing.length > mostNamed ? ` and ${missing.length - mostNamed} more` : '';
  check(
    missing.length === 0,
    'MOME_NOT_FOUND',
    `${name}: expected all its files, these are missing: ${missing.slice(0, mostNamed).join(', ')}${more}`,
  );
}

/** A name with a range of numbers, as one name for each. */
function countedNames(name: string): string[] {
  const range = /\{(\d+)\.\.(\d+)\}/.exec(name);
  if (!range) return [name];
  const [whole, first = '', last = ''] = range;
  const count = Number(last) - Number(first) + 1;
  check(
    count >= 1 && count <= mostFiles,
    'MOME_INVALID_ARGUMENT',
    `${name}: expected a range of 1 to ${mostFiles} numbers, got ${whole}`,
  );
  const width = first.startsWith('0') && first.length > 1 ? first.length : 0;
  return Array.from({ length: count }, (_, i) =>
    name.replace(whole, String(Number(first) + i).padStart(width, '0')),
  ).flatMap(countedNames);
}

async function matches(name: string): Promise<string[]> {
  const pattern = path.basename(name);
  if (!/[*?]/.test(pattern)) return [name];
  const folder = path.dirname(name);
  const entries = await readdir(folder).catch((error: unknown) => {
    throw new MomeError('MOME_NOT_FOUND', `${name}: expected a folder ${folder}, found none`, { cause: error });
  });
  const found = entries.filter((entry) => isMatch(entry, pattern)).sort(byCodeUnits);
  check(found.length > 0, 'MOME_NOT_FOUND', `${name}: expected a file of such a name, found none`);
  check(
    found.length <= mostFiles,
    'MOME_TOO_LARGE',
    `${name}: expected at most ${mostFiles} files, got ${found.length}`,
  );
  return found.map((entry) => path.join(folder, entry));
}

/** Whether `*` and `?` of a pattern can stand for parts of `text`, in time that grows with the product of their lengths at most. */
function isMatch(text: string, pattern: string): boolean {
  let [at, from, star, resume] = [0, 0, -1, 0];
  while (at < text.length) {
    if (pattern[from] === '*') {
      star = from++;
      resume = at;
    } else if (from < pattern.length && (pattern[from] === '?' || pattern[from] === text[at])) {
      from++;
      at++;
    } else if (star >= 0) {
      from = star + 1;
      at = ++resume;
    } else return false;
  }
  while (pattern[from] === '*') from++;
  return from === pattern.length;
}

/** Shards of sets that say how many they have, which are not in the list. */
function missingOfSet(files: readonly string[]): string[] {
  const known = new Set(files);
  const missing = new Set<string>();
  for (const file of files) {
    const part = /^(.*?)(\d+)-of-(\d+)([^/]*)$/.exec(file);
    if (!part) continue;
    const [, before = '', number = '', count = '', after = ''] = part;
    // Some count from 0, some from 1.
    const shard = (i: number) => `${before}${String(i).padStart(number.length, '0')}-of-${count}${after}`;
    const first = known.has(shard(Number(count))) ? 1 : 0;
    if (Number(count) > mostFiles) continue;
    for (let i = first; i < first + Number(count); i++) if (!known.has(shard(i))) missing.add(shard(i));
  }
  return [...missing].sort(byCodeUnits);
}
