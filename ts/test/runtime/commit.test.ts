/** The list of files that change together: whose it is, what it may name, and whose temporary files may go. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  finishAbandoned,
  newTag,
  readCommit,
  removeLeftovers,
  startCommit,
  temporaryName,
} from '../../src/runtime/commit.ts';
import { expectCode, temporaryFolder } from '../helpers.ts';

const listOf = (owner: string, files: readonly (readonly [string, string])[]) =>
  JSON.stringify({ version: 1, owner, files });

describe('a list of files to rename', () => {
  it('of another call stays when one has renamed its own', async () => {
    const folder = await temporaryFolder();
    const [own, other] = [await newTag(), await newTag()];
    const temporary = temporaryName('x', own);
    await writeFile(join(folder, temporary), 'new');
    const finish = await startCommit(folder, own, new Map([[temporary, 'x']]));
    // Another process has finished this change and begun its own.
    const theirs = listOf(other, [[temporaryName('y', other), 'y']]);
    await writeFile(join(folder, '.mome-commit'), theirs);
    await finish();
    expect(await readFile(join(folder, '.mome-commit'), 'utf8')).toBe(theirs);
    expect(await readFile(join(folder, 'x'), 'utf8')).toBe('new');
  });

  it('names files of its folder alone', async () => {
    const folder = await temporaryFolder();
    const tag = await newTag();
    for (const [from, to] of [
      [temporaryName('../x', tag), 'x'],
      [temporaryName('x', tag), '../x'],
      [temporaryName('x', tag), 'deep/x'],
      [temporaryName('x', tag), '..'],
      [temporaryName('x', tag), ''],
      ['x', 'y'],
    ] as const) {
      await writeFile(join(folder, '.mome-commit'), listOf(tag, [[from, to]]));
      await expectCode(() => readCommit(folder), 'MOME_INVALID_FILE');
    }
  });
});

describe('temporary files', () => {
  /** A tag of a process that is not this one. */
  const tagOf = async (pid: number, start?: string) => {
    const [host, , own] = (await newTag()).split('-');
    return `${host}-${pid}-${start ?? own}-00000000`;
  };

  it('go when their process has ended, or another one has its number', async () => {
    const folder = await temporaryFolder();
    const child = spawn(process.execPath, ['-e', '']);
    await once(child, 'close');
    const own = await newTag();
    const [host, pid, start] = own.split('-');
    const gone = [await tagOf(child.pid!), `${host}-${pid}-${Number(start) - 1}-00000000`];
    const stay = [own, `0badcafe-${child.pid}-1-00000000`];
    for (const tag of [...gone, ...stay]) await writeFile(join(folder, temporaryName('x', tag)), '');
    await removeLeftovers(folder);
    expect((await readdir(folder)).sort()).toEqual(stay.map((tag) => temporaryName('x', tag)).sort());
  });

  it('of a change are renamed for an owner that has ended, and left to one that runs', async () => {
    const child = spawn(process.execPath, ['-e', '']);
    await once(child, 'close');
    for (const [tag, renamed] of [
      [await tagOf(child.pid!), true],
      [await newTag(), false],
    ] as const) {
      const folder = await temporaryFolder();
      const temporary = temporaryName('x', tag);
      await writeFile(join(folder, temporary), '');
      await writeFile(join(folder, '.mome-commit'), listOf(tag, [[temporary, 'x']]));
      await finishAbandoned(folder, (await readCommit(folder))!);
      expect(await readdir(folder)).toEqual(renamed ? ['x'] : ['.mome-commit', temporary]);
    }
  });
});
