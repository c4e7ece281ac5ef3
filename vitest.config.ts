import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['ts/test/**/*.test.ts'],
    globalSetup: 'ts/test/decoder-setup.ts',
    testTimeout: 60_000,
    pool: 'forks',
    // Garbage is collected on the thread whose turns are measured: helper threads would wait for cores that other tests have.
    execArgv: ['--single-threaded-gc'],
    maxWorkers: 2,
  },
});
