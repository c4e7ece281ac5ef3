/** What is packed: symbols that addons ask for, contents of the main package, and the table of platforms. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addonProblems, contentProblems, symbolProblems } from '../../../scripts/release/checks.mjs';
import { platforms, stageMain } from '../../../scripts/release/stage.mjs';
import { packageRoot } from '../../src/runtime/package-files.ts';

describe('the addon', () => {
  it('asks for glibc 2.28 at most, for no C++ library of the system, and for nothing of Node but Node-API', () => {
    expect(addonProblems(join(packageRoot(), 'build', 'Release', 'mome.node'))).toEqual([]);
  });

  it('is noticed where it asks for an older system than there is', () => {
    const [problem] = addonProblems(join(packageRoot(), 'build', 'Release', 'mome.node'), '2.20');
    expect(problem).toMatch(/asks for glibc 2\.2\d$/);
  });

  it('is noticed where it asks for more', () => {
    const line = (name: string) => `     7: 0000000000000000     0 FUNC    GLOBAL DEFAULT  UND ${name} (5)`;
    const symbols = [
      'arc4random@GLIBC_2.36',
      'memcpy@GLIBC_2.14',
      '_ZSt4cout@GLIBCXX_3.4',
      '_ZN2v87Isolate10GetCurrentEv',
      'uv_default_loop',
      'napi_create_object',
      '_Unwind_Resume@GCC_3.0',
    ];
    expect(symbolProblems(symbols.map(line).join('\n'))).toEqual([
      'arc4random asks for glibc 2.36',
      "_ZSt4cout asks for the system's C++ library",
      '_ZN2v87Isolate10GetCurrentEv is no part of Node-API',
      'uv_default_loop is no part of Node-API',
    ]);
    expect(symbolProblems(line('pthread_create@GLIBC_2.34'), '2.34')).toEqual([]);
  });
});

describe('the main package', () => {
  let folder: string;
  let files: string[];
  let manifest: { [name: string]: unknown; scripts?: object };

  beforeAll(() => {
    folder = stageMain(mkdtempSync(join(tmpdir(), 'mome-stage-')));
    files = readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1));
    manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  }, 120_000);

  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('has what it needs and nothing else, runs no script, and brings the addon as an optional package', () => {
    expect(contentProblems(files, manifest)).toEqual([]);
    expect(manifest.optionalDependencies).toEqual({
      '@mome/linux-x64': manifest.version,
      '@mome/linux-arm64': manifest.version,
    });
    expect(manifest).not.toHaveProperty('devDependencies');
    for (const field of ['os', 'cpu']) expect(manifest, 'it installs anywhere').not.toHaveProperty(field);
  });

  it('is noticed where something is missing or too much', () => {
    const without = files.filter((file) => file !== 'dist/decoder.mjs');
    const planted = [...without, 'dist/index.mjs.map', 'native/test/a_test.cc', 'binding.gyp'];
    expect(contentProblems(planted, { ...manifest, scripts: { install: 'x' }, author: '' })).toEqual([
      'expected dist/decoder.mjs, it is missing',
      'expected no dist/index.mjs.map: a source map',
      'expected no native/test/a_test.cc: a test',
      'expected no binding.gyp: binding.gyp, at which npm compiles',
      'expected no script "install"',
      'expected a field "author"',
    ]);
  });

  it('leads to the repository for files that it leaves out', () => {
    const page = readFileSync(join(folder, 'docs', 'performance.md'), 'utf8');
    expect(page).toContain(`](${manifest.homepage}/blob/main/docs/charts/`);
    expect(page).not.toMatch(/\]\(charts\//);
  });
});

describe('the table of platforms', () => {
  it('stands in the page on installing, with what is not built', () => {
    const page = readFileSync(join(packageRoot(), 'docs', 'install.md'), 'utf8');
    const rows = [...page.matchAll(/^\| `(@mome\/[\w-]+)` \| [^|]+ \| (built|not built)/gm)].map(([, name, state]) => [
      name,
      state,
    ]);
    expect(rows).toEqual(
      platforms.map((row: { package: string; state: string }) => [
        row.package,
        row.state === 'built' ? 'built' : 'not built',
      ]),
    );
  });
});
