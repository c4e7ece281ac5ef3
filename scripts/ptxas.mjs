/** Reads what the CUDA assembler says of the kernels, and takes back a build that it says it of. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';

/**
 * What the CUDA assembler says that no kernel may have: more than 8 bytes of spill stores, anywhere in it, since nothing is said of where they are;
 * products of a warpgroup that wait for one another; registers that warpgroups cannot hand over to each other. 8 bytes are two registers: tiles
 * that need nearly all of them are worth that.
 */
export function ptxasProblems(output) {
  const allowedBytes = 8;
  return output.split('\n').filter((line) => {
    const spilled = /spilled to local memory.* (\d+) bytes spill stores/.exec(line);
    return (
      (spilled && Number(spilled[1]) > allowedBytes) ||
      (/ptxas/.test(line) && /wgmma|serializ|setmaxnreg/i.test(line) && !spilled)
    );
  });
}

/**
 * Removes the CUDA library and what it is linked from: objects that stay would be linked by the next build, and the assembler, which is not
 * asked again, would say nothing of them.
 */
export function discardKernels(build) {
  rmSync(join(build, 'Release', 'mome_cuda.so'), { force: true });
  rmSync(join(build, 'CMakeFiles', 'mome_cuda.dir'), { recursive: true, force: true });
}
