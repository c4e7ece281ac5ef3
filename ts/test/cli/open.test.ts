/** `mome search --open`: the page in the system's browser, or where it is when there is none. */
import { spawnSync } from 'node:child_process';
import { chmod, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder, testImage, tinyModel } from '../helpers.ts';

let model = '';
let folder = '';
let pictures = '';
beforeAll(async () => {
  model = await tinyModel();
  folder = await temporaryFolder();
  pictures = join(folder, 'pictures');
  await mkdir(pictures);
  const image = testImage(1, 24);
  await sharp(image.data, { raw: image }).png().toFile(join(pictures, '1.png'));
});

/** Searches on a system without a screen, whose browser is the program `browser`. */
function search(browser: string | undefined, ...args: readonly string[]) {
  const { DISPLAY: _, WAYLAND_DISPLAY: __, BROWSER: ___, ...env } = process.env;
  const command = [join(process.cwd(), 'dist/cli.mjs'), 'search', pictures, 'red', '-m', model, '--open', ...args];
  return spawnSync(process.execPath, command, {
    encoding: 'utf8',
    env: { ...env, ...(browser !== undefined && { BROWSER: browser }) },
  });
}

async function program(text: string): Promise<string> {
  const path = join(folder, 'browser');
  await writeFile(path, `#!/bin/sh\n${text}\n`);
  await chmod(path, 0o755);
  return path;
}

describe('search --open', () => {
  it('opens the page that --html names, or a temporary one', async () => {
    const opened = join(folder, 'opened');
    const browser = await program(`printf '%s' "$1" > '${opened}'`);
    const page = join(folder, 'a page.html');
    const named = search(browser, '--html', page);
    expect([named.status, named.stderr]).toEqual([0, '']);
    expect(await readFile(opened, 'utf8')).toContain(page);
    const temporary = search(browser);
    const [, path] = /^mome: the page is (\/.*\.html)\n$/.exec(temporary.stderr)!;
    expect(await readFile(opened, 'utf8')).toContain(path);
    expect(await readFile(path!, 'utf8')).toContain('<h1>red</h1>');
    await rm(dirname(path!), { recursive: true });
  });

  it('says where the page is when there is no browser, or it does not open it', async () => {
    for (const browser of [undefined, await program('exit 3')]) {
      const { status, stdout, stderr } = search(browser, '--html', join(folder, 'page.html'));
      expect([status, stdout.includes('1.png')]).toEqual([0, true]);
      const [, url] = /^mome: no browser could be opened; the page is (file:.*)\n$/.exec(stderr)!;
      expect(fileURLToPath(url!)).toBe(join(folder, 'page.html'));
    }
  });
});
