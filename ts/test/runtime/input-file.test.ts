/** What happens to names between the look at a file and its opening. */
import { execFileSync } from 'node:child_process';
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, expect, it, vi } from 'vitest';
import { openModelFiles } from '../../src/checkpoint/index.ts';
import { InputFile } from '../../src/runtime/input-file.ts';
import { expectCode, temporaryFolder } from '../helpers.ts';

const between = vi.hoisted(() => ({ call: (_path: string): void => {} }));
vi.mock('node:fs', async (original) => {
  const fs = await original<typeof import('node:fs')>();
  const stat = (path: string, options: { bigint: true }, done: (error: unknown, stats: unknown) => void): void =>
    fs.stat(path, options, (error, stats) => {
      between.call(path);
      done(error, stats);
    });
  return { ...fs, stat };
});
afterEach(() => {
  between.call = () => {};
});

it('takes no pipe or folder that has come into the place of a file', async () => {
  const path = join(await temporaryFolder(), 'file');
  await writeFile(path, 'a');
  between.call = () => {
    rmSync(path);
    execFileSync('mkfifo', [path]);
  };
  expect((await expectCode(() => InputFile.open(path), 'MOME_INVALID_FILE')).message).toMatch(/got a named pipe/);
  between.call = () => {};
  await rm(path);
  await mkdir(path);
  expect((await expectCode(() => InputFile.open(path), 'MOME_INVALID_FILE')).message).toMatch(/got a folder/);
});

it('reads the file that it opened, whatever has its name now', async () => {
  const path = join(await temporaryFolder(), 'file');
  await writeFile(path, 'first');
  const file = await InputFile.open(path);
  rmSync(path);
  writeFileSync(path, 'other');
  expect(Buffer.from(await file.read(0, 5)).toString()).toBe('first');
  expect(await file.isAt(path)).toBe(false);
  await file.requireUnchanged();
  file.close();
});

const parts = ['config.json', 'vocab.txt', 'answers.json', 'model.safetensors'];

it.each(parts)('opens files of one moment where all are replaced when %s is looked at', async (part) => {
  const folder = await temporaryFolder();
  const put = (kind: string): void => {
    const texts = [`{"fusionWeight":${kind === 'old' ? 1 : 2}}`, kind, `["${kind}"]`, kind];
    for (const [i, name] of parts.entries()) {
      writeFileSync(join(folder, 'next'), texts[i]!);
      renameSync(join(folder, 'next'), join(folder, name));
    }
  };
  put('old');
  between.call = (path) => {
    if (path !== join(folder, part)) return;
    between.call = () => {};
    put('new');
  };
  const files = await openModelFiles(folder);
  const found = [
    Buffer.from(await files.weightsFile.read(0, 3)).toString(),
    (await files.readVocabulary())?.text,
    files.answers?.[0],
    (await files.readFusion()).fusionWeight === 1 ? 'old' : 'new',
  ];
  files.close();
  expect(found).toEqual(['new', 'new', 'new', 'new']);
});
