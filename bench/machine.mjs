/** Describes this machine. Its peak rates are measured by `mome_bench` before and after every table. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { freemem, release, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { diagnose } from '../dist/index.mjs';
import { processorKind } from './processor-kind.mjs';
import { benchLines } from './program.mjs';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** The commit, marked where more than results and pages differ from it: each table that is written changes those. */
function commitOf(folder) {
  const git = (...args) => spawnSync('git', ['-C', folder, ...args], { encoding: 'utf8' });
  const { status, stdout } = git('rev-parse', '--short', 'HEAD');
  if (status !== 0) return undefined;
  const same = git('diff', '--quiet', 'HEAD', '--', '.', ':!bench/results', ':!docs').status === 0;
  return `${stdout.trim()}${same ? '' : '-dirty'}`;
}

/**
 * Machine and versions, as they stand in every result.
 *
 * @param {string} [target] kernel set to measure; default: the fastest
 * @throws {Error} this processor lacks the target
 */
export async function describeMachine(target) {
  const { cpu } = await diagnose();
  if (target !== undefined && (!cpu.targets.includes(target) || target === 'ref'))
    throw new Error(
      `bench: expected a target of ${cpu.targets.filter((each) => each !== 'ref').join(', ')}, got ${target}`,
    );
  const version = (command, args) => {
    const { status, stdout } = spawnSync(command, args, { encoding: 'utf8' });
    return status === 0 ? stdout.split('\n')[0].trim() : undefined;
  };
  const governor = '/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor';
  const kind = existsSync('/proc/cpuinfo') ? processorKind(readFileSync('/proc/cpuinfo', 'utf8')) : undefined;
  return {
    machine: {
      cpu: cpu.model,
      ...(kind !== undefined && { kind }),
      cores: cpu.availableCores,
      target: target ?? cpu.best,
      ...(target !== undefined && target !== cpu.best && { best: cpu.best }),
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
    hasVnni: cpu.targets.some((each) => /vnni|bf16/.test(each)),
  };
}

/** Peaks of one core and of all with the instructions of a target: GFLOP/s, GOP/s of 8-bit products, GB/s; null where it has none. */
export async function measurePeaks(target, signal) {
  const [peaks] = (await benchLines(['peaks', '--target', target], { signal })).filter(({ kind }) => kind === 'peaks');
  const { kind: _kind, target: _target, threads: _threads, ...rates } = peaks;
  return rates;
}
