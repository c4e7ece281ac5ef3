/** What an import loads, where the addon is looked for, and what the error says where none loads. */
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packageRoot } from '../../src/runtime/package-files.ts';

const root = packageRoot();
const addon = join(root, 'build', 'Release', 'mome.node');
const model = join(root, 'models', 'emoji-tiny');
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'mome-load-'));
  // As a bundler leaves it: the library's code without its package, beside the one package that it imports at once.
  cpSync(join(root, 'dist'), join(folder, 'app'), { recursive: true });
  mkdirSync(join(folder, 'node_modules'));
  for (const name of ['lru-cache', 'node-gyp-build'])
    symlinkSync(join(root, 'node_modules', name), join(folder, 'node_modules', name));
}, 120_000);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What a program prints. */
async function run(code: string, env: NodeJS.ProcessEnv = {}, cwd = folder): Promise<string> {
  const { MOME_ADDON: _, ...inherited } = process.env;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', code], {
    cwd,
    env: { ...inherited, ...env },
  });
  return stdout.trim();
}

const bundled = './app/index.mjs';
const embed = (from: string) => `import { Vlmo } from '${from}';
const vlmo = await Vlmo.load(${JSON.stringify(model)});
console.log((await vlmo.embedTexts(['a cat'])).embeddings.length);
await vlmo.dispose();`;
const failure = (from: string) => `import { Vlmo } from '${from}';
await Vlmo.load(${JSON.stringify(model)}).catch(({ code, message }) => console.log(code + ' ' + message));`;

describe('an import', () => {
  it('loads no package that only some calls need', async () => {
    const code = `import { createRequire } from 'node:module';
const require = createRequire(${JSON.stringify(join(root, 'dist', 'index.cjs'))});
require('./index.cjs');
const names = Object.keys(require.cache).map((path) => /node_modules\\/((?:@[^/]+\\/)?[^/]+)/.exec(path)?.[1]);
console.log(JSON.stringify([...new Set(names.filter((name) => name))]));`;
    expect(JSON.parse(await run(code))).toEqual(['lru-cache']);
  });
});

describe('the addon', () => {
  it('is the one that MOME_ADDON names', async () => {
    expect(await run(embed(bundled), { MOME_ADDON: addon })).toBe('192');
  });

  it('is found beside a bundle, with a model and without the package', async () => {
    const beside = join(folder, 'app', 'mome.node');
    symlinkSync(addon, beside);
    try {
      expect(await run(embed(bundled))).toBe('192');
    } finally {
      rmSync(beside);
    }
  });

  it('is found in the package of the platform', async () => {
    const name = join(folder, 'node_modules', '@mome', 'linux-x64');
    mkdirSync(join(name, 'prebuilds', 'linux-x64'), { recursive: true });
    writeFileSync(join(name, 'package.json'), '{"name":"@mome/linux-x64"}');
    symlinkSync(addon, join(name, 'prebuilds', 'linux-x64', 'mome.glibc.node'));
    try {
      expect(await run(embed(bundled))).toBe('192');
    } finally {
      rmSync(name, { recursive: true });
    }
  });
});

describe('where no addon loads, the error', () => {
  it('names the file that MOME_ADDON asks for, and the reason of the system', async () => {
    const damaged = join(folder, 'damaged.node');
    writeFileSync(damaged, 'no addon');
    const message = await run(failure(bundled), { MOME_ADDON: damaged });
    expect(message).toMatch(
      /^MOME_NATIVE_LOAD mome: expected a native addon for Linux on x86-64 with glibc 2\.28 or newer/,
    );
    expect(message).toContain(`${damaged}: `);
    expect(message).toContain('set MOME_ADDON to the path of an addon that fits');
    expect(await run(failure(bundled), { MOME_ADDON: '/nowhere.node' })).toContain(
      '/nowhere.node: there is no such file',
    );
  });

  it('names the package that is missing, this machine, and the command that installs it', async () => {
    const message = await run(failure(bundled));
    expect(message).toContain('@mome/linux-x64: the package is not installed');
    expect(message).toMatch(/linux-x64 with glibc 2\.\d+ \(Node \d+\.\d+\.\d+, .+\)/);
    expect(message).toMatch(/run: npm install @mome\/linux-x64@\d+\.\d+\.\d+/);
  });

  it('says in its first sentence what runs where, on a platform that has none', async () => {
    const pretend = `Object.defineProperty(process, 'platform', { value: 'darwin' });
const { Vlmo } = await import('${bundled}');
await Vlmo.load(${JSON.stringify(model)}).catch(({ message }) => console.log(message));`;
    expect(await run(pretend)).toMatch(
      /^mome: expected a native addon for Linux on x86-64 with glibc 2\.28 or newer, or Linux on arm64 with glibc 2\.28 or newer, could load none on darwin-x64/,
    );
  });
});

describe('a bundle without the package', () => {
  it('says what the model that ships with the library needs', async () => {
    const message = await run(
      `import { Vlmo } from '${bundled}'; await Vlmo.load().catch(({ code, message }) => console.log(code + ' ' + message));`,
      { MOME_ADDON: addon },
    );
    expect(message).toMatch(/^MOME_NOT_FOUND mome: expected the package mome in node_modules beside this program/);
  });
});
