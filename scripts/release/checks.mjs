/** What must be true of packages before they are published. */
import { execFileSync } from 'node:child_process';

/** The oldest glibc that prebuilt addons load with. */
export const oldestGlibc = '2.28';

const isNewer = (version, than) => {
  const [a, b] = [version, than].map((each) => each.split('.').map(Number));
  for (let i = 0; i < Math.max(a.length, b.length); i++)
    if ((a[i] ?? 0) !== (b[i] ?? 0)) return (a[i] ?? 0) > (b[i] ?? 0);
  return false;
};

/**
 * What an addon asks of the system and of Node beyond what may be asked: versions of glibc, the C++ library as a file, and functions that are not
 * Node-API, which change with versions of Node and Electron.
 *
 * @param symbols output of `readelf --wide --dyn-syms`
 * @returns one line for each symbol
 */
export function symbolProblems(symbols, glibc = oldestGlibc) {
  const problems = [];
  for (const line of symbols.split('\n')) {
    const [, name] = /\sUND\s+(\S+)/.exec(line) ?? [];
    if (name === undefined) continue;
    const [symbol, version = ''] = name.split('@');
    const [, library, number] = /^([A-Z]+)_([\d.]+)$/.exec(version) ?? [];
    if (library === 'GLIBC' && isNewer(number, glibc)) problems.push(`${symbol} asks for glibc ${number}`);
    if (library === 'GLIBCXX' || library === 'CXXABI') problems.push(`${symbol} asks for the system's C++ library`);
    if (/^_ZNK?(?:2v8|4node)|^(?:node|uv|v8)_|^node_module/.test(symbol))
      problems.push(`${symbol} is no part of Node-API`);
  }
  return problems;
}

/** {@link symbolProblems} of a file. @throws Error where binutils are missing */
export function addonProblems(path, glibc = oldestGlibc) {
  const symbols = execFileSync('readelf', ['--wide', '--dyn-syms', path], { encoding: 'utf8', maxBuffer: 2 ** 26 });
  if (!/napi_\w+/.test(symbols)) return [`${path}: expected an addon that uses Node-API`];
  return symbolProblems(symbols, glibc).map((problem) => `${path}: ${problem}`);
}

const needed = {
  mome: [
    'LICENSE',
    'NOTICE.md',
    'README.md',
    'CMakeLists.txt',
    'dist/browser.mjs',
    'dist/cli.mjs',
    'dist/decoder.mjs',
    'dist/index.cjs',
    'dist/index.d.cts',
    'dist/index.d.mts',
    'dist/index.mjs',
    'dist/page/index.html',
    'dist/page/page.js',
    'dist/parquet-reader.mjs',
    'dist/parquet-writer.mjs',
    'dist/server.mjs',
    'dist/train.mjs',
    'docs/install.md',
    'models/emoji-tiny/model.safetensors',
    'native/napi/addon.cc',
    'scripts/build-addon.mjs',
    'ts/src/serve/protos',
  ],
};
const unwanted = [
  [/\.map$/, 'a source map'],
  [/(?:^|\/)tests?\//, 'a test'],
  [/^native\/cuda\/emulation\//, 'the emulation of a device'],
  [/^docs\/charts\//, 'a chart'],
  [/^ts\/src\/(?!serve\/protos\/)/, 'a source that dist holds already'],
  [/^binding\.gyp$/, 'binding.gyp, at which npm compiles'],
  [/\.node$/, 'an addon, which platform packages bring'],
];

/**
 * What the main package lacks, or has and should not have.
 *
 * @param files paths in the package
 * @param manifest its package.json
 */
export function contentProblems(files, manifest) {
  const problems = [];
  for (const path of needed.mome)
    if (!files.some((file) => file === path || file.startsWith(`${path}/`)))
      problems.push(`expected ${path}, it is missing`);
  for (const file of files)
    for (const [pattern, what] of unwanted) if (pattern.test(file)) problems.push(`expected no ${file}: ${what}`);
  for (const script of ['preinstall', 'install', 'postinstall'])
    if (manifest.scripts?.[script] !== undefined) problems.push(`expected no script "${script}"`);
  for (const field of ['repository', 'homepage', 'bugs', 'author', 'license'])
    if (!manifest[field]) problems.push(`expected a field "${field}"`);
  if (Object.keys(manifest.optionalDependencies ?? {}).length === 0)
    problems.push('expected platform packages as optional dependencies');
  return problems;
}
