/** Items with ids of the caller, pictures as bytes and metadata, in a store that is in memory, or in a file of its own. */
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Vlmo } from '../../../src/inference/index.ts';
import { exactBackend, VectorStore } from '../../../src/search/index.ts';
import { temporaryFolder, testImage, tinyModel } from '../../helpers.ts';

let vlmo: Vlmo;
const bytes = new Map<string, Buffer>();
beforeAll(async () => {
  vlmo = await Vlmo.load(await tinyModel());
  for (const seed of [1, 2, 3, 4]) {
    const image = testImage(seed, 30);
    bytes.set(`sku-${seed}`, await sharp(image.data, { raw: image }).png().toBuffer());
  }
}, 120_000);
afterAll(() => vlmo.dispose());

const items = () => [...bytes].map(([id, image], i) => ({ id, image, metadata: { price: 10 * (i + 1) } }));
const pictureOf = ({ id }: { readonly id: string }) => bytes.get(id)!;

it.each([
  ['memory', async () => undefined],
  ['a file', async () => join(await temporaryFolder(), 'products.vectors')],
])(
  'are added, found by a filter, read by the fusion encoder and removed, in %s',
  async (_, place) => {
    const file = await place();
    const open = () => (file === undefined ? VectorStore.open(vlmo) : VectorStore.open(vlmo, exactBackend({ file })));
    let store = await open();
    expect(await store.add(items())).toEqual({ added: 4, present: 0, failed: 0 });
    if (file !== undefined) {
      await store.close();
      store = await open();
    }
    const cheap = await store.search('a red square', { filter: { price: { lte: 20 } }, pictureOf });
    expect(cheap.map(({ id }) => id).sort()).toEqual(['sku-1', 'sku-2']);
    expect(cheap.every(({ match }) => typeof match === 'number')).toBe(true);
    const [like] = await store.search({ image: bytes.get('sku-3')! }, { k: 1 });
    expect(like).toMatchObject({ id: 'sku-3', metadata: { price: 30 } });
    expect(await store.delete(['sku-3', 'sku-9'])).toBe(1);
    const [next] = await store.search({ image: bytes.get('sku-3')! }, { k: 1 });
    expect(next!.id).not.toBe('sku-3');
    expect(await store.count()).toBe(3);
    await store.close();
  },
  120_000,
);
