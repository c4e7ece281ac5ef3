import { open, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { exists, makeFolder } from '../../src/runtime/files.ts';
import { expectCode, temporaryFolder } from '../helpers.ts';

describe('exists', () => {
  it('finds folders and files of any size', async () => {
    const folder = await temporaryFolder();
    const large = join(folder, 'large');
    const file = await open(large, 'w');
    await file.truncate(3 * 2 ** 30);
    await file.close();
    expect(await exists(folder)).toBe(true);
    expect(await exists(large)).toBe(true);
    expect(await exists(join(folder, 'missing'))).toBe(false);
    expect(await exists(join(large, 'below'))).toBe(false);
  });
});

describe('makeFolder', () => {
  it('makes all that is missing, also when several callers ask for the same', async () => {
    const deep = join(await temporaryFolder(), 'a', 'b', 'c');
    await Promise.all([makeFolder(deep), makeFolder(deep), makeFolder(join(deep, '..', 'd'))]);
    await makeFolder(deep);
    expect((await stat(deep)).isDirectory()).toBe(true);
  });

  it('refuses a file in the way, and a file system that takes no folders', async () => {
    const file = join(await temporaryFolder(), 'file');
    await writeFile(file, '');
    await expectCode(() => makeFolder(file), 'MOME_IO');
    await expectCode(() => makeFolder(join(file, 'below')), 'MOME_IO');
    await expectCode(() => makeFolder('/proc/mome/folder'), 'MOME_IO');
  });
});
