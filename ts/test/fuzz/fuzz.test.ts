/**
 * Reads files that are changed at random, and files that did harm once. Each reader must give a result or a coded error: soon, with
 * little memory, without holding the event loop, and without anything thrown outside a promise.
 *
 * `npm run fuzz -- --seconds 600 --seed 7 --reader vocab.txt` runs longer, from a seed that an earlier run printed, or one reader alone.
 */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { MomeError } from '../../src/runtime/errors.ts';
import { temporaryFolder } from '../helpers.ts';
import { judge } from './judge.ts';
import { createRandom, mutate } from './mutate.ts';
import { placeFile, type Reader, readers } from './readers.ts';

const corpus = fileURLToPath(new URL('corpus', import.meta.url));
const { MOME_FUZZ_SECONDS, MOME_FUZZ_SEED, MOME_FUZZ_READER, MOME_FUZZ_KEEP } = process.env;
const seconds = Number(MOME_FUZZ_SECONDS ?? 30);
const chosen = readers.filter(({ name, file }) => [undefined, '', name, file].includes(MOME_FUZZ_READER));
/** Files of each run, also where the machine is slow. */
const fewest = 20;
const secondsEach = seconds / chosen.length;
/** One run is the same each time, the other one never. */
const seeds = MOME_FUZZ_SEED ? [Number(MOME_FUZZ_SEED)] : [1, Math.floor(Math.random() * 2 ** 31)];

let folder = '';
beforeAll(async () => {
  folder = await temporaryFolder();
});

/** Changes files for some time. Returns the first that a reader took wrongly, and what was wrong. */
async function search(reader: Reader, files: readonly Buffer[], seed: number, until: number) {
  const random = createRandom(seed);
  let count = 0;
  let coded = 0;
  const counted = (path: string) => async () => {
    try {
      return await reader.read(path);
    } catch (error) {
      if (error instanceof MomeError) coded++;
      throw error;
    }
  };
  while (count < fewest || performance.now() < until) {
    count++;
    const bytes = mutate(random.pick(files), files, random);
    const fault = await judge(counted(await placeFile(folder, reader, bytes)));
    if (fault !== undefined) return { fault, bytes, count, coded };
  }
  return { fault: undefined, bytes: undefined, count, coded };
}

describe.each(chosen)('$name', (reader) => {
  it('take what is well-formed, and files that did harm once', async () => {
    for (const bytes of await reader.seeds(folder)) {
      const path = await placeFile(folder, reader, bytes);
      await reader.read(path);
      expect(await judge(() => reader.read(path))).toBeUndefined();
    }
    for (const [name, bytes] of await keptFiles(reader))
      expect([name, await judge(async () => reader.read(await placeFile(folder, reader, bytes)))]).toEqual([
        name,
        undefined,
      ]);
  });

  it.each(seeds)(
    'take files that are changed from seed %i',
    { timeout: 1000 * secondsEach + 120_000 },
    async (seed) => {
      const files = [...(await reader.seeds(folder)), ...(await keptFiles(reader)).map(([, bytes]) => bytes)];
      const until = performance.now() + (1000 * secondsEach) / seeds.length;
      const { fault, bytes, count, coded } = await search(reader, files, seed, until);
      if (bytes !== undefined && MOME_FUZZ_KEEP) {
        await mkdir(MOME_FUZZ_KEEP, { recursive: true });
        await writeFile(join(MOME_FUZZ_KEEP, `${reader.file}.${seed}`), bytes);
      }
      process.stdout.write(`fuzz: ${reader.name}, seed ${seed}: ${count} files, ${coded} refused\n`);
      expect(
        fault,
        `seed ${seed}, file ${count} (MOME_FUZZ_KEEP=folder keeps it): ${bytes?.toString('base64').slice(0, 1000)}`,
      ).toBeUndefined();
      expect(coded).toBeGreaterThan(0);
    },
  );
});

/** Files of the corpus for a reader: they are called by its file name and what is wrong with them. */
async function keptFiles({ file }: Reader): Promise<[string, Buffer][]> {
  const names = (await readdir(corpus)).filter((name) => name.startsWith(`${file}.`)).sort();
  return Promise.all(names.map(async (name): Promise<[string, Buffer]> => [name, await readFile(join(corpus, name))]));
}

describe('the search', () => {
  const faults: readonly [string, () => Promise<unknown> | unknown][] = [
    ['an error without a code', () => JSON.parse('{')],
    ['an exception outside a promise', () => void setTimeout(() => fail('planted'), 0)],
    ['an exception outside a promise', () => void Promise.reject(new Error('planted'))],
    ['a turn of', () => spin(80)],
    ['MiB of memory', fillMemory],
    ['MOME_INTERNAL', () => Promise.reject(new MomeError('MOME_INTERNAL', 'planted'))],
  ];
  const keep: Buffer[] = [];
  /** Takes more than twice what a file may: meanwhile the garbage of the files before may be given back. */
  async function fillMemory(): Promise<void> {
    for (let part = 0; part < 120; part++) {
      keep.push(Buffer.alloc(5 * 2 ** 20, 1));
      await setImmediate();
    }
  }

  it.each(faults)('finds %s in one file of many', async (expected, plant) => {
    const reader: Reader = {
      name: 'planted',
      file: 'planted.txt',
      seeds: async () => [],
      read: async (path) => ((await readFile(path)).includes(0xff) ? plant() : undefined),
    };
    const { fault, count } = await search(reader, [Buffer.from('some text')], 1, performance.now() + 60_000);
    expect(fault).toContain(expected);
    expect(count).toBeGreaterThan(1);
    keep.length = 0;
  });
});

function fail(message: string): never {
  throw new Error(message);
}

function spin(milliseconds: number): void {
  const start = process.cpuUsage();
  while (process.cpuUsage(start).user < 1000 * milliseconds);
}
