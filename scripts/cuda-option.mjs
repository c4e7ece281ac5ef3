/** What the build does about the CUDA library: what it was asked for, and what became of it. */

const values = ['AUTO', 'ON', 'OFF'];

/**
 * The CMake option MOME_CUDA from the environment variable of that name; AUTO (the library is built where nvcc is found) where it is not set, so
 * that nothing of an earlier configuration stays.
 *
 * @param {Readonly<Record<string, string | undefined>>} environment
 * @throws {Error} for any value but ON, OFF and AUTO
 */
export function cudaOption(environment) {
  const value = environment.MOME_CUDA || 'AUTO';
  if (!values.includes(value)) throw new Error(`MOME_CUDA: expected ${values.join(', ')}, got ${value}`);
  return value;
}

/** Why the configuration builds no CUDA library, from what CMake printed; undefined where it builds one. */
export function withoutCuda(output) {
  return /mome: no CUDA library: (.*)/.exec(output)?.[1].trim();
}
