/**
 * Where the library's own files and the packages it needs lie: in an installation, in a clone, and where a bundler has taken the library into
 * another program.
 */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, sep } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { MomeError } from './errors.ts';

/** Written in by the build; tests run the sources and have none. */
declare const MOME_VERSION: string | undefined;

/** URL of this module. Bundlers that write CommonJS leave `import.meta` empty, and some write in where the file lay when they ran. */
const ownUrl: string | undefined =
  import.meta.url ?? (typeof __filename === 'string' ? pathToFileURL(__filename).href : undefined);

/** Loads files by path as CommonJS does. Asked for in this way, no bundler takes it for a call that it should follow or rewrite. */
export const { createRequire } = process.getBuiltinModule('node:module');

/** The folder of this module, or of the bundle it is part of; undefined where that cannot be known. */
export const ownFolder = (): string | undefined =>
  ownUrl?.startsWith('file:') ? dirname(fileURLToPath(ownUrl)) : undefined;

/** Whether this program is one file with Node inside, which runs no other file when it is started anew. */
export function isSingleExecutable(): boolean {
  const sea = process.getBuiltinModule('node:sea') as { isSea(): boolean } | undefined;
  return sea?.isSea() === true;
}

/** Folders from which packages are looked for: this module's, the main program's, and the executable's. */
export function searchFolders(): string[] {
  const { argv, execPath } = process;
  const main = argv[1] === undefined || isSingleExecutable() ? undefined : dirname(argv[1]);
  const own = ownFolder();
  const folders = [own, main, dirname(execPath)].filter((folder) => folder !== undefined);
  return [...new Set(folders.map(unpacked))];
}

/** Electron keeps files that other programs must open beside its archive. */
function unpacked(path: string): string {
  const outside = path.replace(`app.asar${sep}`, `app.asar.unpacked${sep}`);
  return outside !== path && existsSync(outside) ? outside : path;
}

/**
 * Loads a package that is never part of a bundle, because native code belongs to it.
 *
 * @throws MomeError `MOME_NOT_FOUND` with the folders that were looked through; what the package throws when it is loaded
 */
export function requirePackage(name: string): unknown {
  const path = resolvePackage(name);
  if (path === undefined)
    throw new MomeError(
      'MOME_NOT_FOUND',
      `mome: expected the package ${name}, found none from ${searchFolders().join(', ')}; run: npm install ${name}`,
    );
  return createRequire(path)(path);
}

/** The file that `name` stands for, looked for from the package's own folder and {@link searchFolders}; undefined where there is none. */
export function resolvePackage(name: string): string | undefined {
  const own = findPackageRoot();
  return resolveFrom(own === undefined ? searchFolders() : [own, ...searchFolders()], name);
}

function resolveFrom(folders: readonly string[], name: string): string | undefined {
  for (const folder of folders) {
    try {
      return createRequire(join(folder, 'mome.js')).resolve(name);
    } catch {
      // The next folder may have it.
    }
  }
  return undefined;
}

let root: string | undefined;

/** {@link packageRoot}, or undefined where there is none. */
export function findPackageRoot(): string | undefined {
  root ??= rootAround(ownFolder()) ?? installedRoot();
  return root;
}

/** The nearest folder with a `package.json`, where that is this library's. */
function rootAround(start: string | undefined): string | undefined {
  for (let folder = start; folder !== undefined; folder = dirname(folder) === folder ? undefined : dirname(folder)) {
    const file = join(folder, 'package.json');
    if (existsSync(file)) return nameIn(file) === 'mome' ? unpacked(folder) : undefined;
  }
  return undefined;
}

/** A bundle holds the library's code; its other files are then those of the package installed beside the bundle. */
function installedRoot(): string | undefined {
  const manifest = resolveFrom(searchFolders(), 'mome/package.json');
  return manifest === undefined ? undefined : unpacked(dirname(manifest));
}

function nameIn(manifest: string): string | undefined {
  try {
    return (JSON.parse(readFileSync(manifest, 'utf8')) as { name?: string }).name;
  } catch {
    return undefined;
  }
}

/**
 * The folder of the package: where the models, the programs that decode pictures, and an addon that was built here lie.
 *
 * @throws MomeError `MOME_NOT_FOUND` in a bundle beside which the package is not installed
 */
export function packageRoot(): string {
  const found = findPackageRoot();
  if (found !== undefined) return found;
  throw new MomeError(
    'MOME_NOT_FOUND',
    `mome: expected the package mome in node_modules beside this program, found none from ${searchFolders().join(', ')}; a program into which mome was bundled needs it there for pictures and for the model that ships with it: see docs/bundlers.md`,
  );
}

/** The version of this package. */
export function packageVersion(): string {
  if (typeof MOME_VERSION === 'string') return MOME_VERSION;
  return (JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { version: string }).version;
}
