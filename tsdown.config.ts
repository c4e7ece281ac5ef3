import { defineConfig } from 'tsdown';

export default defineConfig({
  entry: {
    index: 'ts/src/index.ts',
    train: 'ts/src/train/index.ts',
    graph: 'ts/src/graph/index.ts',
    cli: 'ts/src/cli/main.ts',
  },
  format: ['esm', 'cjs'],
  outDir: 'dist',
  platform: 'node',
  target: 'node20.19',
  dts: true,
  shims: true,
  sourcemap: true,
  clean: true,
});
