#!/usr/bin/env node
/**
 * What prebuildify calls in place of node-gyp: compiles the addon by the one road there is, in `build-release` and not in the clone's own
 * `build`, and leaves it where prebuildify takes it. (node-gyp would download headers and empty `build`.)
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const build = join(root, 'build-release');
const target = join(process.cwd(), 'build', 'Release');
// The libraries for CUDA and MPI are those of the machine they are compiled on.
const env = { ...process.env, MOME_CUDA: 'OFF', MOME_MPI: 'OFF' };
const script = join(root, 'scripts', 'build-addon.mjs');
const { status } = spawnSync(process.execPath, [script, '--out', build], { env, stdio: 'inherit' });
if (status !== 0) process.exit(status ?? 1);
mkdirSync(target, { recursive: true });
cpSync(join(build, 'Release', 'mome.node'), join(target, 'mome.node'));
