/** `mome embed` in every format, from arguments and lists, with pictures that cannot be read among the others. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from 'csv-parse/sync';
import { parquetReadObjects } from 'hyparquet';
import sharp from 'sharp';
import { beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder, testImage, tinyModel } from '../helpers.ts';

let model = '';
let folder = '';
let pictures = '';
beforeAll(async () => {
  model = await tinyModel();
  folder = await temporaryFolder();
  pictures = join(folder, 'pictures');
  await mkdir(pictures);
  for (const [i, name] of ['a, "b".png', 'c\u001b[31m.png', 'd.png'].entries()) {
    const image = testImage(i + 1, 24);
    await sharp(image.data, { raw: image }).png().toFile(join(pictures, name));
  }
  await writeFile(join(pictures, 'broken.png'), 'nothing');
});

function mome(args: readonly string[], input?: string | Buffer) {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(process.cwd(), 'dist/cli.mjs'), 'embed', '-m', model, ...args],
    { ...(input !== undefined && { input }), maxBuffer: 2 ** 26 },
  );
  return { status, bytes: stdout, stdout: stdout.toString(), stderr: stderr.toString() };
}
const inputs = () => ['d.png', 'broken.png', 'a, "b".png', 'c\u001b[31m.png'].map((name) => join(pictures, name));
/** The rows of an array in NumPy's format. */
function rowsOfArray(bytes: Buffer): number[][] {
  const begin = 10 + bytes.readUInt16LE(8);
  const [, rows, width] = /'shape': \((\d+), (\d+)\)/.exec(bytes.subarray(10, begin).toString())!.map(Number);
  return Array.from({ length: rows! }, (_, i) =>
    Array.from({ length: width! }, (_, k) => bytes.readFloatLE(begin + 4 * (i * width! + k))),
  );
}
async function parquetOf(bytes: Buffer) {
  const file = Uint8Array.from(bytes).buffer;
  return parquetReadObjects({ file }) as Promise<{ name: string; embedding: number[] | null; error: string | null }[]>;
}

describe('formats', () => {
  it('all say the same, with the names of the rows', async () => {
    const args = ['-t', 'red', '-i', ...inputs()];
    const names = ['red', ...inputs()];
    const json = mome([...args, '--json']);
    expect([json.status, json.stderr]).toEqual([3, '']);
    const { width, rows } = JSON.parse(json.stdout) as {
      width: number;
      rows: { input: string; embedding?: number[]; error?: { code: string } }[];
    };
    expect(rows.map(({ input }) => input)).toEqual(names);
    expect(rows.map(({ error }) => error?.code)).toEqual([
      undefined,
      undefined,
      'MOME_INVALID_IMAGE',
      undefined,
      undefined,
    ]);
    const vectors = rows.flatMap(({ embedding }) => (embedding ? [embedding] : []));
    expect(vectors.map(({ length }) => length)).toEqual([width, width, width, width]);

    const jsonl = mome([...args, '--format', 'jsonl']);
    expect(jsonl.stderr).toBe(
      `mome: ${inputs()[1]}: expected a JPEG, PNG, WebP, GIF, SVG, AVIF or TIFF picture, got text (MOME_INVALID_IMAGE)\n` +
        'mome: 1 of 5 inputs could not be embedded\n',
    );
    const lines = jsonl.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines.map(({ input }) => input)).toEqual(names);
    expect(lines[2].error).toMatch(/^MOME_INVALID_IMAGE: /);
    const same = (list: readonly (readonly number[])[]) =>
      expect(list.map((row) => row.map(Math.fround))).toEqual(vectors);
    same(lines.flatMap(({ embedding }) => (embedding ? [embedding] : [])));

    const [head, ...table] = parse(mome([...args, '--format', 'csv']).bytes) as string[][];
    expect(head).toEqual(['input', 'error', ...vectors[0]!.map((_, i) => String(i))]);
    expect(table.map(([input]) => input)).toEqual(names);
    expect(table[2]!.slice(2).every((cell) => cell === '')).toBe(true);
    same(table.filter(([, error]) => error === '').map((row) => row.slice(2).map(Number)));

    same(rowsOfArray(mome([...args, '--format', 'npy']).bytes));
    const file = join(folder, 'rows.npy');
    expect(mome([...args, '-o', file]).status).toBe(3);
    same(rowsOfArray(readFileSync(file)));
    const named = (path: string) =>
      readFileSync(path, 'utf8')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line).name);
    expect(named(join(folder, 'rows.names.jsonl'))).toEqual(names.filter((_, i) => i !== 2));
    expect(named(join(folder, 'rows.errors.jsonl'))).toEqual([names[2]]);

    const parquet = join(folder, 'rows.parquet');
    expect(mome([...args, '-o', parquet, '--quiet'])).toMatchObject({ status: 3, stdout: '', stderr: '' });
    for (const bytes of [readFileSync(parquet), mome([...args, '--format', 'parquet']).bytes]) {
      const read = await parquetOf(bytes);
      expect(read.map(({ name }) => name)).toEqual(names);
      expect(read[2]!.embedding ?? null).toBe(null);
      same(read.flatMap(({ embedding }) => (embedding ? [[...embedding]] : [])));
    }
    const plain = mome(args).stdout.trim().split('\n');
    expect(plain.map((line) => line.split('\t').length)).toEqual([width, width, width, width]);
  });

  it('are those of the parts of --input too', async () => {
    const embeddings = async (format: string) => {
      const out = join(folder, `job-${format}`);
      expect(mome(['--input', pictures, '-o', out, '--format', format, '--quiet']).status).toBe(0);
      const shard = join(out, 'shard-00000-of-00001');
      return readFileSync(join(shard, readdirSync(shard).find((name) => /^part-000000\.(?!names|errors)/.test(name))!));
    };
    const parquet = await parquetOf(await embeddings('parquet'));
    const expected = parquet.map(({ name, embedding }) => [name, embedding ? [...embedding] : undefined]);
    expect(expected).toHaveLength(4);
    const rowOf = ({ name, embedding }: { name: string; embedding?: number[] }) => [name, embedding?.map(Math.fround)];
    const lines = (await embeddings('jsonl')).toString().trim().split('\n');
    expect(lines.map((line) => rowOf(JSON.parse(line)))).toEqual(expected);
    expect(JSON.parse((await embeddings('json')).toString()).map(rowOf)).toEqual(expected);
    const [head, ...table] = parse(await embeddings('csv')) as string[][];
    expect(head!.slice(0, 4)).toEqual(['source', 'name', 'error', '0']);
    expect(
      table.map(([, name, error, ...row]) =>
        rowOf({ name: name!, ...(error === '' && { embedding: row.map(Number) }) }),
      ),
    ).toEqual(expected);
  });

  it('come from the ending of a file, and are refused where they do not fit', () => {
    const image = inputs()[0]!;
    const file = join(folder, 'rows.JSONL');
    expect(mome(['-i', image, '-o', file]).status).toBe(0);
    expect(JSON.parse(readFileSync(file, 'utf8')).input).toBe(image);
    for (const wrong of [
      ['-o', join(folder, 'rows.txt')],
      ['--json', '--format', 'csv'],
      ['--format', 'xml'],
      ['--shard', '0/1'],
    ])
      expect(mome(['-i', image, ...wrong]).status).toBe(2);
    // What has no place is refused before a model is loaded.
    const late = ['-i', image, '-m', join(folder, 'no model'), '-o'];
    const nowhere = mome([...late, join(folder, 'none', 'rows.csv')]);
    expect([nowhere.status, nowhere.stderr]).toEqual([1, expect.stringContaining('its folder is not there')]);
    const taken = mome([...late, pictures, '--format', 'csv']);
    expect([taken.status, taken.stderr]).toEqual([1, expect.stringContaining('got a folder')]);
  });
});

