/** Finds problems in the output of the CUDA assembler, and removes a build that has any. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Lines of the CUDA assembler's output that no kernel may cause: more than 8 bytes of spill stores, products of a warpgroup that wait for
 * one another, and registers that warpgroups cannot hand over. 8 bytes, two registers, are allowed: tiles that use nearly all registers
 * gain more than these spills cost. The assembler does not say where in a kernel it spills, so the limit holds for the whole kernel.
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
 * Removes the CUDA library and its objects. The next build would otherwise link these objects without running the assembler again, and
 * report no problem.
 */
export function discardKernels(build) {
  rmSync(join(build, 'Release', 'mome_cuda.so'), { force: true });
  rmSync(join(build, 'CMakeFiles', 'mome_cuda.dir'), { recursive: true, force: true });
}
