/** A search through the queue of a server, and its end in every phase. */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type RunReport, Vlmo } from '../../src/inference/index.ts';
import { listImages, SearchIndex, type SearchModel } from '../../src/search/index.ts';
import { expectCode, temporaryFolder, testImage, tinyModel } from '../helpers.ts';

let model: Vlmo;
let index: SearchIndex;
let pictures = '';
beforeAll(async () => {
  model = await Vlmo.load(await tinyModel());
  pictures = join(await temporaryFolder(), 'pictures');
  await mkdir(pictures);
  for (let i = 0; i < 6; i++) {
    const image = testImage(i, 32);
    await sharp(image.data, { raw: image })
      .png()
      .toFile(join(pictures, `${i}.png`));
  }
  index = await SearchIndex.build(model, await listImages(pictures));
});
afterAll(() => model.dispose());

const query = 'a red square';

/** The model's own methods, with something done before a call of one of them. */
function doingFirst(name: 'embedTexts' | 'embedImages' | 'rerank', action: () => void): SearchModel {
  const call = <T extends (...args: never[]) => unknown>(own: string, method: T): T =>
    ((...args: Parameters<T>) => {
      if (own === name) action();
      return method.apply(model, args);
    }) as T;
  return {
    fingerprint: model.fingerprint,
    embedTexts: call('embedTexts', model.embedTexts),
    embedImages: call('embedImages', model.embedImages),
    rerank: call('rerank', model.rerank),
  };
}

describe('a search through a queue', () => {
  it('gives what the model gives, in runs of the queue', async () => {
    const runs: RunReport[] = [];
    const batcher = model.batcher({ onRun: (run) => runs.push(run) });
    const direct = await index.search(query, { k: 6, rerank: 4 });
    expect(await index.search(query, { k: 6, rerank: 4, through: batcher })).toEqual(direct);
    expect(runs.length).toBeGreaterThanOrEqual(2); // the text, then its pairs
    const request = batcher.request({ client: 'a', priority: 'bulk', timeout: 60_000 });
    expect(await index.search(query, { k: 6, rerank: 4, through: request })).toEqual(direct);
    const image = { image: join(pictures, '2.png') };
    expect(await index.search(image, { k: 3, through: request })).toEqual(await index.search(image, { k: 3 }));
    expect(await index.search(query, { k: 6, rerank: 0, through: request })).not.toEqual(direct);
  });

  it('is refused where the queue is full, and where the time of the whole request is over', async () => {
    const full = model.batcher({ maxItems: 2 });
    // More candidates than the queue has room for go in parts.
    expect(await index.search(query, { rerank: 4, through: full })).toEqual(await index.search(query, { rerank: 4 }));
    const others = full.embedTexts(['a', 'b']);
    await expectCode(() => index.search(query, { rerank: 4, through: full }), 'MOME_OVERLOADED');
    await others;
    const request = model.batcher().request({ timeout: 5 });
    await new Promise((resolve) => setTimeout(resolve, 10));
    await expectCode(() => index.search(query, { through: request }), 'MOME_DEADLINE');
    await expectCode(() => model.batcher().request({ timeout: -1 }), 'MOME_INVALID_ARGUMENT');
    const closed = model.batcher();
    await closed.close();
    await expectCode(() => index.search(query, { through: closed }), 'MOME_DISPOSED');
  });

  it('refuses a queue of another model, and what is no queue', async () => {
    const other = { ...doingFirst('rerank', () => {}), fingerprint: 'another' };
    await expectCode(() => index.search(query, { through: other }), 'MOME_UNSUPPORTED');
    for (const wrong of [null, {}, 'model', { embedTexts: () => {} }])
      await expectCode(() => index.search(query, { through: wrong as never }), 'MOME_INVALID_ARGUMENT');
  });

  it('ends in every phase when its signal fires', async () => {
    for (const phase of ['embedTexts', 'rerank'] as const) {
      const stop = new AbortController();
      const through = doingFirst(phase, () => stop.abort(new Error(phase)));
      const error = await expectCode(() => index.search(query, { through, signal: stop.signal }), 'MOME_ABORTED');
      expect((error.cause as Error).message).toBe(phase);
    }
    // While a picture that cannot be read is reported, and between the phases.
    const stop = new AbortController();
    const gone = join(pictures, 'gone.png');
    await sharp(testImage(7, 32).data, { raw: testImage(7, 32) })
      .png()
      .toFile(gone);
    const more = await SearchIndex.build(model, await listImages(pictures));
    await rm(gone);
    await expectCode(() => more.search(query, { signal: stop.signal, onError: () => stop.abort() }), 'MOME_ABORTED');
    const late = new AbortController();
    const embedded = doingFirst('embedTexts', () => {});
    const through: SearchModel = {
      ...embedded,
      embedTexts: async (...args) => {
        const result = await embedded.embedTexts(...args);
        setImmediate(() => late.abort());
        await new Promise((resolve) => setTimeout(resolve, 20));
        return result;
      },
    };
    await expectCode(() => index.search(query, { through, signal: late.signal, rerank: 0 }), 'MOME_ABORTED');
  });
});
