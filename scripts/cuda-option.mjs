/** Whether the build is asked for the CUDA library, and why it was left out. */

const values = ['AUTO', 'ON', 'OFF'];

/**
 * The CMake option MOME_CUDA, from the environment variable of that name. Unset means AUTO (build the library if nvcc is found), so that
 * the choice of an earlier configuration does not stay.
 *
 * @param {Readonly<Record<string, string | undefined>>} environment
 * @throws {Error} for any value but ON, OFF and AUTO
 */
export function cudaOption(environment) {
  const value = environment.MOME_CUDA || 'AUTO';
  if (!values.includes(value)) throw new Error(`MOME_CUDA: expected ${values.join(', ')}, got ${value}`);
  return value;
}

/** The reason in CMake's output for building no CUDA library; undefined if it builds one. */
export function withoutCuda(output) {
  return /mome: no CUDA library: (.*)/.exec(output)?.[1].trim();
}
