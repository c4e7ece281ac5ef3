/** How the CUDA library is asked for and what it is linked with. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { cudaOption, withoutCuda } from '../../../scripts/cuda-option.mjs';
import { packageRoot } from '../../src/runtime/addon.ts';
import { temporaryFolder } from '../helpers.ts';

/**
 * A folder with a compiler and a CMake that say what the real ones would with MOME_CUDA=OFF, if they are asked for it, and build
 * nothing.
 */
async function fakeTools(): Promise<string> {
  const folder = await temporaryFolder();
  const cmake = `case "$*" in
  *--version*) echo "cmake version 3.25.1" ;;
  *-DMOME_CUDA=OFF*) echo "-- mome: no CUDA library: MOME_CUDA is OFF" ;;
  *) exit 1 ;;
esac`;
  for (const [name, text] of Object.entries({ cmake, 'g++': 'exit 0', make: 'exit 0' })) {
    await writeFile(join(folder, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  }
  return folder;
}

describe('MOME_CUDA', () => {
  it('goes to CMake as it is, AUTO by default', () => {
    expect([{}, { MOME_CUDA: '' }, { MOME_CUDA: 'ON' }, { MOME_CUDA: 'OFF' }].map(cudaOption)).toEqual([
      'AUTO',
      'AUTO',
      'ON',
      'OFF',
    ]);
    expect(() => cudaOption({ MOME_CUDA: 'yes' })).toThrow('MOME_CUDA: expected AUTO, ON, OFF, got yes');
  });

  it('gives the reason that CMake states', async () => {
    const lines = [
      ...(await readFile(join(packageRoot(), 'CMakeLists.txt'), 'utf8')).matchAll(/STATUS "(mome: no CUDA.*)"/g),
    ];
    expect(lines.map(([, line]) => withoutCuda(`-- found\n-- ${line}\n-- done`))).toEqual([
      'MOME_CUDA is OFF',
      'nvcc was not found',
    ]);
    expect(withoutCuda('-- Configuring done')).toBeUndefined();
  });

  it.each([
    ['OFF', /building without CUDA: MOME_CUDA is OFF/],
    ['maybe', /MOME_CUDA: expected AUTO, ON, OFF, got maybe/],
  ])('%s is heard by the build', async (value, said) => {
    const folder = await fakeTools();
    const { stderr, status } = spawnSync(process.execPath, [join(packageRoot(), 'scripts', 'build-addon.mjs')], {
      encoding: 'utf8',
      env: { ...process.env, PATH: folder, MOME_CUDA: value },
    });
    expect(status).toBe(1);
    expect(stderr).toMatch(said);
  });
});

const library = join(packageRoot(), 'build', 'Release', 'mome_cuda.so');

/** The libraries that `readelf -d` says a file needs, and those of them that NVIDIA makes. */
function neededLibraries(dynamicSection: string) {
  const needed = [...dynamicSection.matchAll(/\(NEEDED\).*\[(.*)\]/g)].map(([, name]) => name!);
  return { needed, nvidia: needed.filter((name) => /cuda|cublas|cudnn|^libnv/i.test(name)) };
}

describe.skipIf(!existsSync(library))('the CUDA library (skipped where it was not built)', () => {
  it('needs no library of NVIDIA', () => {
    const { stdout } = spawnSync('readelf', ['-d', library], { encoding: 'utf8' });
    const { needed, nvidia } = neededLibraries(stdout);
    expect(needed).toContain('libc.so.6');
    expect(nvidia).toEqual([]);
  });

  it('would not pass with one', () => {
    const line = (name: string) => ` 0x0000000000000001 (NEEDED)             Shared library: [${name}]`;
    const names = [
      'libcudart.so.13',
      'libcublas.so.13',
      'libcudnn.so.9',
      'libcuda.so.1',
      'libnvrtc.so.13',
      'libc.so.6',
    ];
    expect(neededLibraries(names.map(line).join('\n')).nvidia).toEqual(names.slice(0, -1));
  });
});
