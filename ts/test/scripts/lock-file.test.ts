/**
 * The lock files name everything that `npm ci` asks for on any platform. npm leaves out the optional packages of other platforms when it
 * writes a lock file beside an installed folder.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { packageRoot } from '../../src/runtime/addon.ts';

interface Locked {
  readonly version?: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}
type Packages = Readonly<Record<string, Locked>>;

async function packagesOf(folder: string): Promise<Packages> {
  return JSON.parse(await readFile(join(packageRoot(), folder, 'package-lock.json'), 'utf8')).packages;
}

/** Dependencies for which a package finds no entry in its own folder or in one above. */
function missingFrom(packages: Packages): string[] {
  const found = (from: string, name: string): boolean => {
    for (let folder = from; ; ) {
      if (`${folder}${folder && '/'}node_modules/${name}` in packages) return true;
      if (folder === '') return false;
      const at = folder.lastIndexOf('node_modules/');
      folder = at <= 0 ? '' : folder.slice(0, at - 1);
    }
  };
  return Object.entries(packages).flatMap(([path, { dependencies, devDependencies, optionalDependencies }]) =>
    Object.keys({ ...dependencies, ...(path === '' && devDependencies), ...optionalDependencies })
      .filter((name) => !found(path, name))
      .map((name) => `${path || 'the project'} needs ${name}`),
  );
}

describe.each(['.', 'bench', 'corpus'])('the lock file of %s', (folder) => {
  it('names every dependency of every package, also of other platforms', async () => {
    const packages = await packagesOf(folder);
    expect(missingFrom(packages)).toEqual([]);
    const { '': project } = packages;
    const manifest = JSON.parse(await readFile(join(packageRoot(), folder, 'package.json'), 'utf8'));
    expect(project?.dependencies).toEqual(manifest.dependencies);
    expect(project?.devDependencies).toEqual(manifest.devDependencies);
  });
});

it('notices an optional package that the lock file leaves out', async () => {
  const { 'node_modules/@biomejs/cli-win32-x64': _, ...packages } = await packagesOf('.');
  expect(missingFrom(packages)).toEqual(['node_modules/@biomejs/biome needs @biomejs/cli-win32-x64']);
});
