/**
 * Programs into which bundlers took the library run in another folder, as docs/bundlers.md says: with the addon beside them and a model, or with
 * the package installed beside them for pictures.
 */
import { execFile } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { build as esbuild } from 'esbuild';
import { rollup } from 'rollup';
import { build as vite } from 'vite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import webpack from 'webpack';
import { packageRoot } from '../../src/runtime/package-files.ts';

const root = packageRoot();
const model = join(root, 'models', 'emoji-tiny');
const picture = join(root, 'docs', 'pictures', 'rocket.svg');
let folder: string;
let entry: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'mome-bundlers-'));
  const modules = join(folder, 'project', 'node_modules');
  mkdirSync(modules, { recursive: true });
  symlinkSync(root, join(modules, 'mome'));
  writeFileSync(join(folder, 'project', 'package.json'), '{"type":"module"}');
  entry = join(folder, 'project', 'app.js');
  writeFileSync(
    entry,
    `import { Vlmo } from 'mome';
async function main([model, picture]) {
  const vlmo = await Vlmo.load(model);
  const texts = await vlmo.embedTexts(['a cat']);
  const images = picture && (await vlmo.embedImages([picture]));
  await vlmo.dispose();
  console.log(JSON.stringify([texts.embeddings.length, images ? images.embeddings.length : 0]));
}
main(process.argv.slice(2));
`,
  );
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Builds the program into a folder of the project, and moves what was built where nothing else is. */
async function built(name: string, build: (out: string) => Promise<unknown>): Promise<string> {
  const out = join(folder, 'project', `out-${name}`);
  await build(out);
  const elsewhere = join(folder, 'elsewhere', name);
  mkdirSync(elsewhere, { recursive: true });
  for (const file of readdirSync(out, { recursive: true, withFileTypes: true }).filter((each) => each.isFile())) {
    const text = readFileSync(join(file.parentPath, file.name), 'utf8');
    for (const path of [folder, root])
      for (const quote of ['"', "'", '`', 'file://'])
        expect(text.includes(`${quote}${path}`), `${file.name} names ${path}`).toBe(false);
    copyFileSync(join(file.parentPath, file.name), join(elsewhere, file.name));
  }
  rmSync(out, { recursive: true });
  return elsewhere;
}

/** What a program prints that is told neither where the addon nor where Node is. */
async function ran(program: string, args: readonly string[], variables: NodeJS.ProcessEnv = {}): Promise<unknown> {
  const { MOME_ADDON: _, MOME_NODE: __, ...env } = process.env;
  const { stdout } = await promisify(execFile)(program, args, { cwd: tmpdir(), env: { ...env, ...variables } });
  return JSON.parse(stdout);
}

const run = (file: string, ...args: string[]): Promise<unknown> => ran(process.execPath, [file, ...args]);

/** A text with the addon beside the program; then a picture with the package beside it. */
async function runs(where: string, file: string): Promise<void> {
  copyFileSync(join(root, 'build', 'Release', 'mome.node'), join(where, 'mome.node'));
  expect(await run(join(where, file), model)).toEqual([192, 0]);
  rmSync(join(where, 'mome.node'));
  await runsInstalled(where, file);
}

async function runsInstalled(where: string, file: string): Promise<void> {
  mkdirSync(join(where, 'node_modules'));
  symlinkSync(root, join(where, 'node_modules', 'mome'));
  expect(await run(join(where, file), model, picture)).toEqual([192, 192]);
}

/** Bundles by esbuild. @returns where `app.mjs` or `app.cjs` lies */
const bundled = (name: string, format: 'esm' | 'cjs', banner = '', external: string[] = []): Promise<string> =>
  built(name, (outdir) =>
    esbuild({
      entryPoints: [entry],
      outdir,
      bundle: true,
      platform: 'node',
      format,
      external,
      outExtension: { '.js': format === 'esm' ? '.mjs' : '.cjs' },
      banner: { js: banner },
      logLevel: 'error',
    }),
  );

/** An executable of its own with a program of one CommonJS file in it. */
async function executable(name: string, external: string[]): Promise<string> {
  const banner = "require = require('node:module').createRequire(process.execPath);";
  const where = await bundled(name, 'cjs', banner, external);
  const settings = { main: 'app.cjs', output: 'app.blob', disableExperimentalSEAWarning: true };
  writeFileSync(join(where, 'sea.json'), JSON.stringify(settings));
  await promisify(execFile)(process.execPath, ['--experimental-sea-config', 'sea.json'], { cwd: where });
  copyFileSync(process.execPath, join(where, 'app'));
  chmodSync(join(where, 'app'), 0o755);
  const inject = [join(root, 'node_modules', 'postject', 'dist', 'cli.js'), 'app', 'NODE_SEA_BLOB', 'app.blob'];
  const fuse = ['--sentinel-fuse', 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2'];
  await promisify(execFile)(process.execPath, [...inject, ...fuse], { cwd: where });
  for (const file of ['app.cjs', 'app.blob', 'sea.json']) rmSync(join(where, file));
  return where;
}

describe('a program runs elsewhere that was bundled', () => {
  it('by esbuild, as an ES module', async () => {
    const banner = "import { createRequire as from } from 'node:module'; const require = from(import.meta.url);";
    const where = await bundled('esbuild-esm', 'esm', banner);
    await runs(where, 'app.mjs');
  });

  it('by esbuild, as CommonJS', async () => {
    const where = await bundled('esbuild-cjs', 'cjs');
    await runs(where, 'app.cjs');
  });

  it('by Rollup, which leaves packages out', async () => {
    const where = await built('rollup', async (dir) => {
      const bundle = await rollup({ input: entry, external: ['mome'] });
      await bundle.write({ dir, format: 'es', entryFileNames: '[name].mjs' });
      await bundle.close();
    });
    await runsInstalled(where, 'app.mjs');
  });

  it('by Vite, for a server', async () => {
    const where = await built('vite', (outDir) =>
      vite({
        root: join(folder, 'project'),
        configFile: false,
        logLevel: 'error',
        ssr: { noExternal: true },
        build: { ssr: entry, outDir, target: 'node20', rollupOptions: { output: { entryFileNames: '[name].mjs' } } },
      }),
    );
    await runs(where, 'app.mjs');
  });

  it('by webpack', async () => {
    const where = await built('webpack', async (path) => {
      const compiler = webpack({
        mode: 'production',
        target: 'node20',
        entry,
        output: { path, filename: 'app.mjs', chunkFormat: 'module', library: { type: 'module' } },
        experiments: { outputModule: true },
        optimization: { minimize: false },
        module: { parser: { javascript: { importMeta: false } } },
      });
      const stats = await promisify(compiler.run.bind(compiler))();
      expect(stats?.toJson({ all: false, errors: true }).errors).toEqual([]);
    });
    await runs(where, 'app.mjs');
  });

  it('into a single executable, with the library in it and the addon beside it', async () => {
    const where = await executable('executable-whole', []);
    copyFileSync(join(root, 'build', 'Release', 'mome.node'), join(where, 'mome.node'));
    expect(await ran(join(where, 'app'), [model])).toEqual([192, 0]);
  });

  it('into a single executable, with the package beside it', async () => {
    const where = await executable('executable', ['mome']);
    mkdirSync(join(where, 'node_modules'));
    symlinkSync(root, join(where, 'node_modules', 'mome'));
    expect(await ran(join(where, 'app'), [model, picture], { MOME_NODE: process.execPath })).toEqual([192, 192]);
    await expect(ran(join(where, 'app'), [model, picture])).rejects.toThrow(
      'set MOME_NODE to the path of a Node program',
    );
  });
});
