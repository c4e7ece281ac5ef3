/** Files that change together: a process that is killed at any call leaves the old or the new ones, and a full disk the old ones. */
import { spawn, spawnSync } from 'node:child_process';
import { copyFile, cp, mkdir, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { convertCheckpoint, openModelFiles } from '../../src/checkpoint/index.ts';
import { replaceFile, writeTogether } from '../../src/runtime/files.ts';
import { expectCode, temporaryFolder, tinyModel } from '../helpers.ts';

const preload = pathToFileURL(fileURLToPath(new URL('stop-at.mjs', import.meta.url))).href;
const library = pathToFileURL(fileURLToPath(new URL('../../../dist/index.mjs', import.meta.url))).href;

let folder = '';
/** Two models of the same sizes with other weights, vocabulary, answers and configuration. */
let before = '';
let after = '';
beforeAll(async () => {
  folder = await temporaryFolder();
  before = await tinyModel();
  after = join(folder, 'after');
  await cp(before, after, { recursive: true });
  const config = JSON.parse(await readFile(join(after, 'config.json'), 'utf8')) as Record<string, unknown>;
  await writeFile(join(after, 'config.json'), JSON.stringify({ ...config, fusionWeight: 2 }));
  await writeFile(join(after, 'vocab.txt'), (await readFile(join(after, 'vocab.txt'), 'utf8')).replace('red', 'rot'));
  await writeFile(
    join(after, 'answers.json'),
    (await readFile(join(after, 'answers.json'), 'utf8')).replace('yes', 'ja'),
  );
});

/** A folder with the old model, and a file of somebody else. */
async function target(): Promise<string> {
  const path = await temporaryFolder();
  await cp(before, path, { recursive: true });
  await writeFile(join(path, 'somebody.tmp'), 'else');
  return path;
}

/** Converts `after`, as bfloat16, into the folder, in a process of its own. */
function convert(into: string, env: Readonly<Record<string, string>> = {}) {
  const code = `import { convertCheckpoint } from ${JSON.stringify(library)};
    try { await convertCheckpoint(${JSON.stringify(after)}, ${JSON.stringify(into)}, { dtype: 'bfloat16' }); }
    catch (error) { console.log(error.code, error.message); process.exitCode = 3; }`;
  const args = ['--import', preload, '--input-type=module', '-e', code];
  const child = spawn(process.execPath, args, {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let printed = '';
  child.stdout.on('data', (text: Buffer) => {
    printed += text.toString();
  });
  return new Promise<{ readonly signal: string | null; readonly code: number | null; readonly printed: string }>(
    (done) => child.on('close', (exit, signal) => done({ signal, code: exit, printed })),
  );
}

/** Which model a reader finds: weights, configuration, vocabulary and answers must be of the same. */
async function found(path: string): Promise<string> {
  const files = await openModelFiles(path);
  const header = Buffer.from(await files.weightsFile.read(0, 4096)).toString('latin1');
  const parts = [
    header.includes('"BF16"') ? 'new' : 'old',
    (await files.readFusion()).fusionWeight === 2 ? 'new' : 'old',
    (await files.readVocabulary())!.text.includes('rot') ? 'new' : 'old',
    files.answers![0] === 'ja' ? 'new' : 'old',
  ];
  files.close();
  return [...new Set(parts)].join(' and ');
}

const names = async (path: string) => (await readdir(path)).sort();
const clean = ['answers.json', 'config.json', 'model.safetensors', 'somebody.tmp', 'vocab.txt'];

describe('a model that is written over another', () => {
  it('is the old or the new one wherever its process is killed, and nothing is left behind', async () => {
    const whole = await target();
    const counter = join(folder, 'count');
    expect((await convert(whole, { COUNT_IN: counter })).code).toBe(0);
    expect(await found(whole)).toBe('new');
    expect(await names(whole)).toEqual(clean);
    const steps = Number(await readFile(counter, 'utf8'));
    expect(steps).toBeGreaterThan(15);
    const seen: string[] = [];
    const left = new Set<number>();
    const kill = async (step: number) => {
      const path = await target();
      expect((await convert(path, { STOP_AT: String(step) })).signal, `step ${step}`).toBe('SIGKILL');
      left.add((await readdir(path)).length);
      seen[step] = await found(path);
      await convertCheckpoint(after, path, { dtype: 'bfloat16' });
      expect(await found(path)).toBe('new');
      expect(await names(path)).toEqual(clean);
      await rm(path, { recursive: true });
    };
    // Writes of one tensor after another are alike: every call before and after them, and some of them.
    const all = Array.from({ length: steps }, (_, i) => i + 1);
    const chosen = all.filter((step) => step <= 2 || step > steps - 24 || step % 20 === 0);
    const next = [...chosen];
    await Promise.all(
      [1, 2].map(async () => {
        for (let step = next.shift(); step !== undefined; step = next.shift()) await kill(step);
      }),
    );
    const order = chosen.map((step) => seen[step]);
    const change = order.indexOf('new');
    expect(change).toBeGreaterThan(5);
    expect(order.slice(0, change).every((each) => each === 'old')).toBe(true);
    expect(order.slice(change).every((each) => each === 'new')).toBe(true);
    expect(left.size).toBeGreaterThan(2);
  }, 300_000);

  it('is on the disk before it counts, and the list of its files before they are renamed', async () => {
    const path = await target();
    const log = join(folder, 'log');
    expect((await convert(path, { LOG_IN: log })).code).toBe(0);
    const calls = JSON.parse(await readFile(log, 'utf8')) as string[];
    const first = (start: string) => calls.findIndex((call) => call.startsWith(start));
    const link = first(`link ${path}`);
    const folderSyncs = calls.flatMap((call, i) => (call === `sync ${path}` ? [i] : []));
    const renames = calls.flatMap((call, i) => (call.startsWith('rename ') ? [i] : []));
    expect(renames.length).toBe(4);
    expect(first(`writeFile, flushed ${join(path, '.mome-commit')}`)).toBeGreaterThan(-1);
    const synced = renames.map((i) => calls.indexOf(calls[i]!.replace('rename', 'sync')));
    expect(Math.min(...synced)).toBeGreaterThan(-1);
    const between = (a: number, b: number) => folderSyncs.some((sync) => sync > a && sync < b);
    expect(between(Math.max(...synced), link), 'names of the temporary files').toBe(true);
    expect(between(link, renames[0]!), 'the list').toBe(true);
    expect(between(renames.at(-1)!, calls.lastIndexOf(`rm ${join(path, '.mome-commit')}`)), 'the renames').toBe(true);
  });

  it('is read whole at any moment of a change', async () => {
    const path = await target();
    const other = await temporaryFolder();
    await convertCheckpoint(after, other, { dtype: 'bfloat16' });
    const parts = clean.filter((name) => name !== 'somebody.tmp');
    let writing = true;
    const written = (async () => {
      for (let i = 0; i < 60; i++)
        await writeTogether(path, async (fileIn) => {
          for (const part of parts) await copyFile(join(i % 2 === 0 ? other : before, part), fileIn(part));
        });
    })().finally(() => {
      writing = false;
    });
    const seen = new Set<string>();
    while (writing) seen.add(await found(path));
    await written;
    expect([...seen].sort()).toEqual(['new', 'old']);
  });

  it('is not read with the tokenizer of another', async () => {
    const path = await target();
    await writeFile(join(path, 'tokenizer.json'), '{}');
    const all = await names(path);
    const { message } = await expectCode(() => convertCheckpoint(after, path), 'MOME_INVALID_ARGUMENT');
    expect(message).toMatch(/expected no tokenizer\.json/);
    expect(await names(path)).toEqual(all);
  });

  it.each([
    ['ENOSPC', /the disk is full/],
    ['EDQUOT', /quota of disk space/],
    ['EACCES', /the right to write in .* is missing/],
    ['EROFS', /read-only/],
  ])(
    'leaves the old one after %s',
    async (code, message) => {
      for (const step of code === 'ENOSPC' ? [1, 4, 9] : [4]) {
        const path = await target();
        const { code: exit, printed } = await convert(path, { STOP_AT: String(step), FAIL_WITH: code });
        expect(exit).toBe(3);
        expect(printed).toMatch(/^MOME_IO /);
        expect(printed).toMatch(message);
        expect(await found(path)).toBe('old');
        expect(await names(path)).toEqual(clean);
      }
    },
    60_000,
  );
});

describe('writeTogether', () => {
  it('leaves temporary files of those who still run, and of other machines', async () => {
    const path = await temporaryFolder();
    const others = ['a.0badcafe-1-1-00000000.tmp', 'b.tmp', 'model.safetensors.tmp', 'c.123.tmp'];
    for (const name of others) await writeFile(join(path, name), '');
    await writeTogether(path, async (fileIn) => {
      await writeFile(fileIn('x'), '1');
      // Another call of this process, meanwhile.
      await writeTogether(path, async (inner) => writeFile(inner('y'), '2'));
      await writeFile(fileIn('z'), '3');
    });
    expect(await names(path)).toEqual([...others, 'x', 'y', 'z'].sort());
  });

  it('refuses a link to nothing that has the name of its list', async () => {
    const path = await temporaryFolder();
    await symlink('/nowhere/list', join(path, '.mome-commit'));
    const write = () =>
      writeTogether(path, async (fileIn) => {
        for (const name of ['x', 'y']) await writeFile(fileIn(name), 'new');
      });
    expect((await expectCode(write, 'MOME_NOT_FOUND')).message).toMatch(/found a link to nothing/);
    expect(await names(path)).toEqual(['.mome-commit']);
  });

  it('keeps the rights of the files that it replaces, also where they forbid to open them', async () => {
    const path = await temporaryFolder();
    const rights = { x: 0o640, y: 0o200, z: 0o444 };
    for (const [name, mode] of Object.entries(rights)) await writeFile(join(path, name), 'old', { mode });
    await writeTogether(path, async (fileIn) => {
      for (const name of Object.keys(rights)) await writeFile(fileIn(name), 'new');
    });
    for (const [name, mode] of Object.entries(rights)) expect((await stat(join(path, name))).mode & 0o777).toBe(mode);
  });

  it('changes nothing when what writes throws', async () => {
    const path = join(await temporaryFolder(), 'deep', 'folder');
    await expectCode(
      () =>
        writeTogether(path, async (fileIn) => {
          await writeFile(fileIn('x'), '1');
          throw Object.assign(new Error('planted'), { code: 'ENOSPC' });
        }),
      'MOME_IO',
    );
    await expect(readdir(join(path, '..'))).rejects.toThrow(/ENOENT/);
  });

  it('refuses a folder in the way, with all files as they were', async () => {
    const path = await temporaryFolder();
    await writeFile(join(path, 'x'), 'old');
    await mkdir(join(path, 'y'));
    const write = () =>
      writeTogether(path, async (fileIn) => {
        await writeFile(fileIn('x'), 'new');
        await writeFile(fileIn('y'), 'new');
      });
    expect((await expectCode(write, 'MOME_IO')).message).toMatch(/y: expected a file or a new name, got a folder/);
    expect(await names(path)).toEqual(['x', 'y']);
    expect(await readFile(join(path, 'x'), 'utf8')).toBe('old');
  });
});

describe('replaceFile', () => {
  it('follows links, also to a new name', async () => {
    const path = await temporaryFolder();
    await mkdir(join(path, 'elsewhere'));
    await symlink(join('elsewhere', 'real'), join(path, 'link'));
    for (const text of ['1', '2']) await replaceFile(join(path, 'link'), (temporary) => writeFile(temporary, text));
    expect(await readFile(join(path, 'elsewhere', 'real'), 'utf8')).toBe('2');
    expect(await names(path)).toEqual(['elsewhere', 'link']);
    expect(await names(join(path, 'elsewhere'))).toEqual(['real']);
  });

  it('refuses devices, pipes, folders and missing folders', async () => {
    const path = await temporaryFolder();
    spawnSync('mkfifo', [join(path, 'pipe')]);
    for (const target of ['/dev/null', join(path, 'pipe'), path, join(path, 'no', 'folder')])
      await expectCode(() => replaceFile(target, (temporary) => writeFile(temporary, '')), 'MOME_IO');
    expect(await names(path)).toEqual(['pipe']);
  });
});
