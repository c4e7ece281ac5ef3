import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { jsonItems } from '../../src/runtime/json-items.ts';
import { expectCode, temporaryFolder } from '../helpers.ts';
import { expectShortTurns } from '../loop-gap.ts';

const options = { list: 'items', depth: 8, bytes: 2 ** 24 };

async function read(text: string | Uint8Array, changed: object = {}): Promise<unknown[]> {
  const file = join(await temporaryFolder(), 'items.json');
  await writeFile(file, text);
  const values: unknown[] = [];
  for await (const value of jsonItems(file, 'items', { ...options, ...changed })) values.push(value);
  return values;
}

describe('items of a list in a file', () => {
  it('are those that JSON.parse gives, without names that are left out', async () => {
    const items = [
      1,
      'two',
      null,
      { items: [3], kept: 'é\u4e2d\ud83d\ude00', tokens: [1, { tokens: 2 }] },
      [[]],
      true,
      -1.5e3,
    ];
    const text = JSON.stringify({ before: { items: [9] }, items, after: ['x'] });
    expect(await read(text)).toEqual(items);
    expect(await read(`\uFEFF${text}`)).toEqual(items);
    const [, , , object] = await read(text, { leftOut: ['tokens'] });
    expect(object).toEqual({ items: [3], kept: 'é\u4e2d\ud83d\ude00' });
    expect(await read('{"items": []}')).toEqual([]);
  });

  it('are the same wherever the file is cut into pieces', async () => {
    const items = Array.from({ length: 40_000 }, (_, i) => ({ at: i, text: 'é'.repeat(i % 7) }));
    expect(await read(JSON.stringify({ items }))).toEqual(items);
  });

  it.each([
    ['an empty file', ''],
    ['no JSON', 'hello'],
    ['a list', '[1, 2]'],
    ['another list', '{"other": [1]}'],
    ['a list further in', '{"a": {"items": [1]}}'],
    ['a number in place of the list', '{"items": 3}'],
    ['an end too early', '{"items": [1, 2'],
    ['a comma too many', '{"items": [1,, 2]}'],
    ['text behind the end', '{"items": [1]} x'],
  ])('are refused for %s', async (_, text) => {
    await expectCode(() => read(text), 'MOME_INVALID_FILE');
  });

  it('are refused beyond the limits', async () => {
    await expectCode(() => read(`{"items": [${'['.repeat(9)}`), 'MOME_TOO_LARGE');
    await expectCode(() => read(`{"items": [${'{"a":'.repeat(9)}`), 'MOME_TOO_LARGE');
    await expectCode(() => read('{"items": [1]}', { bytes: 13 }), 'MOME_TOO_LARGE');
    await expectCode(() => read('version https://git-lfs.github.com/spec/v1\noid'), 'MOME_INVALID_FILE');
    const nowhere = jsonItems('/nowhere.json', 'items', options);
    await expectCode(() => nowhere.next(), 'MOME_NOT_FOUND');
  });

  it('hold the loop shortly', async () => {
    const text = `{"items": [${'{"a":[1,2,3],"b":"c"},'.repeat(2 ** 17)}1]}`;
    await expectShortTurns(() => read(text));
  });
});
