/** The build's judgement of what the CUDA assembler says, on lines as it prints them. */
import { expect, it } from 'vitest';
import { ptxasProblems } from '../../../scripts/ptxas.mjs';

const spilled = (bytes: number) =>
  `ptxas warning : Registers are spilled to local memory in function '_Z22gemm_forward_bf16_sm90', ${bytes} bytes spill stores, 4 bytes spill loads`;
const serialised =
  "ptxas info    : (C7520) Potential Performance Loss: wgmma.mma_async instructions are serialized due to program dependence on compiler-inserted WG.AR in divergent path in the function '_Z22gemm'";

it('lets a register pass that is put aside once, and nothing more', () => {
  expect(ptxasProblems(['[ 50%] Building CUDA object gemm.cu.o', spilled(4), spilled(8)].join('\n'))).toEqual([]);
  expect(ptxasProblems([spilled(8), spilled(12), 'make: done'].join('\n'))).toEqual([spilled(12)]);
});

it('stops at products that wait for one another', () => {
  expect(ptxasProblems(`g++ -c a.cc\n${serialised}\n`)).toEqual([serialised]);
});
