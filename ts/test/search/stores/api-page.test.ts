/** The databases of docs/api.md: its code opens both, and they find what was added. */
import { join } from 'node:path';
import * as sqliteVec from 'sqlite-vec';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Vlmo } from '../../../src/inference/index.ts';
import { postgresBackend, sqliteBackend, VectorStore } from '../../../src/search/index.ts';
import { blocksOfPage } from '../../docs/blocks.ts';
import { temporaryFolder, testImage, tinyModel } from '../../helpers.ts';
import { Database, postgres } from './places.ts';

let vlmo: Vlmo;
beforeAll(async () => {
  vlmo = await Vlmo.load(await tinyModel());
}, 60_000);
afterAll(() => vlmo.dispose());

it('the code of the page opens stores in PostgreSQL and in SQLite', async () => {
  const code = (await blocksOfPage('docs/api.md')).find(
    ({ language, code }) => language === 'js' && code.includes('sqliteBackend'),
  )!.code;
  const folder = await temporaryFolder();
  const server = await postgres();
  const given = {
    vlmo,
    VectorStore,
    postgresBackend,
    sqliteBackend,
    sqliteVec,
    pg: {
      Pool: class {
        query = server.query.bind(server);
      },
    }, // a pool of no address: the server is in this process
    Database: class extends Database {
      constructor(name: string) {
        super(join(folder, name));
      }
    },
  };
  const AsyncFunction = (async () => {}).constructor as new (
    ...texts: string[]
  ) => (...values: unknown[]) => Promise<{
    readonly store: VectorStore;
    readonly other: VectorStore;
  }>;
  const opened = await new AsyncFunction(...Object.keys(given), `${code}\nreturn { store, other };`)(
    ...Object.values(given),
  );
  for (const store of [opened.store, opened.other]) {
    const items = [1, 2].map((seed) => ({ id: `picture ${seed}`, image: testImage(seed, 32), metadata: { seed } }));
    expect((await store.add(items)).added).toBe(2);
    const found = await store.search({ image: testImage(2, 32) }, { k: 1 });
    expect(found.map(({ id }) => id)).toEqual(['picture 2']);
    await store.close();
  }
}, 60_000);
