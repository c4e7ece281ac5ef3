/** Contents of Debian's packages, downloaded by apt and unpacked without being installed. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';

export const debianPackages = ['openclipart-svg', 'openclipart-png', 'sweethome3d-furniture'];

/**
 * @param folder made unless it is there
 * @returns the same folder, with `usr/share` of the packages
 */
export function debianFolder(folder) {
  if (existsSync(folder)) return folder;
  const unfinished = `${folder}.part`;
  rmSync(unfinished, { recursive: true, force: true });
  mkdirSync(unfinished, { recursive: true });
  execFileSync('apt-get', ['download', ...debianPackages], { cwd: unfinished, stdio: ['ignore', 'ignore', 'inherit'] });
  for (const file of readdirSync(unfinished).filter((name) => name.endsWith('.deb'))) {
    execFileSync('dpkg-deb', ['-x', join(unfinished, file), unfinished]);
    rmSync(join(unfinished, file));
  }
  renameSync(unfinished, folder);
  return folder;
}
