import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['ts/test/**/*.test.ts'],
    globalSetup: 'ts/test/decoder-setup.ts',
    testTimeout: 60_000,
    pool: 'forks',
    maxWorkers: 2,
  },
});
