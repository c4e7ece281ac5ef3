import { defineConfig } from 'tsdown';

const shared = { outDir: 'dist', platform: 'node', target: 'node20.19', shims: true, sourcemap: true } as const;

export default defineConfig([
  {
    ...shared,
    entry: { index: 'ts/src/index.ts', train: 'ts/src/train/index.ts', graph: 'ts/src/graph/index.ts' },
    format: ['esm', 'cjs'],
    dts: true,
    clean: false,
  },
  { ...shared, entry: { cli: 'ts/src/cli/main.ts' }, format: 'esm', dts: false, clean: false },
]);
