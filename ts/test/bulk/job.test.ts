import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, cp, mkdir, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { parquetWriteBuffer } from 'hyparquet-writer';
import sharp from 'sharp';
import { pack } from 'tar-stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type BulkOptions, openInputs, parseShard, runBulkJob } from '../../src/bulk/index.ts';
import { unitsOf } from '../../src/bulk/shards.ts';
import { Vlmo } from '../../src/inference/index.ts';
import { expectCode, temporaryFolder, testImage, tinyModel } from '../helpers.ts';

let folder = '';
let model: Vlmo;
let modelPath = '';
let pictures = '';
const encoded = new Map<string, Buffer>();
const names = ['a b.png', 'b/é 日本.png', 'b/0.png', 'c.png', 'd.png', 'e.png', 'f.png', 'g.png', 'h.png'];

beforeAll(async () => {
  folder = await temporaryFolder();
  modelPath = await tinyModel();
  model = await Vlmo.load(modelPath, { threads: 1 });
  pictures = join(folder, 'pictures');
  await mkdir(join(pictures, 'b'), { recursive: true });
  for (const [i, name] of names.entries()) {
    const image = testImage(i, 24);
    const bytes = await sharp(image.data, { raw: image }).png().toBuffer();
    encoded.set(name, bytes);
    await writeFile(join(pictures, name), bytes);
  }
});
afterAll(() => model.dispose());

interface ReadRow {
  source: string;
  name: string;
  text?: string | null;
  embedding: number[] | null;
  error: string | null;
}

async function readParquet(path: string): Promise<ReadRow[]> {
  const file = await asyncBufferFromFile(path);
  return (await parquetReadObjects({ file, compressors })) as unknown as ReadRow[];
}

/** Rows of all parts of all shards, in the order of their names. */
async function rowsOf(output: string): Promise<ReadRow[]> {
  const rows: ReadRow[] = [];
  for (const shard of (await readdir(output)).sort())
    for (const name of (await readdir(join(output, shard))).sort())
      if (name.endsWith('.parquet')) rows.push(...(await readParquet(join(output, shard, name))));
  return rows;
}

/** Every file of a folder with its contents. */
async function contentsOf(output: string): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const entry of await readdir(output, { recursive: true, withFileTypes: true }))
    if (entry.isFile()) {
      const path = join(entry.parentPath, entry.name);
      found.set(path.slice(output.length), (await readFile(path)).toString('base64'));
    }
  return new Map([...found].sort(([a], [b]) => (a < b ? -1 : 1)));
}

let outputs = 0;
/** Runs a job into a new folder, or the one among the options. */
async function job(sources: readonly string[], options: Partial<BulkOptions> & { column?: string; using?: Vlmo } = {}) {
  const { column, id = '', using = model, ...others } = options;
  const output = options.output ?? join(folder, `out-${outputs++}`);
  const inputs = await openInputs(sources, { ...(column && { column }), ...(id && { id }) });
  try {
    const result = await runBulkJob(using, inputs, {
      output,
      shard: { index: 0, count: 1 },
      format: 'parquet',
      partSize: 4,
      maxErrors: 100,
      version: '1.2.3',
      id,
      stop: new AbortController().signal,
      ...others,
    });
    return { output, ...result };
  } finally {
    inputs.close();
  }
}

async function writeTar(path: string, entries: readonly (readonly [string, Uint8Array])[]): Promise<void> {
  const tar = pack();
  for (const [name, bytes] of entries) tar.entry({ name }, Buffer.from(bytes));
  tar.finalize();
  const parts: Buffer[] = [];
  for await (const part of tar) parts.push(part as Buffer);
  await writeFile(path, Buffer.concat(parts));
}

describe('shards', () => {
  it('give every unit to exactly one shard, in order', () => {
    for (const [units, count] of [
      [10, 3],
      [2, 5],
      [0, 4],
      [1_000_000_007, 999],
    ] as const) {
      let at = 0;
      for (let index = 0; index < count; index++) {
        const { begin, end } = unitsOf({ index, count }, units);
        expect(begin).toBe(at);
        expect(end - begin).toBeLessThanOrEqual(Math.ceil(units / count));
        at = end;
      }
      expect(at).toBe(units);
    }
  });

  it('refuses what is no shard', async () => {
    expect(parseShard('3/16')).toEqual({ index: 3, count: 16 });
    for (const text of ['16/16', '-1/2', '1', '1/0', '0/1000000', '1/2/3', '/2', '$X/2'])
      await expectCode(() => parseShard(text), 'MOME_INVALID_ARGUMENT');
  });
});

