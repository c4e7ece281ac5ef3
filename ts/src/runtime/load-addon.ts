/** Finds the native addon and loads it, or says what was tried, what this machine is, and what to do. */
import { existsSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import type { Addon } from './addon.ts';
import { MomeError } from './errors.ts';
import {
  createRequire,
  findPackageRoot,
  packageVersion,
  requirePackage,
  resolvePackage,
  searchFolders,
} from './package-files.ts';
import platforms from './platforms.json' with { type: 'json' };

/** A place without an addon that loads, and why. */
interface Attempt {
  readonly place: string;
  readonly reason: string;
}

/** The part of `node-gyp-build` that is used: the addon in a folder's `build/Release` or `prebuilds`. */
interface GypBuild {
  path(folder: string): string;
}

/** The packages whose addon could fit this system. */
const candidates = platforms.filter(
  ({ os, cpu, part }) => part === undefined && os === process.platform && cpu === process.arch,
);

/**
 * Loads the addon: `MOME_ADDON`, else `mome.node` beside a bundle, else the one that was built in the package's folder, else that of the
 * platform's package.
 *
 * @throws MomeError `MOME_NATIVE_LOAD` with the places that were tried and the remedy
 */
export function loadAddon(): Addon {
  const attempts: Attempt[] = [];
  const { MOME_ADDON: chosen } = process.env;
  if (chosen !== undefined && chosen !== '') {
    const addon = load(resolve(chosen), attempts);
    if (addon) return addon;
    throw failure(attempts, 'set MOME_ADDON to the path of an addon that fits, or unset it');
  }
  const addon = besideBundle(attempts) ?? builtHere(attempts) ?? ofPlatform(attempts);
  if (addon) return addon;
  throw failure(attempts, remedy(attempts));
}

function load(path: string, attempts: Attempt[]): Addon | undefined {
  if (!existsSync(path)) {
    attempts.push({ place: path, reason: 'there is no such file' });
    return undefined;
  }
  try {
    return createRequire(path)(path) as Addon;
  } catch (error) {
    attempts.push({ place: path, reason: (error as Error).message.split('\n', 1)[0] ?? '' });
    return undefined;
  }
}

function besideBundle(attempts: Attempt[]): Addon | undefined {
  for (const folder of searchFolders()) {
    const path = join(folder, 'mome.node');
    const addon = existsSync(path) ? load(path, attempts) : undefined;
    if (addon) return addon;
  }
  return undefined;
}

function builtHere(attempts: Attempt[]): Addon | undefined {
  const root = findPackageRoot();
  return root === undefined ? undefined : inFolder(root, attempts);
}

function ofPlatform(attempts: Attempt[]): Addon | undefined {
  for (const { package: name } of candidates) {
    const manifest = resolvePackage(`${name}/package.json`);
    if (manifest === undefined) attempts.push({ place: name, reason: 'the package is not installed' });
    const addon = manifest === undefined ? undefined : inFolder(dirname(manifest), attempts);
    if (addon) return addon;
  }
  return undefined;
}

function inFolder(folder: string, attempts: Attempt[]): Addon | undefined {
  try {
    return load((requirePackage('node-gyp-build') as GypBuild).path(folder), attempts);
  } catch (error) {
    const none = error instanceof MomeError ? error.message : 'no addon in build/Release or prebuilds';
    attempts.push({ place: folder, reason: none });
    return undefined;
  }
}

/** The one thing to do about it. */
function remedy(attempts: readonly Attempt[]): string {
  const built = candidates.find(({ state, libc }) => state === 'built' && libc === libcOf());
  if (built && attempts.some(({ place }) => place === built.package))
    return `run: npm install ${built.package}@${packageVersion()}`;
  const root = findPackageRoot();
  if (candidates.length === 0 || root === undefined)
    return 'run it where an addon fits, or name one that does with MOME_ADDON';
  return `compile one with g++ 12, make and CMake: node ${join(root, 'scripts', 'build-addon.mjs')}`;
}

function failure(attempts: readonly Attempt[], advice: string): MomeError {
  const needed = platforms.filter(({ state }) => state === 'built').map(({ needs }) => needs);
  const places = attempts.map(({ place, reason }) => `  ${place}: ${reason}`);
  const tried = places.length > 0 ? `\ntried:\n${places.join('\n')}` : '';
  return new MomeError(
    'MOME_NATIVE_LOAD',
    `mome: expected a native addon for ${needed.join(', or ')}, could load none on ${systemName()}; ${advice}${tried}`,
  );
}

function systemName(): string {
  const libc = process.platform === 'linux' ? ` with ${libcOf()}${glibcVersion() ? ` ${glibcVersion()}` : ''}` : '';
  return `${process.platform}-${process.arch}${libc} (Node ${process.versions.node}, ${cpus()[0]?.model ?? 'unknown processor'})`;
}

const libcOf = (): 'glibc' | 'musl' => (glibcVersion() === undefined ? 'musl' : 'glibc');

/** Node's report names the C library it runs with, where that is glibc. */
function glibcVersion(): string | undefined {
  const { header } = process.report.getReport() as unknown as { header: { glibcVersionRuntime?: string } };
  return header.glibcVersionRuntime;
}
