/** Kinds of processors that addons are compiled for on another, by the cross compilers of the distribution. */
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** By Node's name of the processor: the prefix of the tools, the file that CMake compiles by, and the packages of Debian. */
export const crossCompilers = {
  arm64: {
    prefix: 'aarch64-linux-gnu-',
    toolchain: join(root, 'native/cpu/sets/aarch64-linux-gnu.toolchain.cmake'),
    packages: 'g++-aarch64-linux-gnu',
  },
};

/** Whether a program runs here. */
export const isInstalled = (program) => spawnSync(program, ['--version'], { stdio: 'ignore' }).status === 0;

/**
 * Whether the addon of a platform can be compiled here.
 *
 * @param platform a row of ts/src/runtime/platforms.json
 */
export function canBuild({ os, cpu }) {
  if (os !== process.platform) return false;
  return cpu === process.arch || (cpu in crossCompilers && isInstalled(`${crossCompilers[cpu].prefix}g++`));
}
