/** Describes this machine. Its peak rates are measured by `mome_bench` before and after every table. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { freemem, release, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { diagnose } from '../dist/index.mjs';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
export const benchProgram = join(root, 'build', 'mome_bench');

/** The commit, marked where more than results and pages differ from it: each table that is written changes those. */
function commitOf(folder) {
  const git = (...args) => spawnSync('git', ['-C', folder, ...args], { encoding: 'utf8' });
  const { status, stdout } = git('rev-parse', '--short', 'HEAD');
  if (status !== 0) return undefined;
  const same = git('diff', '--quiet', 'HEAD', '--', '.', ':!bench/results', ':!docs').status === 0;
  return `${stdout.trim()}${same ? '' : '-dirty'}`;
}

/** Machine and versions, as they stand in every result. */
export async function describeMachine() {
  const { cpu } = await diagnose();
  const version = (command, args) => {
    const { status, stdout } = spawnSync(command, args, { encoding: 'utf8' });
    return status === 0 ? stdout.split('\n')[0].trim() : undefined;
  };
  const governor = '/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor';
  return {
    machine: {
      cpu: cpu.model,
      cores: cpu.availableCores,
      target: cpu.best,
      memoryGiB: Math.round(totalmem() / 2 ** 30),
      freeGiB: Math.round(freemem() / 2 ** 30),
      kernel: release(),
      ...(existsSync(governor) && { governor: readFileSync(governor, 'utf8').trim() }),
    },
    versions: {
      mome: JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).version,
      node: process.version,
      'g++': version('g++', ['-dumpfullversion']) ?? 'absent',
    },
    commit: commitOf(root) ?? 'unknown',
  };
}

/** Peaks of one core and of all: FMA in GFLOP/s, VNNI in GOP/s (null without it), reading in GB/s. */
export function measurePeaks() {
  const output = execFileSync(benchProgram, ['peaks'], { encoding: 'utf8' });
  const line = output.split('\n').find((each) => each.includes('"peaks"'));
  const { fma_gflops, vnni_gops, read_gbs } = JSON.parse(line);
  return { fma_gflops, vnni_gops, read_gbs };
}

/** File-name form of a processor's name and kernel set. */
export function slugOf({ cpu, target }) {
  return `${cpu} ${target}`.toLowerCase().replace(/[^a-z0-9]+/g, '-');
}
