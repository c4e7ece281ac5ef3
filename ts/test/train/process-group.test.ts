import { spawnSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { singleProcess } from '../../src/train/process-group.ts';
import { launchedByMpi, mpiInfo, openProcessGroup } from '../../src/train/process-group-mpi.ts';
import { WholeBatch } from '../../src/train/whole-batch.ts';
import { temporaryFolder } from '../helpers.ts';
import { tinyConfig } from './tiny-model.ts';

const worker = fileURLToPath(new URL('process-group-worker.mjs', import.meta.url));
const hasMpi = mpiInfo().library !== null && spawnSync('mpirun', ['--version']).status === 0;

interface Course {
  readonly numbers: number[];
  readonly weights: number[][];
  readonly same: boolean;
}

/** Runs the worker in as many processes as `sizes` has numbers of texts. */
async function course(sizes: readonly number[], options: object, planted?: string) {
  const output = join(await temporaryFolder(), 'course.json');
  const own = { config: { ...tinyConfig, answers: 5 }, ...options };
  const args = [worker, output, JSON.stringify(own), JSON.stringify(sizes), ...(planted ? [planted] : [])];
  const mpirun = ['--oversubscribe', '--allow-run-as-root', '-n', String(sizes.length), process.execPath, ...args];
  const alone = sizes.length === 1;
  const { status, stderr } = spawnSync(alone ? process.execPath : 'mpirun', alone ? args : mpirun, {
    encoding: 'utf8',
    timeout: 60_000,
  });
  const read = async (name: string) => JSON.parse(await readFile(name, 'utf8'));
  return { status, stderr, read: () => read(output) as Promise<Course>, failure: () => read(`${output}.0`) };
}

function difference(a: readonly number[], b: readonly number[]): number {
  const largest = Math.max(1e-30, ...a.map(Math.abs));
  return Math.max(...a.map((value, i) => Math.abs(value - b[i]!))) / largest;
}

const relative = (a: readonly number[], b: readonly number[]) =>
  Math.max(...a.map((value, i) => Math.abs(value - b[i]!) / Math.abs(value)));

describe('a group of one process', () => {
  it('is what is opened without mpirun', async () => {
    expect(launchedByMpi({})).toBe(false);
    expect(launchedByMpi({ OMPI_COMM_WORLD_SIZE: '1' })).toBe(false);
    expect(launchedByMpi({ OMPI_COMM_WORLD_SIZE: '4' })).toBe(true);
    expect(await openProcessGroup()).toBe(singleProcess);
  });

  it('has whole batches of its own', async () => {
    const texts = [Int32Array.of(1, 2), Int32Array.of(3)];
    const whole = await WholeBatch.of(singleProcess, { texts, bytes: Uint8Array.of(1, 2, 3, 4) }, 2, 1);
    expect(whole.texts).toEqual(texts);
    expect([...whole.pixels([1, 0])]).toEqual([3, 4, 1, 2]);
    expect(whole.microBatches(whole.ownTexts)).toEqual([
      { begin: 0, end: 1 },
      { begin: 1, end: 2 },
    ]);
  });
});

describe.skipIf(!hasMpi)('processes that mpirun launched', () => {
  it('train as one process does', async () => {
    const options = { steps: 20, groups: true, dropPath: 0.1 };
    const alone = await (await course([12], options)).read();
    for (const [sizes, more] of [
      [[6, 6], {}],
      [[4, 3, 3, 2], { microBatch: 2 }],
    ] as const) {
      const run = await course(sizes, { ...options, ...more });
      expect(run.stderr).toBe('');
      const together = await run.read();
      expect(together.numbers).toHaveLength(20 * 4);
      expect(relative(alone.numbers, together.numbers)).toBeLessThan(1e-5);
      expect(together.same).toBe(true);
      for (const [i, weights] of alone.weights.entries())
        expect(difference(weights, together.weights[i]!)).toBeLessThan(1e-4);
    }
    // Processes that do not know of each other: the planted error.
    const apart = await (await course([6, 6], options, 'apart')).read();
    expect(relative(alone.numbers, apart.numbers)).toBeGreaterThan(0.01);
    expect(apart.same).toBe(false);
  }, 60_000);

  it('end with a coded error when one of them is lost', async () => {
    const started = performance.now();
    const { status, failure } = await course([6, 6], { steps: 5 }, 'lost');
    expect(status).not.toBe(0);
    expect(await failure()).toMatchObject({
      code: 'MOME_PROCESS_LOST',
      message: expect.stringMatching(/expected process 1 \(pid \d+\) to go on, it has ended/),
      step: 2,
    });
    expect(performance.now() - started).toBeLessThan(30_000);
  }, 40_000);
});
