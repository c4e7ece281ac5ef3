/** Damaged files of every format: a coded error or the undamaged items, in time. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MomeError } from '../../../src/runtime/errors.ts';
import { textsOf } from '../../../src/train/data/dataset.ts';
import { openDataset } from '../../../src/train/data/open.ts';
import { openParquet } from '../../../src/train/data/parquet.ts';
import { datasetOfRows } from '../../../src/train/data/row-items.ts';
import { createRandom } from '../../../src/train/random.ts';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'mome-hostile-'));
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

/** Formats with a file of each, which another program wrote. */
const fixtures = ['coco.arrow', 'vqa.arrow', 'regions.arrow', 'hugging-face.parquet', 'gzip.parquet', 'shard.tar'];
/** Numbers that lengths and offsets like to lie with. */
const lies = [0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0x10000000, 0xfffffff8];

/** Time for damaged Parquet files, which may keep their reader busy for ever. */
const parquetMilliseconds = 1500;

/** Opens a file and reads all of it. @returns the codes of its errors */
async function codesOf(file: string, isDamaged: boolean): Promise<string[]> {
  const codes: string[] = [];
  const note = (error: unknown) => {
    if (!(error instanceof MomeError)) throw error;
    expect(error.message).toContain(path.basename(file));
    codes.push(error.code);
  };
  const opening =
    isDamaged && file.endsWith('.parquet')
      ? openParquet(file, parquetMilliseconds).then((table) => datasetOfRows(table))
      : openDataset({ files: file });
  const dataset = await opening.catch(note);
  if (!dataset) return codes;
  for (let index = 0; index < Math.min(dataset.length, 3); index++) await dataset.item(index).catch(note);
  const read = async () => {
    let count = 0;
    for await (const _ of textsOf(dataset)) if (++count === 100) break;
    await dataset.fingerprint();
  };
  await read().catch(note);
  dataset.close();
  return codes;
}

async function bytesOf(name: string): Promise<Buffer> {
  return readFile(path.join(import.meta.dirname, 'fixtures', name));
}

async function codesOfBytes(name: string, bytes: Uint8Array, isDamaged = false): Promise<string[]> {
  const file = path.join(folder, name);
  await writeFile(file, bytes);
  return codesOf(file, isDamaged);
}

describe.each(fixtures)('%s', (name) => {
  it('is whole as it lies here', async () => {
    const codes = await codesOfBytes(name, await bytesOf(name));
    // One row has no picture.
    expect(codes).toEqual(name === 'regions.arrow' ? ['MOME_INVALID_FILE'] : []);
  });

  it('is refused empty, foreign, or cut off', async () => {
    const bytes = await bytesOf(name);
    const other = Buffer.from('PK\x03\x04 not the file that its name says it is '.repeat(40));
    const pointer = Buffer.from('version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n');
    for (const bad of [Buffer.alloc(0), other, pointer, bytes.subarray(0, 5), bytes.subarray(0, 100)])
      expect(await codesOfBytes(name, bad)).toContain('MOME_INVALID_FILE');
    // A tar file ends with blocks of zeros, which nobody misses.
    const most = name.endsWith('.tar') ? 9000 : bytes.length;
    for (const share of [0.3, 0.6, 0.9, 0.999])
      expect(await codesOfBytes(name, bytes.subarray(0, Math.floor(share * most)))).toContain('MOME_INVALID_FILE');
  });

  it('gives coded errors when bytes and lengths lie', async () => {
    const bytes = await bytesOf(name);
    let failures = 0;
    const rounds = name.endsWith('.parquet') ? 15 : 60;
    for (let round = 0; round < rounds; round++) {
      const random = createRandom(7, round);
      const bad = Buffer.from(bytes);
      for (let i = 0; i < 2; i++) {
        const at = 4 * random.integer(Math.floor(bad.length / 4));
        if (random.chance(0.5)) bad.writeUInt32LE(random.pick(lies), at);
        else bad[at] = random.integer(256);
      }
      const started = performance.now();
      if ((await codesOfBytes(name, bad, true)).length > 0) failures++;
      expect(performance.now() - started).toBeLessThan(20_000);
    }
    expect(failures).toBeGreaterThan(0);
  });
});