describe('a bulk job', { timeout: 120_000 }, () => {
  it('writes the embeddings of the model, in the order of the inputs, whatever the shards', async () => {
    const { output, state } = await job([pictures]);
    expect(state).toMatchObject({ parts: 3, rows: 9, errors: 0, done: true });
    const rows = await rowsOf(output);
    expect(rows.map(({ name }) => name)).toEqual([...names].sort());
    const { embeddings, width } = await model.embedImages(rows.map(({ name }) => encoded.get(name)!));
    const numbers = Float32Array.from(rows.flatMap(({ embedding }) => embedding!));
    expect(numbers).toEqual(embeddings);
    const metadata = await parquetMetadataAsync(
      await asyncBufferFromFile(join(output, 'shard-00000-of-00001/part-000000.parquet')),
    );
    const values = Object.fromEntries(metadata.key_value_metadata!.map(({ key, value }) => [key, value]));
    expect(values).toMatchObject({
      'mome.model': model.fingerprint,
      'mome.dimensions': `${width}`,
      'mome.version': '1.2.3',
      'mome.kind': 'pictures',
    });
    const sharded = join(folder, 'sharded');
    for (const index of [2, 0, 1]) await job([pictures], { output: sharded, shard: { index, count: 3 }, partSize: 2 });
    expect(await rowsOf(sharded)).toEqual(rows);
    // The comparison sees a row that is missing, and one that is there twice.
    await rm(join(sharded, 'shard-00001-of-00003/part-000000.parquet'));
    expect(await rowsOf(sharded)).not.toEqual(rows);
    await copyFile(
      join(sharded, 'shard-00000-of-00003/part-000000.parquet'),
      join(sharded, 'shard-00001-of-00003/part-000000.parquet'),
    );
    expect(await rowsOf(sharded)).not.toEqual(rows);
  });

  it('reports what is broken in a row without an embedding, and ends when there is too much of it', async () => {
    const broken = join(folder, 'broken');
    await cp(pictures, broken, { recursive: true });
    await writeFile(join(broken, 'b', 'x.png'), 'no picture');
    await writeFile(join(broken, 'd2.jpg'), '');
    const lines: (string | undefined)[] = [];
    const { output, state } = await job([broken], {
      onProgress: ({ isPart, lastError }) => isPart && lines.push(lastError),
    });
    expect(state).toMatchObject({ rows: 11, errors: 2 });
    const rows = await rowsOf(output);
    expect(rows.filter(({ embedding }) => embedding === null).map(({ name }) => name)).toEqual(['b/x.png', 'd2.jpg']);
    expect(rows.find(({ name }) => name === 'd2.jpg')!.error).toMatch(/^MOME_INVALID_IMAGE: expected .* empty file/);
    expect(rows.filter(({ error }) => error === null)).toHaveLength(9);
    expect(lines[0]).toContain('b/x.png');
    const few = join(folder, 'few');
    const error = await expectCode(() => job([broken], { output: few, maxErrors: 1 }), 'MOME_INVALID_IMAGE');
    expect(error.message).toContain('--max-errors');
    // What was finished stays, and the job goes on when more may fail.
    expect(await rowsOf(few)).toEqual(rows.slice(0, 4));
    await job([broken], { output: few, maxErrors: 2 });
    expect(await contentsOf(few)).toEqual(await contentsOf(output));
  });

  it('stops behind a part, goes on there, and does nothing when it is done', async () => {
    const whole = await job([pictures], { partSize: 2 });
    const output = join(folder, 'stopped');
    let runs = 0;
    for (let done = false; !done; runs++) {
      const stop = new AbortController();
      const { state, rows } = await job([pictures], {
        output,
        partSize: 2,
        stop: stop.signal,
        onProgress: () => stop.abort(),
      });
      expect(rows).toBe(state.done ? 1 : 2);
      done = state.done;
    }
    expect(runs).toBe(5);
    expect(await contentsOf(output)).toEqual(await contentsOf(whole.output));
    expect(await job([pictures], { output, partSize: 2 })).toMatchObject({ rows: 0, state: { done: true, rows: 9 } });
  });

  it('refuses to go on with another model, other inputs, other options, or without its parts', async () => {
    const { output, folder: shard } = await job([pictures]);
    const int8 = await Vlmo.load(modelPath, { threads: 1, dtype: 'int8' });
    const refused = async (action: () => Promise<unknown>, what: string) =>
      expect((await expectCode(action, 'MOME_INVALID_ARGUMENT')).message).toContain(what);
    try {
      await refused(() => job([pictures], { output, using: int8 }), 'dtype');
    } finally {
      await int8.dispose();
    }
    await refused(() => job([pictures], { output, partSize: 5 }), 'partSize (4, now 5)');
    await refused(() => job([pictures], { output, version: '1.2.4' }), 'mome');
    const other = join(folder, 'other');
    await mkdir(other);
    await writeFile(join(other, 'a.png'), encoded.get('c.png')!);
    await refused(() => job([other], { output }), 'inputs');
    // Another shard of another job, or of another division, is no shard of this one.
    const two = join(folder, 'two-jobs');
    await job([pictures], { output: two, shard: { index: 0, count: 2 } });
    const second = { output: two, shard: { index: 1, count: 2 } };
    await refused(() => job([pictures], { ...second, partSize: 5 }), 'partSize (4, now 5)');
    await refused(() => job([pictures], { output: two, shard: { index: 1, count: 3 } }), 'shard-00000-of-00002');
    expect((await job([pictures], second)).state.rows).toBe(5);
    await rm(join(shard, 'part-000001.parquet'));
    expect((await expectCode(() => job([pictures], { output }), 'MOME_INVALID_FILE')).message).toContain('part-000001');
    await writeFile(join(shard, '_job.json'), '{"version": 1}');
    await expectCode(() => job([pictures], { output }), 'MOME_INVALID_FILE');
    await rm(join(shard, '_job.json'));
    await expectCode(() => job([pictures], { output }), 'MOME_INVALID_FILE');
  });

  it('is killed anywhere and loses one part at most', async () => {
    const output = join(folder, 'killed');
    const args = ['embed', '--input', pictures, '-o', output, '-m', modelPath, '--part-size', '1', '--threads', '1'];
    const child = spawn(process.execPath, [join(process.cwd(), 'dist/cli.mjs'), ...args], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let text = '';
    child.stderr.setEncoding('utf8').on('data', (more: string) => {
      text += more;
      if (text.includes('mome: 3 parts')) child.kill('SIGKILL');
    });
    await once(child, 'exit');
    const shard = join(output, 'shard-00000-of-00001');
    const left = await readdir(shard);
    const finished = left.filter((name) => name.endsWith('.parquet'));
    expect(finished.length).toBeGreaterThanOrEqual(3);
    expect(finished.length).toBeLessThan(9);
    // Its lock counts for nothing after some seconds, which are not waited for here.
    await utimes(join(shard, '.run.lock'), new Date(0), new Date(0));
    // What a process on another machine has left of its part is no hindrance.
    await writeFile(join(shard, 'part-000008.parquet.01234567-1-2-01234567.tmp'), 'half');
    const { version } = JSON.parse(await readFile('package.json', 'utf8'));
    const { rows } = await job([pictures], { output, partSize: 1, version });
    expect(rows).toBeLessThanOrEqual(9 - finished.length);
    const own = await job([pictures], { partSize: 1, version });
    expect(await contentsOf(output)).toEqual(await contentsOf(own.output));
    // The comparison sees a single byte.
    const last = join(shard, 'part-000008.parquet');
    const bytes = await readFile(last);
    bytes[bytes.length >> 1]! ^= 1;
    await writeFile(last, bytes);
    expect(await contentsOf(output)).not.toEqual(await contentsOf(own.output));
  });

  it('is the only one at its shard', async () => {
    const output = join(folder, 'alone');
    const jobs = await Promise.allSettled([job([pictures], { output }), job([pictures], { output })]);
    // The second waits for the first: it then finds nothing to do.
    for (const each of jobs) expect(each).toMatchObject({ status: 'fulfilled', value: { state: { rows: 9 } } });
    expect(jobs.map((each) => each.status === 'fulfilled' && each.value.rows).sort()).toEqual([0, 9]);
  });
});

describe('inputs of a bulk job', { timeout: 120_000 }, () => {
  it('are pictures of tar files, whole tar files to a shard', async () => {
    const entries = names.map((name, i) => [`${String(i).padStart(3, '0')} é.png`, encoded.get(name)!] as const);
    await writeTar(join(folder, '00.tar'), [...entries.slice(0, 4), ['000 é.txt', Buffer.from('a')]]);
    await writeTar(join(folder, '01.tar'), [['readme.txt', Buffer.from('none')]]);
    await writeTar(join(folder, '02.tar'), [entries[4]!, ['x.jpg', Buffer.from('broken')], ...entries.slice(5)]);
    const pattern = join(folder, '{00..02}.tar');
    const { output } = await job([pattern], { partSize: 3 });
    const rows = await rowsOf(output);
    expect(rows.map(({ name }) => name)).toEqual([
      ...entries.slice(0, 5).map(([name]) => name),
      'x.jpg',
      ...entries.slice(5).map(([name]) => name),
    ]);
    expect(new Set(rows.map(({ source }) => source))).toEqual(
      new Set([join(folder, '00.tar'), join(folder, '02.tar')]),
    );
    expect(rows.filter(({ embedding }) => embedding === null).map(({ name }) => name)).toEqual(['x.jpg']);
    const sharded = join(folder, 'tars');
    for (const index of [0, 1]) await job([pattern], { output: sharded, shard: { index, count: 2 }, partSize: 3 });
    expect(await rowsOf(sharded)).toEqual(rows);
    // A job that is stopped inside a tar file goes on inside it.
    const stopped = join(folder, 'tar-stopped');
    const stop = new AbortController();
    await job([pattern], { output: stopped, partSize: 3, stop: stop.signal, onProgress: () => stop.abort() });
    const { rows: left } = await job([pattern], { output: stopped, partSize: 3 });
    expect(left).toBe(7);
    expect(await contentsOf(stopped)).toEqual(await contentsOf(output));
  });

  it('are rows of Parquet files, pictures or texts', async () => {
    const path = join(folder, 'rows.parquet');
    const bytes = names.map((name) => new Uint8Array(encoded.get(name)!));
    const buffer = parquetWriteBuffer({
      columnData: [
        { name: 'key', data: names.map((_, i) => `k${i}`), type: 'STRING' },
        { name: 'image', data: [...bytes.slice(0, 8), null], type: 'BYTE_ARRAY' },
        { name: 'caption', data: names.map((_, i) => `a red square ${i}`), type: 'STRING' },
      ],
      rowGroupSize: 4,
    });
    await writeFile(path, Buffer.from(buffer));
    const shown = await rowsOf((await job([path], { id: 'key' })).output);
    expect(shown.map(({ name }) => name)).toEqual(names.map((_, i) => `k${i}`));
    expect(shown[8]).toMatchObject({ embedding: null, error: expect.stringContaining('bytes of a picture') });
    const { embeddings } = await model.embedImages(bytes.slice(0, 8));
    expect(Float32Array.from(shown.slice(0, 8).flatMap(({ embedding }) => embedding!))).toEqual(embeddings);
    const output = join(folder, 'captions');
    for (const index of [0, 1, 2]) await job([path], { output, column: 'caption', shard: { index, count: 3 } });
    const said = await rowsOf(output);
    expect(said.map(({ name, text }) => [name, text])).toEqual(names.map((_, i) => [`${i}`, `a red square ${i}`]));
    await expectCode(() => job([path], { column: 'nothing' }), 'MOME_INVALID_FILE');
  });

  it('are lines of text or JSON, written for NumPy too', async () => {
    const plain = join(folder, 'lines.txt');
    await writeFile(plain, 'a red square\n\n日本 é\n');
    const lines = join(folder, 'lines.jsonl');
    await writeFile(
      lines,
      '{"id": "x", "text": "a red square"}\n"a circle"\n{"id": "z", "text": 5}\n{oops\n{"id": 7, "text": "a"}',
    );
    const rows = await rowsOf((await job([plain], { shard: { index: 0, count: 1 } })).output);
    expect(rows.map(({ name, text }) => [name, text])).toEqual([
      ['1', 'a red square'],
      ['2', ''],
      ['3', '日本 é'],
    ]);
    const { folder: shard, state } = await job([lines], { format: 'npy', id: 'id', partSize: 10 });
    expect(state).toMatchObject({ rows: 5, errors: 2, parts: 1 });
    const jsonLines = async (name: string) =>
      (await readFile(join(shard, name), 'utf8'))
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line));
    expect((await jsonLines('part-000000.names.jsonl')).map(({ name }) => name)).toEqual(['x', '2', '7']);
    expect((await jsonLines('part-000000.errors.jsonl')).map(({ name, error }) => [name, error.slice(0, 17)])).toEqual([
      ['z', 'MOME_INVALID_FILE'],
      ['4', 'MOME_INVALID_FILE'],
    ]);
    const array = await readFile(join(shard, 'part-000000.npy'));
    const header = array.toString('latin1', 0, 128);
    const { embeddings, width } = await model.embedTexts(['a red square', 'a circle', 'a']);
    expect(header).toContain(`'descr': '<f4', 'fortran_order': False, 'shape': (3, ${width})`);
    expect(header.slice(0, 10)).toBe('\x93NUMPY\x01\x00\x76\x00');
    expect(header.endsWith('\n')).toBe(true);
    expect(new Float32Array(new Uint8Array(array.subarray(128)).buffer)).toEqual(embeddings);
    await writeFile(lines, '"others"\n');
    await expectCode(
      () => job([lines], { output: join(shard, '..'), format: 'npy', id: 'id', partSize: 10 }),
      'MOME_INVALID_ARGUMENT',
    );
  });

  it('are of one kind that is known', async () => {
    await expectCode(() => openInputs([pictures, join(folder, 'lines.txt')]), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => openInputs([join(folder, 'nothing')]), 'MOME_NOT_FOUND');
    await expectCode(() => openInputs([join(pictures, 'c.png')]), 'MOME_UNSUPPORTED');
    await expectCode(() => openInputs([pictures], { column: 'image' }), 'MOME_INVALID_ARGUMENT');
  });
});
