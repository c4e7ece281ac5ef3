#!/usr/bin/env node
/**
 * What prebuildify calls in place of node-gyp: compiles the addon into `build` of its working folder, which is no clone's own `build`, by the
 * one road there is. (node-gyp would download headers, empty `build` first, and come to the same script by binding.gyp.)
 */
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const script = join(dirname(dirname(fileURLToPath(import.meta.url))), 'build-addon.mjs');
// The libraries for CUDA and MPI are those of the machine they are compiled on.
const env = { ...process.env, MOME_CUDA: 'OFF', MOME_MPI: 'OFF' };
const { status } = spawnSync(process.execPath, [script, '--out', join(process.cwd(), 'build')], {
  env,
  stdio: 'inherit',
});
process.exit(status ?? 1);
