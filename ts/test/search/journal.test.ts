/** The journal of a build that was stopped. */
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Journal } from '../../src/search/journal.ts';
import { temporaryFolder } from '../helpers.ts';

it('a row that is not finite is not taken, though its checksum is right', async () => {
  const path = join(await temporaryFolder(), 'index');
  const model = { fingerprint: 'f'.repeat(64), config: { width: 2 } } as Parameters<typeof Journal.beside>[1];
  const changed = { path: '/a.png', size: 1, modified: 1, changed: 1, hash: 'a'.repeat(64) };
  const rows = [
    [1, 2],
    [Number.NaN, 1],
    [3, 4],
  ];
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
    rows[1]![0] = bad;
    const journal = await Journal.beside(path, model);
    await journal.append(rows.map((row) => ({ item: changed, embedding: Float32Array.from(row) })));
    await journal.close();
    const taken: number[][] = [];
    await (await Journal.beside(path, model)).readEarlier(({ embedding }) => taken.push([...embedding]), undefined);
    expect(taken.length).toBeGreaterThan(0);
    expect(taken.every(([first, second]) => first === 1 && second === 2)).toBe(true);
  }
});
