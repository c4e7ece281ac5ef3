/** Reads what the CUDA assembler says of the kernels. */

/**
 * What the CUDA assembler says that no kernel may have: registers spilled to memory, products of a warpgroup that wait for one another,
 * registers that warpgroups cannot hand over to each other. Two registers that are put aside once per tile, outside every loop, are let pass: the tiles that leave no others are worth it.
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
