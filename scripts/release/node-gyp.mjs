#!/usr/bin/env node
/**
 * What prebuildify calls in place of node-gyp: compiles the addon by the one road there is, in `build-release` and not in the clone's own
 * `build`, for the processor that `--arch` names, and leaves it where prebuildify takes it. (node-gyp would download headers and empty `build`.)
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { crossCompilers } from './cross.mjs';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const arch = process.argv.find((argument) => argument.startsWith('--arch='))?.slice('--arch='.length) ?? process.arch;
const isCross = arch !== process.arch;
const build = join(root, isCross ? `build-release-${arch}` : 'build-release');
const target = join(process.cwd(), 'build', 'Release');
// The libraries for CUDA and MPI are those of the machine they are compiled on.
const env = { ...process.env, MOME_CUDA: 'OFF', MOME_MPI: 'OFF' };
const script = join(root, 'scripts', 'build-addon.mjs');
const cross = isCross ? ['--toolchain', crossCompilers[arch].toolchain] : [];
const { status } = spawnSync(process.execPath, [script, '--out', build, ...cross], { env, stdio: 'inherit' });
if (status !== 0) process.exit(status ?? 1);
mkdirSync(target, { recursive: true });
cpSync(join(build, 'Release', 'mome.node'), join(target, 'mome.node'));
