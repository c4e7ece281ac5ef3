/**
 * Checks the licence of every package that mome brings with it, as the lock file tells them: each must be on the list. Packages for
 * development alone do not count, but for those that are bundled into dist.
 */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

const allowed = new Set(['MIT', 'ISC', '0BSD', 'BSD-2-Clause', 'BSD-3-Clause', 'Apache-2.0', 'BlueOak-1.0.0']);
/** Allowed for these packages alone, which are libraries loaded beside ours. */
const exceptions = [{ name: /^@img\/sharp-/, licence: 'LGPL-3.0-or-later' }];
/** Packages for development that are part of dist (tsdown.config.ts). */
const bundled = new Set(['p-limit', 'yocto-queue']);

/** Whether an SPDX expression asks for nothing that is not allowed. */
function isAllowed(name, expression) {
  const bare = expression.replace(/^\((.*)\)$/, '$1');
  const fits = (licence) =>
    allowed.has(licence) || exceptions.some((each) => each.licence === licence && each.name.test(name));
  return bare.split(' OR ').some((choice) => choice.split(' AND ').every((licence) => fits(licence.trim())));
}

/** @returns what is wrong with the packages of a lock file, one line each */
export function licenceProblems(packages) {
  const problems = [];
  for (const [path, { dev, license }] of Object.entries(packages)) {
    const name = path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);
    if (path === '' || (dev && !bundled.has(name))) continue;
    if (typeof license !== 'string') problems.push(`${name}: expected a licence in the lock file, got none`);
    else if (!isAllowed(name, license)) problems.push(`${name}: expected an allowed licence, got ${license}`);
  }
  return problems;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'));
  const problems = licenceProblems(packages);
  if (problems.length > 0) {
    process.stderr.write(`${problems.join('\n')}\n`);
    process.exit(1);
  }
  process.stdout.write('licences: all packages that are brought along may be\n');
}
