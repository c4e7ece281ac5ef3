/** An ingest that is killed, and gone on with by the next process. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Vlmo } from '../../../src/inference/index.ts';
import { exactBackend, sqliteBackend, VectorStore } from '../../../src/search/index.ts';
import { expectCode, temporaryFolder, testImage, tinyModel } from '../../helpers.ts';
import { sqlite } from './places.ts';

let model: Vlmo;
let modelPath = '';
let folder = '';
let picture = '';
beforeAll(async () => {
  modelPath = await tinyModel();
  model = await Vlmo.load(modelPath);
  folder = await temporaryFolder();
  picture = join(folder, 'picture.png');
  const image = testImage(1, 32);
  await sharp(image.data, { raw: image }).png().toFile(picture);
});
afterAll(() => model.dispose());

const count = 300;
const items = (image = picture) => Array.from({ length: count }, (_, i) => ({ id: `item ${i}`, image }));

/** Lets a process of its own add the items, and kills it once it has written a batch. */
async function killedIngest(backend: string): Promise<void> {
  const program = `
    import { createRequire } from 'node:module';
    import { exactBackend, sqliteBackend, VectorStore, Vlmo } from ${JSON.stringify(pathToFileURL(join(process.cwd(), 'dist/index.mjs')).href)};
    const require = createRequire(${JSON.stringify(join(process.cwd(), 'package.json'))});
    const model = await Vlmo.load(${JSON.stringify(modelPath)});
    const store = await VectorStore.open(model, ${backend});
    const items = Array.from({ length: ${count} }, (_, i) => ({ id: 'item ' + i, image: ${JSON.stringify(picture)} }));
    await store.add(items, { onProgress: () => { process.stdout.write('batch'); return new Promise(() => setInterval(() => {}, 1000)); } });
  `;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout!, 'data');
  child.kill('SIGKILL');
  await once(child, 'exit');
}

describe('an ingest', () => {
  it('goes on where a killed process ended, in a file and in SQLite', async () => {
    const file = join(folder, 'rows.vectors');
    const database = join(folder, 'rows.sqlite');
    await Promise.all([
      killedIngest(`exactBackend({ file: ${JSON.stringify(file)} })`),
      killedIngest(
        `sqliteBackend((() => { const database = new (require('libsql'))(${JSON.stringify(database)}); require('sqlite-vec').load(database); return database; })(), { table: 'rows' })`,
      ),
    ]);
    for (const backend of [exactBackend({ file }), sqliteBackend(sqlite(database), { table: 'rows' })]) {
      const store = await VectorStore.open(model, backend);
      expect(await store.count()).toBe(64);
      const result = await store.add(items());
      expect(result).toEqual({ added: count - 64, present: 64, failed: 0 });
      expect(await store.count()).toBe(count);
      await store.close();
    }
  }, 60_000);

  it('takes nothing from a record that was cut off or damaged', async () => {
    const file = join(folder, 'cut.vectors');
    const { embeddings } = await model.embedTexts(['a', 'b', 'c']);
    const { width } = model.config;
    const store = await VectorStore.open(model, exactBackend({ file }));
    for (let i = 0; i < 3; i++)
      await store.upsert([{ id: `row ${i}`, vector: embeddings.slice(i * width, (i + 1) * width) }]);
    await store.close();
    const whole = await readFile(file);
    const counts: number[] = [];
    for (const length of [whole.length, whole.length - 1, whole.length - 40, whole.length - 4 * width - 60]) {
      await writeFile(file, whole.subarray(0, length));
      const again = await VectorStore.open(model, exactBackend({ file }));
      counts.push(await again.count());
      await again.upsert([{ id: 'new', vector: embeddings.slice(0, width) }]);
      await again.close();
      const later = await VectorStore.open(model, exactBackend({ file }));
      expect(await later.count()).toBe(counts.at(-1)! + 1);
      await later.close();
    }
    expect(counts).toEqual([3, 2, 2, 1]);
    const damaged = Buffer.from(whole);
    damaged[whole.length - 20]! ^= 1;
    await writeFile(file, damaged);
    const again = await VectorStore.open(model, exactBackend({ file }));
    expect(await again.count()).toBe(2);
    await again.close();
  });

  it('names the picture that cannot be read, or leaves it out, and ends when told to', async () => {
    const store = await VectorStore.open(model, exactBackend());
    const some = [...items().slice(0, 3), { id: 'gone', image: join(folder, 'gone.png') }];
    const error = await expectCode(() => store.add(some), 'MOME_NOT_FOUND');
    expect(error).toMatchObject({ kind: 'picture', index: 3 });
    const failed: string[] = [];
    expect(await store.add(some, { onError: (id) => failed.push(id) })).toMatchObject({ failed: 1 });
    expect([failed, await store.count()]).toEqual([['gone'], 3]);
    const stop = new AbortController();
    const endless = (function* () {
      for (let i = 0; ; i++) yield { id: `more ${i}`, image: picture };
    })();
    await expectCode(() => store.add(endless, { signal: stop.signal, onProgress: () => stop.abort() }), 'MOME_ABORTED');
    expect(await store.count()).toBe(3 + 64);
  }, 30_000);
});
