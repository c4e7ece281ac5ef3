/** The build's judgement of what the CUDA assembler says, on lines as it prints them. */
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { discardKernels, ptxasProblems } from '../../../scripts/ptxas.mjs';
import { temporaryFolder } from '../helpers.ts';

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

it('leaves nothing that the next build could link unseen', async () => {
  const build = await temporaryFolder();
  const files = ['Release/mome_cuda.so', 'CMakeFiles/mome_cuda.dir/native/cuda/kernels/qkv.cu.o', 'Release/mome.node'];
  for (const file of files) {
    await mkdir(join(build, file, '..'), { recursive: true });
    await writeFile(join(build, file), '');
  }
  discardKernels(build);
  expect(files.filter((file) => existsSync(join(build, file)))).toEqual(['Release/mome.node']);
});
