/** What a bundle for browsers gets: the names of the library, each of which says where it runs instead. */
import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from 'tsdown';
import { describe, expect, it } from 'vitest';
import * as browser from '../src/browser.ts';
import * as library from '../src/index.ts';
import { packageRoot } from '../src/runtime/addon.ts';
import { MomeError } from '../src/runtime/errors.ts';
import { temporaryFolder } from './helpers.ts';

const refusal = (name: string) => ({
  code: 'MOME_UNSUPPORTED',
  message: expect.stringMatching(new RegExp(`^${name}: expected Node.js, got a browser: .*mome serve.*HTTP`)),
});

it('exports the names of the library', () => {
  expect(Object.keys(browser).sort()).toEqual(Object.keys(library).sort());
});

// biome-ignore lint/suspicious/noExplicitAny: whatever a program may do to an export
type Anything = any;

describe.each(Object.entries(browser))('%s', (name, value) => {
  const exported: Anything = value;
  const uses: Readonly<Record<string, () => unknown>> = {
    called: () => exported(),
    constructed: () => new exported(),
    'asked for a property': () => exported.load,
    'given a property': () => {
      exported.own = 1;
    },
    'asked for its keys': () => Object.keys(exported),
    'looked into': () => 'load' in exported,
    spread: () => ({ ...exported }),
    iterated: () => [...exported],
    extended: () => class extends exported {},
    'compared with': () => new Error('any') instanceof exported,
  };
  it.each(Object.entries(uses))('refuses to be %s', (_, use) => {
    expect(use).toThrow(expect.objectContaining(refusal(name)));
    expect(use).toThrow(MomeError);
  });
});

it('a bundle for browsers is made of it, holds no native code, and refuses at the first use', async () => {
  const folder = await temporaryFolder();
  await mkdir(join(folder, 'node_modules'));
  await symlink(packageRoot(), join(folder, 'node_modules', 'mome'));
  await writeFile(join(folder, 'package.json'), '{ "type": "module" }');
  const app = `import { Vlmo, presets } from 'mome';
export const sizes = () => presets.base;
export const start = () => Vlmo.load();`;
  await writeFile(join(folder, 'app.js'), app);
  await build({
    config: false,
    cwd: folder,
    entry: 'app.js',
    platform: 'browser',
    noExternal: ['mome'],
    dts: false,
    logLevel: 'silent',
  });
  const [file] = (await readdir(join(folder, 'dist'))).filter((each) => /\.m?js$/.test(each));
  const path = join(folder, 'dist', file!);
  expect(await readFile(path, 'utf8')).not.toMatch(/node:|require\(|sharp|\.node\b/);
  const { start, sizes } = await import(pathToFileURL(path).href);
  expect(start).toThrow(expect.objectContaining(refusal('Vlmo')));
  expect(sizes).toThrow(expect.objectContaining(refusal('presets')));
}, 60_000);
