/** Lays out the main package as it is published. */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

export const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
/** The packages of native code, built or not. */
export const platforms = JSON.parse(readFileSync(join(root, 'ts/src/runtime/platforms.json'), 'utf8'));

/**
 * The main package as it is published: no scripts, no development, platform packages as optional
 * dependencies.
 *
 * @param folder where it is laid out
 * @returns the folder
 */
export function stageMain(folder) {
  mkdirSync(folder, { recursive: true });
  const list = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
    cwd: root,
    encoding: 'utf8',
  });
  const [{ files }] = JSON.parse(list);
  for (const { path } of files) cpSync(join(root, path), join(folder, path));
  const { scripts: _, devDependencies: __, ...published } = manifest;
  const optional = Object.fromEntries(
    platforms.filter(({ state }) => state === 'built').map(({ package: name }) => [name, manifest.version]),
  );
  writeFileSync(
    join(folder, 'package.json'),
    `${JSON.stringify({ ...published, optionalDependencies: optional }, null, 2)}\n`,
  );
  const paths = new Set(files.map(({ path }) => path));
  for (const path of paths) {
    if (path.endsWith('.md')) linkOutside(folder, path, paths);
    else if (/^dist\/[^/]*\.[cm]?js$/.test(path)) withoutMap(join(folder, path));
  }
  return folder;
}

/** Links to files that are not in the package lead to the repository. */
function linkOutside(folder, page, paths) {
  const has = (target) => paths.has(target) || [...paths].some((path) => path.startsWith(`${target}/`));
  const text = readFileSync(join(folder, page), 'utf8');
  const linked = text.replace(/\]\((?![a-z]+:|#)([^)#\s]+)/g, (all, target) => {
    const path = posix.join(posix.dirname(page), target).replace(/\/$/, '');
    return has(path) ? all : `](${manifest.homepage.replace(/#.*$/, '')}/blob/main/${path}`;
  });
  if (linked !== text) writeFileSync(join(folder, page), linked);
}

/** The package has no source maps, so its files do not speak of them. */
function withoutMap(path) {
  const text = readFileSync(path, 'utf8');
  writeFileSync(path, text.replace(/\n\/\/# sourceMappingURL=\S+\s*$/, '\n'));
}
