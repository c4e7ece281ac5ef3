/** The command as people use it in a shell: pipes, full disks, odd names, signals and mistakes. Runs what `npm test` has built. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmod, copyFile, mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import sharp from 'sharp';
import { beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder, testImage, tinyModel } from '../helpers.ts';

const cli = join(process.cwd(), 'dist/cli.mjs');
let model = '';
let pictures = '';
beforeAll(async () => {
  model = await tinyModel();
  pictures = join(await temporaryFolder(), 'pictures');
  await mkdir(pictures);
  for (const seed of [1, 2, 3]) await writePicture(join(pictures, `${seed}.png`), seed);
});

async function writePicture(path: string, seed: number): Promise<void> {
  const image = testImage(seed, 24);
  await sharp(image.data, { raw: image }).png().toFile(path);
}

function mome(args: readonly string[], options: { readonly input?: string | Buffer; readonly uid?: number } = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...args], { encoding: 'utf8', ...options });
  expect(stderr).not.toMatch(/^\s+at .*:\d+/m); // no stack traces, whatever happens
  return { status, stdout, stderr };
}
const shell = (line: string) => spawnSync('bash', ['-c', line], { encoding: 'utf8' });

describe('usage', () => {
  const wrong: readonly (readonly string[])[] = [
    ['serach'],
    ['search'],
    ['search', '.', '-k', '0'],
    ['search', '.', '-k', '1.5'],
    ['search', '.', '-k', '0x10'],
    ['search', '.', '--rerank', 'all'],
    ['search', '.', '--dtype', 'float8'],
    ['search', '.', '--nope'],
    ['search', '.', '-dog'],
    ['search', '.', ' '],
    ['embed'],
    ['embed', '-t'],
    ['match', 'a.png'],
    ['match', '-', '-'],
    ['export'],
    ['eval'],
    ['eval', 'retrieval', '-k', 'x'],
    ['eval', 'retrieval', 'x'],
    ['bench', '--seconds', '-1'],
  ];
  it.each(wrong.map((args) => ({ args, line: args.join(' ') })))('$line is refused in one line', ({ args }) => {
    const { status, stdout, stderr } = mome(args, { input: '' });
    expect([status, stdout]).toEqual([2, '']);
    // A command without its own commands prints how it is used.
    if (args.at(-1) !== 'eval') expect(stderr).toMatch(/^mome: .+ \(MOME_INVALID_ARGUMENT\)\n$/);
  });

  it.each(['serach', 'eval', 'search . --nope', 'search . -k x'])('%s --json says so in JSON', (line) => {
    const { status, stdout, stderr } = mome([...line.split(' '), '--json']);
    expect([status, stdout]).toEqual([2, '']);
    expect(JSON.parse(stderr).error.code).toBe('MOME_INVALID_ARGUMENT');
  });

  it('takes flags that all commands have before the command too', () => {
    const searched = mome(['--json', '--quiet', 'search', pictures, 'red', '-m', model, '-k', '2']);
    expect([searched.status, searched.stderr]).toEqual([0, '']);
    expect(JSON.parse(searched.stdout).results).toHaveLength(2);
    expect(JSON.parse(mome(['--json', 'doctor']).stdout)).toHaveProperty('checks');
    for (const args of [
      ['--json', 'eval', 'retrieval', '--data', '/nowhere/pairs.jsonl', '-m', model],
      ['eval', '--json', 'retrieval', '--data', '/nowhere/pairs.jsonl', '-m', model],
    ])
      expect(JSON.parse(mome(args).stderr).error.code).toBe('MOME_NOT_FOUND');
  });

  it.each([
    { args: ['-m', 'x', 'search', '.'], place: "'-m'; it goes behind the command, as in mome <command> -m" },
    {
      args: ['eval', '--data', 'x', 'retrieval'],
      place: "'--data'; it goes behind the command, as in mome eval <command> --data",
    },
  ])('says of $args where they go', ({ args, place }) => {
    const { status, stderr } = mome(args);
    expect(status).toBe(2);
    expect(stderr).toContain(place);
  });
});

describe('standard streams', () => {
  it('take pictures and texts from standard input', async () => {
    const bytes = await readFile(join(pictures, '2.png'));
    const like = mome(['search', pictures, '-i', '-', '-m', model, '-k', '1', '--json'], { input: bytes });
    expect(JSON.parse(like.stdout).results[0].path).toBe(join(pictures, '2.png'));
    const lines = mome(['search', pictures, '-', '-m', model, '--json'], { input: 'red\n\nblue\r\n' });
    const found = lines.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(found.map(({ query, results }) => [query, results.length])).toEqual([
      ['red', 3],
      ['blue', 3],
    ]);
    const embedded = mome(['embed', '-t', '-', '-m', model], { input: 'red\nblue\n' });
    expect(embedded.stdout).toBe(mome(['embed', '-t', 'red', 'blue', '-m', model]).stdout);
    expect(embedded.stdout.split('\n')[0]!.split('\t')).toHaveLength(48);
    expect(mome(['match', '-', 'red', '-m', model, '--json'], { input: bytes }).status).toBe(0);
    expect(mome(['embed', '-i', '-', '-m', model], { input: '' }).status).toBe(2);
    expect(mome(['embed', '-t', '-', '-m', model], { input: Buffer.from([0xff]) }).status).toBe(2);
  });

  it('may be closed, full or read in part', () => {
    const run = `${process.execPath} ${cli} embed -m ${model} -t red`;
    expect(shell(`${run} | true; exit $PIPESTATUS`)).toMatchObject({ status: 0, stderr: '' });
    const full = shell(`${run} > /dev/full`);
    expect(full.status).toBe(1);
    expect(full.stderr).toMatch(/^mome: .*disk is full.* \(MOME_IO\)\n$/);
    expect(shell(`${run} --dtype x 2> /dev/full`).status).toBe(2);
    expect(shell(`${run} --dtype x 2>&-`).status).toBe(2);
  });

  it('have shown the results when the page cannot be written', async () => {
    for (const page of [join(pictures, 'none', 'page.html'), pictures]) {
      const { status, stdout, stderr } = mome(['search', pictures, 'red', '-m', model, '--html', page]);
      expect(status).toBe(1);
      expect(stdout).toContain('3.png');
      expect(stderr).toMatch(/^mome: .* \(MOME_IO\)\n$/);
    }
  });
});

describe('folders', () => {
  it('may hold names of any kind, none of which acts on the terminal', async () => {
    const folder = join(await temporaryFolder(), 'f\u001b[31m');
    await mkdir(folder);
    const names = [
      'a\nb.png',
      'c\u001b]0;x\u0007.png',
      'd\u202egnp.png',
      'e\u009bm.png',
      '[f]{g}*?.png',
      ' \u200b.png',
    ];
    for (const name of names) await copyFile(join(pictures, '1.png'), join(folder, name));
    await writeFile(join(folder, 'bad\u001b[2J.png'), 'nothing');
    const { stdout, stderr } = mome(['search', folder, 'red', '-m', model]);
    expect(stdout + stderr).not.toMatch(/[^\P{Cc}\n]|[\u200b\u202e]/u);
    expect(stdout.trimEnd().split('\n')).toHaveLength(1 + names.length + 1);
    expect(stdout).toContain('d\\u{202e}gnp.png');
    expect(stderr).toContain('bad\\x1b[2J.png');
    const json = mome(['search', folder, 'red', '-m', model, '--json']).stdout;
    expect(json).not.toMatch(/[^\P{Cc}\n]|[\u200b\u202e]/u);
    const paths = JSON.parse(json).results.map(({ path }: { path: string }) => path);
    expect(paths.sort()).toEqual(names.map((name) => join(folder, name)).sort());
  });

  it('say what is left out, and why', async () => {
    const folder = await temporaryFolder();
    await mkdir(join(folder, 'locked'));
    await mkdir(join(folder, '.git'));
    await symlink('nowhere.png', join(folder, 'broken.png'));
    await symlink('.', join(folder, 'loop'));
    await symlink(join(pictures, '1.png'), join(folder, 'link.jpg'));
    await copyFile(join(pictures, '2.png'), join(folder, 'photo.JFIF'));
    for (const name of ['scan.bmp', 'raw.psd', '.hidden.png', 'notes.txt']) await writeFile(join(folder, name), 'x');
    await writeFile(Buffer.concat([Buffer.from(`${folder}/caf`), Buffer.from([0xe9]), Buffer.from('.png')]), 'x');
    const { stdout, stderr, status } = mome(['search', folder, '-m', model, '--json']);
    expect([status, stderr]).toEqual([0, '']);
    const { indexed, skipped } = JSON.parse(stdout);
    expect(indexed).toBe(2);
    const reasons = Object.fromEntries(
      skipped.map(({ path, error }: { path: string; error: string }) => [path.slice(folder.length + 1), error]),
    );
    expect(reasons).toEqual({
      '.git': 'a hidden folder',
      '.hidden.png': 'a hidden file',
      'broken.png': 'a link that leads nowhere',
      'caf\ufffd.png': 'its name is not UTF-8',
      loop: 'a link to a folder',
      'raw.psd': 'no decoder for .psd files',
      'scan.bmp': 'no decoder for .bmp files',
    });
    expect(mome(['search', folder, 'red', '-m', model]).stderr).toContain(
      'mome: skipped 1 (no decoder for .bmp files): scan.bmp',
    );
    expect(mome(['search', folder, 'red', '-m', model, '--quiet']).stderr).toBe('');
  });

  it('say in a sentence that nothing is there, or that they are locked', async () => {
    const folder = await temporaryFolder();
    expect(mome(['search', folder, 'red', '-m', model]).stdout).toBe(`no pictures found in ${folder}\n`);
    expect(mome(['search', join(folder, 'none'), 'red', '-m', model]).stderr).toContain('(MOME_NOT_FOUND)');
    if (process.getuid?.() !== 0) return;
    // As nobody, whom rights bind.
    const locked = join(folder, 'locked');
    await mkdir(locked);
    await copyFile(join(pictures, '1.png'), join(locked, '1.png'));
    await chmod(folder, 0o755);
    await chmod(locked, 0o000);
    const nobody = 65_534;
    expect(mome(['search', locked, 'red'], { uid: nobody }).stderr).toMatch(/could not read it \(EACCES\) \(MOME_IO\)/);
    const above = mome(['search', folder, 'red'], { uid: nobody });
    expect(above.status).toBe(0);
    expect(above.stderr).toContain('skipped 1 (a folder that cannot be read (EACCES)): locked');
  });

  it('refuse an index that is something else, before anything is embedded', async () => {
    const notes = join(await temporaryFolder(), 'notes');
    await writeFile(notes, 'mine');
    const { status, stderr } = mome(['search', pictures, 'red', '-m', model, '--index', notes]);
    expect([status, await readFile(notes, 'utf8')]).toEqual([1, 'mine']);
    expect(stderr).toContain('(MOME_INVALID_FILE)');
    expect(mome(['search', pictures, 'red', '-m', model, '--index', pictures]).status).toBe(2);
  });
});

describe('signals', () => {
  it.each(['SIGINT', 'SIGTERM', 'SIGKILL'] as const)(
    'after %s the next run goes on with what was embedded',
    async (signal) => {
      const folder = await temporaryFolder();
      for (let i = 0; i < 400; i++) await writePicture(join(folder, `${i}.png`), i);
      const child = spawn(process.execPath, [cli, 'search', folder, '-m', model, '--threads', '1'], {
        stdio: 'ignore',
      });
      const ended = once(child, 'close');
      const journals = async () => (await readdir(folder)).filter((name) => name.endsWith('.journal'));
      const bytes = async () =>
        Promise.all((await journals()).map(async (name) => (await stat(join(folder, name))).size));
      while (!(await bytes()).some((size) => size > 100) && child.exitCode === null) await setTimeout(1);
      child.kill(signal);
      const [code] = await ended;
      if (signal !== 'SIGKILL') expect(code).toBe(130);
      expect(await journals()).toHaveLength(1);
      expect(mome(['search', folder, '-m', model]).stdout).toBe('indexed 400 pictures\n');
      expect((await readdir(folder)).filter((name) => name.startsWith('.'))).toEqual(['.mome-index.safetensors']);
    },
    60_000,
  );
});
