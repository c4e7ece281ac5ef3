import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: { include: ['ts/test/**/*.test.ts'], testTimeout: 60_000, pool: 'forks', maxWorkers: 2 },
});
