/** Where an index is written and what happens to it when the world changes around it. */
import { spawnSync } from 'node:child_process';
import {
  copyFile,
  cp,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { writeSafetensors } from '../../src/checkpoint/index.ts';
import { Vlmo } from '../../src/inference/index.ts';
import type { ErrorCode } from '../../src/runtime/errors.ts';
import { listImages, SearchIndex, type SearchModel } from '../../src/search/index.ts';
import { expectCode, temporaryFolder, testImage, tinyModel } from '../helpers.ts';
import { expectShortTurns } from '../loop-gap.ts';

let model: Vlmo;
beforeAll(async () => {
  model = await Vlmo.load(await tinyModel());
});
afterAll(() => model.dispose());
afterEach(() => vi.restoreAllMocks());

/** A folder `pictures` with `count` pictures in it, inside a new one. */
async function pictureFolder(count: number): Promise<string> {
  const folder = join(await temporaryFolder(), 'pictures');
  await mkdir(folder);
  for (let i = 0; i < count; i++) await writePicture(join(folder, `${i}.png`), i);
  return folder;
}

async function writePicture(path: string, seed: number): Promise<void> {
  const image = testImage(seed, 16);
  await sharp(image.data, { raw: image }).png({ compressionLevel: 0 }).toFile(path);
}

/** The model as an index calls it: with lists. */
const lists = (): Pick<SearchModel, 'embedImages'> => model;

/** Builds, and says how many pictures were embedded for it. */
async function buildCounting(files: readonly string[], options: Parameters<typeof SearchIndex.build>[2] = {}) {
  const embed = vi.spyOn(lists(), 'embedImages');
  const index = await SearchIndex.build(model, files, options);
  const embedded = embed.mock.calls.reduce((sum, [images]) => sum + images.length, 0);
  embed.mockRestore();
  return { index, embedded };
}

const names = async (folder: string) => (await readdir(folder)).sort();

describe('SearchIndex.save', () => {
  it('replaces indexes alone, and leaves every other file as it is', async () => {
    const folder = await temporaryFolder();
    const index = await SearchIndex.build(model, []);
    const others: Record<string, Uint8Array | string> = {
      'text.txt': 'the only copy',
      'short.bin': 'abc',
      'empty.bin': '',
      'huge-header.bin': Buffer.concat([Buffer.from([0, 0, 0, 0, 1, 0, 0, 0]), Buffer.alloc(64)]),
      'array.bin': Buffer.concat([Buffer.from([2, 0, 0, 0, 0, 0, 0, 0]), Buffer.from('[]')]),
    };
    for (const [name, bytes] of Object.entries(others)) {
      const path = join(folder, name);
      await writeFile(path, bytes);
      await expectCode(() => index.save(path), 'MOME_INVALID_FILE');
      expect(await readFile(path)).toEqual(Buffer.from(bytes));
    }
    const weights = join(folder, 'weights.safetensors');
    const tensor = { name: 'x', dtype: 'F32' as const, shape: [1], data: Float32Array.of(1) };
    await writeSafetensors(weights, [tensor], { version: '2', fingerprint: 'x' });
    const before = await readFile(weights);
    await expectCode(() => index.save(weights), 'MOME_INVALID_FILE');
    expect(await readFile(weights)).toEqual(before);
    const path = join(folder, 'index');
    const pictures = await pictureFolder(1);
    await (await SearchIndex.build(model, await listImages(pictures))).save(path);
    await truncate(path, (await stat(path)).size - 1);
    await expectCode(() => SearchIndex.open(model, path), 'MOME_INVALID_FILE');
    await index.save(path);
    expect((await SearchIndex.open(model, path)).items).toEqual([]);
    expect(await names(folder)).toEqual([...Object.keys(others), 'index', 'weights.safetensors'].sort());
  });

  it('looks at a file in its way shortly, whatever the header holds', async () => {
    const path = join(await temporaryFolder(), 'deep.index');
    const json = `{"a":${'['.repeat(2 ** 19 - 100)}${']'.repeat(2 ** 19 - 100)},"__metadata__":{"format":"mome-index"}}`;
    const length = Buffer.alloc(8);
    length.writeUInt32LE(json.length);
    await writeFile(path, Buffer.concat([length, Buffer.from(json)]));
    const index = await SearchIndex.build(model, []);
    await expectShortTurns(() => expectCode(() => index.save(path), 'MOME_INVALID_FILE'));
  });

  it('refuses folders, pipes and names that cannot be', async () => {
    const folder = await temporaryFolder();
    const index = await SearchIndex.build(model, []);
    const pipe = join(folder, 'pipe');
    expect(spawnSync('mkfifo', [pipe]).status).toBe(0);
    const refused: readonly (readonly [string, ErrorCode])[] = [
      [folder, 'MOME_INVALID_ARGUMENT'],
      [join(folder, 'new/'), 'MOME_INVALID_ARGUMENT'],
      [pipe, 'MOME_INVALID_ARGUMENT'],
      ['/dev/null', 'MOME_INVALID_ARGUMENT'],
      ['', 'MOME_INVALID_ARGUMENT'],
      ['a\0b', 'MOME_INVALID_ARGUMENT'],
      [join(folder, 'missing', 'index'), 'MOME_IO'],
      ['/proc/mome-index', 'MOME_IO'],
    ];
    for (const [path, code] of refused) await expectCode(() => index.save(path), code);
    for (const path of [folder, pipe, '/dev/null', '/proc/self/mem'])
      await expectCode(() => SearchIndex.open(model, path), 'MOME_INVALID_FILE');
    expect(await names(folder)).toEqual(['pipe']);
  });

  it('follows links, which stay', async () => {
    const folder = await temporaryFolder();
    const index = await SearchIndex.build(model, []);
    await mkdir(join(folder, 'far'));
    await symlink('far/index', join(folder, 'second'));
    await symlink('second', join(folder, 'link'));
    await index.save(join(folder, 'link'));
    expect(await names(join(folder, 'far'))).toEqual(['index']);
    await SearchIndex.build(model, []).then((other) => other.save(join(folder, 'link')));
    expect(await names(folder)).toEqual(['far', 'link', 'second']);
    expect((await SearchIndex.open(model, join(folder, 'link'))).items).toEqual([]);
    await writeFile(join(folder, 'notes'), 'mine');
    await symlink('notes', join(folder, 'to-notes'));
    await expectCode(() => index.save(join(folder, 'to-notes')), 'MOME_INVALID_FILE');
    expect(await readFile(join(folder, 'notes'), 'utf8')).toBe('mine');
    await symlink('round', join(folder, 'round'));
    await expectCode(() => index.save(join(folder, 'round')), 'MOME_IO');
  });

  it('never leaves half an index, however many write', async () => {
    const pictures = await pictureFolder(3);
    const files = await listImages(pictures);
    const path = join(pictures, '..', 'index');
    const indexes = await Promise.all([1, 2, 3].map((count) => SearchIndex.build(model, files.slice(0, count))));
    await indexes[0]!.save(path);
    const writes = Array.from({ length: 24 }, (_, i) => indexes[i % 3]!.save(path));
    for (let i = 0; i < 12; i++) {
      const { items, embeddings } = await SearchIndex.open(model, path);
      expect(embeddings).toEqual(indexes[items.length - 1]!.embeddings);
    }
    await Promise.all(writes);
    expect(await names(join(pictures, '..'))).toEqual(['index', 'pictures']);
  });

  it('removes what killed runs left, and nothing of anybody else', async () => {
    const folder = await temporaryFolder();
    const path = join(folder, 'index');
    const index = await SearchIndex.build(model, [], { file: path });
    await index.save(path);
    const { pid } = spawnSync(process.execPath, ['-e', '']);
    // The name of a temporary file of this machine, learned from one that is there for a moment.
    const pictures = await pictureFolder(1);
    await SearchIndex.build(model, [join(pictures, '0.png')], { file: path });
    const [journal] = (await names(folder)).filter((name) => name.endsWith('.journal'));
    const dead = journal!.replace(`-${process.pid}-`, `-${pid}-`).replace(/-\d+\.journal$/, '-7');
    const alive = `index.${journal!.split('.')[1]!.split('-')[0]}-${process.ppid}-00000000-0`;
    await writeFile(join(folder, `${dead}.journal`), 'half');
    const kept = [`${alive}.journal`, 'index.tmp', 'index.bak', 'other.00000000-1-00000000-0.tmp', 'index.journal'];
    for (const name of kept) await writeFile(join(folder, name), 'of others');
    await index.save(path);
    expect(await names(folder)).toEqual([...kept, 'index'].sort());
  });
});

describe('an index that was kept', () => {
  it('is not written again when nothing has changed', async () => {
    const pictures = await pictureFolder(3);
    const path = join(pictures, '.index');
    await (await SearchIndex.build(model, await listImages(pictures), { root: pictures })).save(path);
    const before = await stat(path);
    const previous = await SearchIndex.open(model, path, { root: pictures });
    const { index, embedded } = await buildCounting(await listImages(pictures), {
      previous,
      root: pictures,
      file: path,
    });
    await index.save(path);
    const after = await stat(path);
    expect([after.ino, after.mtimeMs, after.ctimeMs]).toEqual([before.ino, before.mtimeMs, before.ctimeMs]);
    expect([embedded, await names(pictures)]).toEqual([0, ['.index', '0.png', '1.png', '2.png']]);
    await rm(path);
    await index.save(path);
    expect((await SearchIndex.open(model, path)).items).toEqual(index.items);
  });

  it('knows pictures again that were moved, copied, renamed or touched, and embeds those that changed', async () => {
    const pictures = await pictureFolder(5);
    const whole = new Date(1e12); // can be set again to the last digit
    await utimes(join(pictures, '3.png'), whole, whole);
    const first = await SearchIndex.build(model, await listImages(pictures), { root: pictures });
    await first.save(join(pictures, '.index'));
    const moved = join(pictures, '..', 'moved');
    await rename(pictures, moved);
    const copied = join(moved, '..', 'copied');
    await cp(moved, copied, { recursive: true });
    for (const folder of [moved, copied]) {
      const previous = await SearchIndex.open(model, join(folder, '.index'));
      expect(previous.items.map(({ path }) => path)).toEqual(await listImages(folder));
      const [best] = await previous.search('a red square', { k: 1 });
      expect(best!.match).not.toBeNull();
      const { index, embedded } = await buildCounting(await listImages(folder), { previous });
      expect([embedded, index.embeddings]).toEqual([0, first.embeddings]);
    }
    const previous = await SearchIndex.open(model, join(moved, '.index'));
    await rename(join(moved, '0.png'), join(moved, 'renamed.png'));
    await utimes(join(moved, '1.png'), new Date(), new Date(1e12));
    await rm(join(moved, '2.png'));
    // As large as before and with the same time: only the time of any change tells.
    const times = await stat(join(moved, '3.png'));
    await writePicture(join(moved, '3.png'), 99);
    await utimes(join(moved, '3.png'), whole, whole);
    const { size, mtimeMs } = await stat(join(moved, '3.png'));
    expect([size, mtimeMs]).toEqual([times.size, times.mtimeMs]);
    await copyFile(join(moved, '3.png'), join(moved, 'twin.png'));
    const { index, embedded } = await buildCounting(await listImages(moved), { previous, root: moved });
    expect(embedded).toBe(1);
    expect(index.items.map(({ path }) => path)).toEqual(await listImages(moved));
    expect(index.embeddings).toEqual((await SearchIndex.build(model, await listImages(moved))).embeddings);
    await index.save(join(moved, '.index'));
    expect((await SearchIndex.open(model, join(moved, '.index'))).embeddings).toEqual(index.embeddings);
  });

  it('finds its pictures from where its file was moved alone', async () => {
    const pictures = await pictureFolder(2);
    const index = await SearchIndex.build(model, await listImages(pictures));
    await index.save(join(pictures, 'index'));
    const elsewhere = join(await temporaryFolder(), 'index');
    await rename(join(pictures, 'index'), elsewhere);
    expect((await SearchIndex.open(model, elsewhere)).items).toEqual(index.items);
    expect((await SearchIndex.open(model, elsewhere, { root: '/else' })).items[1]!.path).toBe('/else/1.png');
  });

  it('is read when an earlier version wrote it', async () => {
    const pictures = await pictureFolder(3);
    const files = await listImages(pictures);
    const index = await SearchIndex.build(model, files);
    const path = join(pictures, 'old');
    const lines = index.items
      .map(({ path, size, modified }) => `${JSON.stringify({ path, size, modified })}\n`)
      .join('');
    const data = index.embeddings;
    const { width } = model.config;
    await writeSafetensors(
      path,
      [
        { name: 'items', dtype: 'U8', shape: [lines.length], data: Buffer.from(lines) },
        { name: 'embeddings.0', dtype: 'F32', shape: [3, width], data },
      ],
      { version: '2', fingerprint: model.fingerprint },
    );
    const previous = await SearchIndex.open(model, path);
    const { index: newer, embedded } = await buildCounting(files, { previous });
    expect(embedded).toBe(0);
    await newer.save(path);
    expect((await SearchIndex.open(model, path)).items).toEqual(index.items);
  });
});

describe('a build that is stopped', () => {
  it('goes on where it ended, with the same result', async () => {
    const pictures = await pictureFolder(140);
    const files = await listImages(pictures);
    const whole = await SearchIndex.build(model, files, { root: pictures });
    const path = join(pictures, '.index');
    const controller = new AbortController();
    const onProgress = (done: number) => done >= 128 && controller.abort(new Error('Ctrl-C'));
    const options = { root: pictures, file: path };
    await expectCode(
      () => SearchIndex.build(model, files, { ...options, signal: controller.signal, onProgress }),
      'MOME_ABORTED',
    );
    const [journal] = (await names(pictures)).filter((name) => name.endsWith('.journal'));
    // The last record was cut off, as by a kill in the middle of a write.
    await truncate(join(pictures, journal!), (await stat(join(pictures, journal!))).size - 7);
    const { index, embedded } = await buildCounting(files, options);
    expect(embedded).toBe(140 - 127);
    expect(index.embeddings).toEqual(whole.embeddings);
    await index.save(path);
    expect((await names(pictures)).filter((name) => name.startsWith('.'))).toEqual(['.index']);
    const previous = await SearchIndex.open(model, path);
    expect((await buildCounting(files, { ...options, previous })).embedded).toBe(0);
  });

  it('takes nothing from a journal of another model or with other bytes in it', async () => {
    const pictures = await pictureFolder(2);
    const files = await listImages(pictures);
    const path = join(pictures, '.index');
    const expected = (await SearchIndex.build(model, files, { file: path })).embeddings;
    const [journal] = (await names(pictures)).filter((name) => name.endsWith('.journal'));
    const bytes = await readFile(join(pictures, journal!));
    expect((await buildCounting(files, { file: path })).embedded).toBe(0);
    for (const name of await names(pictures)) if (name.endsWith('.journal')) await rm(join(pictures, name));
    for (const at of [0, 5, 60, bytes.length - 300, bytes.length - 100, bytes.length - 1]) {
      const damaged = Buffer.from(bytes);
      damaged[at]! ^= 0x40;
      await writeFile(join(pictures, journal!), damaged);
      expect((await SearchIndex.build(model, files, { file: path })).embeddings).toEqual(expected);
    }
    await writeFile(join(pictures, journal!), bytes);
    const other = await Vlmo.load(await tinyModel(), { dtype: 'bfloat16' });
    const index = await SearchIndex.build(other, files, { file: path });
    expect(index.embeddings).toEqual((await SearchIndex.build(other, files)).embeddings);
    expect(index.embeddings).not.toEqual(expected);
    await other.dispose();
  });

  it('passes over a pipe or a folder with the name of a journal', async () => {
    const pictures = await pictureFolder(1);
    const path = join(pictures, '.index');
    spawnSync('mkfifo', [`${path}.01234567-1-01234567-0.journal`]);
    await mkdir(`${path}.01234567-1-01234567-1.journal`);
    const { index } = await buildCounting(await listImages(pictures), { file: path });
    expect(index.items.length).toBe(1);
  });
});

describe('embeddings that are not finite', () => {
  it('are refused, naming the picture', async () => {
    const files = await listImages(await pictureFolder(3));
    const real = lists().embedImages.bind(model);
    vi.spyOn(lists(), 'embedImages').mockImplementation(async (images, options) => {
      const result = await real(images, options);
      const at = images.indexOf(files[1]!);
      if (at >= 0) result.embeddings[at * result.width + 3] = Number.NaN;
      return result;
    });
    expect((await expectCode(() => SearchIndex.build(model, files), 'MOME_NON_FINITE')).message).toContain(files[1]);
    const failed: string[] = [];
    const index = await SearchIndex.build(model, files, { onError: (path) => failed.push(path) });
    expect([failed, index.items.length]).toEqual([[files[1]], 2]);
    await expectCode(() => index.search({ image: files[1]! }), 'MOME_NON_FINITE');
  });
});