describe('pictures', () => {
  it('come from a list, one a line or with zero bytes between', async () => {
    const [first, , second] = inputs();
    const expected = mome(['-i', first!, second!]).stdout;
    expect(expected.trim().split('\n')).toHaveLength(2);
    expect(mome(['--images-from', '-'], `${first}\r\n\n${second}\n`).stdout).toBe(expected);
    expect(mome(['--images-from', '-'], `${first}\0${second}\0`).stdout).toBe(expected);
    await writeFile(join(folder, 'list.txt'), `${second}\n`);
    expect(mome(['-i', first!, '--images-from', join(folder, 'list.txt')]).stdout).toBe(expected);
    expect(mome(['--images-from', '-'], '\n').status).toBe(2);
    for (const end of ['\0', '\n']) {
      const other = mome(
        ['--images-from', '-'],
        Buffer.from(`${first}${end}b\xe4d.png${end}${second}${end}`, 'latin1'),
      );
      expect([other.status, other.stderr]).toEqual([2, expect.stringContaining('entry 2: b\ufffdd.png')]);
    }
    expect(mome(['--images-from', join(folder, 'none.txt')]).status).toBe(1);
    expect(mome(['--images-from', '-', '--input', pictures, '-o', folder], first).status).toBe(2);
  });

  it('that cannot be read are named, each by its own name, among hundreds that can', async () => {
    const many = Array.from({ length: 600 }, (_, i) => join(pictures, i % 2 ? 'd.png' : 'a, "b".png'));
    const broken = [7, 255, 256, 599].map((i) => join(folder, `broken ${i}.png`));
    for (const path of broken) await copyFile(join(pictures, 'broken.png'), path);
    for (const [k, i] of [7, 255, 256, 599].entries()) many[i] = broken[k]!;
    const { status, stdout, stderr } = mome(['--images-from', '-', '--format', 'jsonl'], many.join('\n'));
    expect(status).toBe(3);
    const rows = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { input: string; error?: string });
    expect(rows.map(({ input }) => input)).toEqual(many);
    expect(rows.filter(({ error }) => error !== undefined).map(({ input }) => input)).toEqual(broken);
    const notes = stderr.trim().split('\n');
    expect(notes.slice(0, -1).map((line) => line.slice('mome: '.length).split(': ')[0])).toEqual(broken);
    expect(notes.at(-1)).toBe('mome: 4 of 600 inputs could not be embedded');
  }, 120_000);

  it('of which none can be read end the command as a failure', () => {
    const broken = inputs()[1]!;
    const { status, stdout, stderr } = mome(['-i', broken, broken]);
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toContain('and so 1 more; nothing is left to embed (MOME_INVALID_IMAGE)');
    expect(JSON.parse(mome(['-i', broken, '--json']).stderr).error.code).toBe('MOME_INVALID_IMAGE');
  });
});
