import { copyFile, mkdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import fc from 'fast-check';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openSafetensors, type TensorToWrite, writeSafetensors } from '../../src/checkpoint/index.ts';
import { fusedScore } from '../../src/inference/fused-score.ts';
import { Vlmo } from '../../src/inference/index.ts';
import { type ErrorCode, MomeError } from '../../src/runtime/errors.ts';
import { listImages, renderResults, SearchIndex, scanFolder } from '../../src/search/index.ts';
import { readIndex, writeIndex } from '../../src/search/index-file.ts';
import { expectCode, temporaryFolder, testImage, tinyModel } from '../helpers.ts';

let model: Vlmo;
let pictures = '';
beforeAll(async () => {
  model = await Vlmo.load(await tinyModel());
  pictures = join(await temporaryFolder(), 'pictures');
  await mkdir(join(pictures, 'more'), { recursive: true });
  for (let i = 0; i < 6; i++) {
    const image = testImage(i, 32);
    await sharp(image.data, { raw: image })
      .png()
      .toFile(join(pictures, i < 3 ? `${i}.png` : `more/${i}.PNG`));
  }
  await writeFile(join(pictures, 'notes.txt'), 'no picture');
});
afterAll(() => model.dispose());

describe('listImages', () => {
  it('finds pictures at any depth and nothing else', async () => {
    const files = await listImages(pictures);
    expect(files.map((file) => file.slice(pictures.length + 1))).toEqual([
      '0.png',
      '1.png',
      '2.png',
      'more/3.PNG',
      'more/4.PNG',
      'more/5.PNG',
    ]);
    await expectCode(() => listImages(join(pictures, 'missing')), 'MOME_NOT_FOUND');
    await expectCode(() => listImages(join(pictures, '0.png')), 'MOME_NOT_FOUND');
  });

  it('takes file: URLs and signals, and refuses what is none', async () => {
    expect(await listImages(pathToFileURL(pictures))).toEqual(await listImages(pictures));
    for (const list of [listImages, scanFolder]) {
      for (const wrong of [null, 'now', { aborted: false }, new AbortController()])
        await expectCode(() => list(pictures, wrong as AbortSignal), 'MOME_INVALID_ARGUMENT');
      await expectCode(() => list(pictures, AbortSignal.abort()), 'MOME_ABORTED');
    }
  });
});

describe('SearchIndex', () => {
  it('finds a picture by itself', async () => {
    const index = await SearchIndex.build(model, await listImages(pictures));
    for (const [i, { path }] of index.items.entries()) {
      const [best] = await index.search({ image: path }, { k: 1 });
      expect(best).toMatchObject({ path: index.items[i]!.path, index: i, match: null, dualRank: 0 });
      expect(best!.score).toBeCloseTo(1, 5);
    }
  });

  it('re-ranks the first candidates by the fusion encoder and keeps the rest', async () => {
    const index = await SearchIndex.build(model, await listImages(pictures));
    const plain = await index.search('a red square', { k: 6, rerank: 0 });
    const results = await index.search('a red square', { k: 6, rerank: 4 });
    expect(plain.map(({ score }) => score)).toEqual([...plain.map(({ score }) => score)].sort((a, b) => b - a));
    expect(results.slice(4).map(({ path }) => path)).toEqual(plain.slice(4).map(({ path }) => path));
    for (const { score, similarity } of plain) expect(score).toBe(similarity);
    const fused = results.slice(0, 4).map(({ match, similarity }) => fusedScore({ match: match!, similarity }, model));
    // Scores come from the log-odds themselves, of which `match` is a rounded probability.
    for (const [place, score] of fused.entries()) expect(results[place]!.score).toBeCloseTo(score, 5);
    expect(results.map(({ score }) => score)).toEqual(results.map(({ score }) => score).sort((a, b) => b - a));
    expect(
      results
        .slice(0, 4)
        .map(({ path }) => path)
        .sort(),
    ).toEqual(
      plain
        .slice(0, 4)
        .map(({ path }) => path)
        .sort(),
    );
    const [first] = await model.match([{ image: results[0]!.path, text: 'a red square' }]);
    expect(results[0]!.match).toBe(first);
  });

  it('comes back from its file, and embeds only what changed', async () => {
    const files = await listImages(pictures);
    const index = await SearchIndex.build(model, files);
    const path = join(await temporaryFolder(), 'index');
    await index.save(path);
    const again = await SearchIndex.open(model, path);
    expect(again.items).toEqual(index.items);
    expect(again.embeddings).toEqual(index.embeddings);
    await copyFile(files[1]!, files[0]!);
    await utimes(files[0]!, new Date(), new Date(1e12));
    const updated = await SearchIndex.build(model, files, { previous: again });
    const { width } = model.config;
    expect(updated.embeddings.subarray(0, width)).toEqual(index.embeddings.subarray(width, 2 * width));
    expect(updated.embeddings.subarray(width)).toEqual(index.embeddings.subarray(width));
  });

  it('works with nothing in it', async () => {
    const index = await SearchIndex.build(model, []);
    expect(await index.search('a red square')).toEqual([]);
    const path = join(await temporaryFolder(), 'empty');
    await index.save(path);
    expect((await SearchIndex.open(model, path)).items).toEqual([]);
  });

  it('leaves out files that cannot be read when asked to, and fails otherwise', async () => {
    const broken = join(await temporaryFolder(), 'broken.png');
    await writeFile(broken, 'nothing');
    const files = [broken, ...(await listImages(pictures)), '/nowhere.png'];
    const failed: string[] = [];
    const index = await SearchIndex.build(model, files, { onError: (path) => failed.push(path) });
    expect(index.items).toHaveLength(6);
    expect(failed.sort()).toEqual([broken, '/nowhere.png'].sort());
    await expectCode(() => SearchIndex.build(model, [broken]), 'MOME_INVALID_IMAGE');
    await expectCode(
      () => SearchIndex.build(model, files, { signal: AbortSignal.abort(), onError: () => {} }),
      'MOME_ABORTED',
    );
  });

  it('says of an error which picture of the caller it is about, also when several are the same file', async () => {
    const broken = join(await temporaryFolder(), 'broken.png');
    await writeFile(broken, 'nothing');
    const many = Array.from({ length: 66 }, (_, i) => join(pictures, `${i % 3}.png`));
    for (const path of [broken, '/nowhere.png']) {
      const error = await expectCode(
        () => SearchIndex.build(model, [...many, path]),
        path === broken ? 'MOME_INVALID_IMAGE' : 'MOME_NOT_FOUND',
      );
      expect(error).toMatchObject({ kind: 'picture', index: 66, item: path });
      expect(error.message).toContain(`build: picture 66 (${path}): expected a`);
    }
    const twin = join(await temporaryFolder(), 'twin.png');
    await copyFile(broken, twin);
    const failed: unknown[] = [];
    const onError = (path: string, error: unknown) => failed.push([path, (error as MomeError).index]);
    await SearchIndex.build(model, [broken, join(pictures, '0.png'), twin], { onError });
    expect(failed).toEqual([
      [broken, 0],
      [twin, 2],
    ]);
    const index = await SearchIndex.build(model, [join(pictures, '0.png')]);
    const query = await expectCode(() => index.search({ image: broken }), 'MOME_INVALID_IMAGE');
    expect([query.kind, query.index, query.item]).toEqual(['query', undefined, broken]);
    expect(query.message).toContain(`search: query (${broken}): expected`);
  });

  it('ends with the error of a callback, also when its promise fails', async () => {
    const boom = new TypeError('boom');
    const fails = async () => {
      throw boom;
    };
    const files = [join(pictures, '0.png'), '/nowhere.png'];
    await expect(SearchIndex.build(model, files, { onError: fails })).rejects.toBe(boom);
    await expect(SearchIndex.build(model, files.slice(0, 1), { onProgress: fails })).rejects.toBe(boom);
    const gone = join(await temporaryFolder(), 'gone.png');
    await copyFile(files[0]!, gone);
    const index = await SearchIndex.build(model, [gone]);
    await rm(gone);
    await expect(index.search('a red square', { onError: fails })).rejects.toBe(boom);
  });

  // biome-ignore lint/suspicious/noExplicitAny: what JavaScript callers may give
  const any = (value: unknown): any => value;
  const build = (options: unknown) => () => SearchIndex.build(model, [], any(options));
  const empty = () => SearchIndex.build(model, []);
  const misuses: Record<string, () => unknown> = {
    'no model': () => any(SearchIndex).build(),
    'paths as model': () => SearchIndex.build(any(['a.png']), []),
    'no files': () => SearchIndex.build(model, any(undefined)),
    'a path in place of files': () => SearchIndex.build(model, any('a.png')),
    'a hole': () => SearchIndex.build(model, new Array(1)),
    'a URL as path': () => SearchIndex.build(model, any([new URL('file:///a.png')])),
    'a path with NUL': () => SearchIndex.build(model, ['a\0.png']),
    'options null': build(null),
    'a misspelt option': build({ onErorr: () => {} }),
    'another previous': build({ previous: {} }),
    'a path as previous': build({ previous: 'a.index' }),
    'onError a text': build({ onError: 'log' }),
    'onProgress a number': build({ onProgress: 5 }),
    'root a number': build({ root: 5 }),
    'file empty': build({ file: '' }),
    'signal a text': build({ signal: 'stop' }),
    'open without a model': () => SearchIndex.open(any(null), 'a.index'),
    'open without a path': () => SearchIndex.open(model, any(undefined)),
    'open with NUL': () => SearchIndex.open(model, 'a\0'),
    'open with a misspelt option': () => SearchIndex.open(model, 'a.index', any({ rot: '/' })),
    'save without a path': async () => (await empty()).save(any(undefined)),
    'save alone': async () => (await empty()).save.call(any(undefined), 'a.index'),
    'search alone': async () => (await empty()).search.call(any({}), 'a'),
    'rows of another object': () => SearchIndex.prototype.rows.call(any({}), 0, 0),
    'rows of a symbol': async () => (await empty()).rows(any(Symbol('x')), 0),
    'no query': async () => any(await empty()).search(),
    'a misspelt query': async () => (await empty()).search(any({ img: 'a.png' })),
    'a picture and a text': async () => (await empty()).search(any({ image: 'a.png', text: 'a' })),
    'a query without a picture': async () => (await empty()).search(any({ image: null })),
    'search options null': async () => (await empty()).search('a', any(null)),
    'k a symbol': async () => (await empty()).search('a', { k: any(Symbol('k')) }),
    'rerank true': async () => (await empty()).search('a', { rerank: any(true) }),
    'a misspelt search option': async () => (await empty()).search('a', any({ reRank: 5 })),
    'a constructor': () => new (any(SearchIndex))(),
    'no folder': () => any(listImages)(),
    'an empty folder name': () => listImages(''),
    'no sections': () => any(renderResults)('title'),
    'a section without results': () => renderResults('title', any([{ query: 'a' }])),
    'no judgement': () => any(fusedScore)(),
    'a judgement that is not finite': () => fusedScore({ similarity: Number.NaN, match: 0.5 }, model),
    'a judgement without a model': () => any(fusedScore)({ similarity: 0.3, match: 0.5 }),
  };
  it.each(Object.keys(misuses))('%s is refused by code', async (name) => {
    const { message } = await expectCode(misuses[name]!, 'MOME_INVALID_ARGUMENT');
    expect(message).toMatch(/: (.*: )?expected /s);
  });

  it('is saved to and opened from a file: URL too', async () => {
    const url = pathToFileURL(join(await temporaryFolder(), 'a b.index'));
    await (await empty()).save(url);
    expect((await SearchIndex.open(model, url)).items).toEqual([]);
  });

  it('passes on what is no fault of a file, however the others fare', async () => {
    const broken = join(await temporaryFolder(), 'broken.png');
    await writeFile(broken, 'nothing');
    const controller = new AbortController();
    const failed: string[] = [];
    const onError = (path: string) => {
      failed.push(path);
      controller.abort();
    };
    const files = [broken, ...(await listImages(pictures))];
    await expectCode(() => SearchIndex.build(model, files, { signal: controller.signal, onError }), 'MOME_ABORTED');
    expect(failed).toEqual([broken]);
    const lacking = await Vlmo.load(await tinyModel());
    const index = await SearchIndex.build(lacking, files.slice(1));
    await lacking.dispose();
    await expectCode(() => index.search('a red square', { onError }), 'MOME_DISPOSED');
    expect(failed).toEqual([broken]);
  });

  it('takes nothing from an index of another model', async () => {
    const files = await listImages(pictures);
    const other = await Vlmo.load(await tinyModel('tiny_absolute'));
    const previous = await SearchIndex.build(other, files);
    await other.dispose();
    const index = await SearchIndex.build(model, files, { previous });
    expect(index.embeddings).toEqual((await SearchIndex.build(model, files)).embeddings);
    expect(index.embeddings).not.toEqual(previous.embeddings);
  });

  it('ranks pictures that were deleted or damaged since by score, behind those it can read', async () => {
    const folder = await temporaryFolder();
    const files = await Promise.all(
      (await listImages(pictures)).map(async (file, i) => {
        await copyFile(file, join(folder, `${i}.png`));
        return join(folder, `${i}.png`);
      }),
    );
    const index = await SearchIndex.build(model, files);
    const plain = await index.search('a red square', { k: 6, rerank: 0 });
    const whole = await index.search('a red square', { k: 6, rerank: 5 });
    await rm(plain[0]!.path);
    await writeFile(plain[2]!.path, 'nothing');
    const lost = [plain[0]!, plain[2]!];
    const failed: unknown[] = [];
    const results = await index.search('a red square', {
      k: 6,
      rerank: 5,
      onError: (path, error) => failed.push([path, (error as MomeError).code]),
    });
    expect(failed).toEqual([
      [plain[0]!.path, 'MOME_NOT_FOUND'],
      [plain[2]!.path, 'MOME_INVALID_IMAGE'],
    ]);
    const readable = whole.filter(({ path, match }) => match !== null && lost.every((each) => each.path !== path));
    const paths = (list: readonly { readonly path: string }[]) => list.map(({ path }) => path);
    expect(paths(results)).toEqual(paths([...readable, plain[0]!, plain[2]!, plain[5]!]));
    expect(results.map(({ match }) => match === null)).toEqual([false, false, false, true, true, true]);
    expect(await index.search('a red square', { k: 6, rerank: 5 })).toEqual(results);
    await expectCode(() => index.search({ image: plain[0]!.path }), 'MOME_NOT_FOUND');
  });

  it('keeps in the header of its file nothing that grows with the pictures, and rows in several tensors', async () => {
    const path = join(await temporaryFolder(), 'index');
    const index = await SearchIndex.build(model, await listImages(pictures));
    await index.save(path);
    expect(Object.keys((await openSafetensors(path)).metadata).sort()).toEqual([
      'absoluteRoot',
      'fingerprint',
      'format',
      'root',
      'version',
    ]);
    const { root, items, embeddings } = index;
    await writeIndex(path, model, { root, items, embeddings }, 4);
    const { width } = model.config;
    const { entries } = await openSafetensors(path);
    expect([...entries.values()].map(({ shape }) => shape).slice(1)).toEqual([
      [4, width],
      [2, width],
    ]);
    expect(await readIndex(path, model)).toEqual({ root, items, embeddings });
  });

  it('refuses more pictures than one array can hold before it reads any', async () => {
    const files = new Array<string>(Math.floor(2 ** 32 / model.config.width) + 1);
    await expectCode(() => SearchIndex.build(model, files), 'MOME_TOO_LARGE');
  });

  it('refuses senseless options and files', async () => {
    const index = await SearchIndex.build(model, await listImages(pictures));
    await expectCode(() => index.search('a', { k: 0 }), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => index.search('a', { rerank: 0.5 }), 'MOME_INVALID_ARGUMENT');
    const folder = await temporaryFolder();
    const path = join(folder, 'index');
    await index.save(path);
    const other = await Vlmo.load(await tinyModel('tiny_absolute'));
    await expectCode(() => SearchIndex.open(other, path), 'MOME_UNSUPPORTED');
    await other.dispose();
    const { width } = model.config;
    const item = Buffer.from('{"path":"a","size":1,"modified":1}\n');
    const list = (data: Uint8Array) => ({ name: 'items.0', dtype: 'U8' as const, shape: [data.length], data });
    const rows = (count: number, columns: number, value = 1) => ({
      name: 'embeddings.0',
      dtype: 'F32' as const,
      shape: [count, columns],
      data: new Float32Array(count * columns).fill(value),
    });
    const expectRefusal = async (code: ErrorCode, tensors: TensorToWrite[], version = '3') => {
      await writeSafetensors(path, tensors, { format: 'mome-index', version, fingerprint: model.fingerprint });
      await expectCode(() => SearchIndex.open(model, path), code);
    };
    await expectRefusal('MOME_INVALID_FILE', [list(item), rows(1, 2)]);
    await expectRefusal('MOME_INVALID_FILE', [list(item), rows(2, width)]);
    await expectRefusal('MOME_INVALID_FILE', [list(item.subarray(0, -1)), rows(1, width)]);
    await expectRefusal('MOME_INVALID_FILE', [list(Buffer.from('{}\n')), rows(1, width)]);
    await expectRefusal('MOME_INVALID_FILE', [list(Buffer.from('null\n')), rows(1, width)]);
    await expectRefusal('MOME_INVALID_FILE', [list(Buffer.alloc(2 ** 20, 'x')), rows(1, width)]);
    await expectRefusal('MOME_INVALID_FILE', [list(item)]);
    await expectRefusal('MOME_INVALID_FILE', [rows(1, width)]);
    await expectRefusal('MOME_INVALID_FILE', [list(item), rows(1, width)], '1');
    await expectRefusal('MOME_NON_FINITE', [list(item), rows(1, width, Number.NaN)]);
    await index.save(path);
    const good = new Uint8Array(await readFile(path));
    await fc.assert(
      fc.asyncProperty(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 }), async (at, change) => {
        const bytes = good.slice();
        bytes[at % 900] = bytes[at % 900]! ^ change;
        await writeFile(path, bytes);
        await SearchIndex.open(model, path).catch((error: unknown) => expect(error).toBeInstanceOf(MomeError));
      }),
      { numRuns: 80 },
    );
  });
});

describe('renderResults', () => {
  it('makes one page that needs nothing else and escapes what it is given', async () => {
    const page = await renderResults('<title>', [
      {
        query: 'a "red" <script>alert(1)</script>',
        results: [{ path: join(pictures, '0.png'), index: 0, score: 3, similarity: 0.5, match: 0.9, dualRank: 0 }],
        before: [{ path: '/nowhere\u202egnp.png', score: 0.5, match: null }],
      },
    ]);
    expect(page).toContain('data:image/webp;base64,');
    expect(page).not.toContain('<script>');
    expect(page).toContain('cannot be shown');
    expect(page).toContain('nowhere\\u{202e}gnp.png');
    expect(page).toContain('cosine 0.500, match 0.900');
    expect(page).toContain('fits very well');
    expect(page).not.toMatch(/(?:src|href)="(?!data:)/);
    expect(await renderResults(`<&>"'`, [])).toContain('<h1>&lt;&amp;&gt;&quot;&#39;</h1>');
  });

  it('says the title once, what was searched and how long, and where each picture stood', async () => {
    const result = (name: string, index: number, dualRank: number) =>
      ({ path: join(pictures, name), index, score: 3, similarity: 0.5, match: 0.1, dualRank }) as const;
    const results = [result('0.png', 0, 2), result('1.png', 1, 1), result('2.png', 2, 0)];
    const section = { query: 'red', results, among: 40, milliseconds: 1234 };
    const page = await renderResults('red', [section], { model: 'tiny <1>' });
    expect(page.match(/<h[12][^>]*>red</g)).toEqual(['<h1>red<']);
    expect(page).toContain('3 of 40 pictures · 1.2 s');
    expect(page).toContain('model tiny &lt;1&gt;');
    expect([...page.matchAll(/(?:▲ |▼ |)(up \d|down \d|same place)<\/span>/g)].map(([, move]) => move)).toEqual([
      'up 2',
      'same place',
      'down 2',
    ]);
    expect(page).toContain('In the order of the score');
    const alone = [{ path: join(pictures, '0.png'), score: 0.5, match: null }];
    const plain = await renderResults('two', [section, { query: 'blue', results: alone }]);
    expect(plain.match(/<h[12][^>]*>[^<]+/g)).toEqual(['<h1>two', '<h2 id="query-0">red', '<h2 id="query-1">blue']);
    expect(plain).toContain('In the order of the cosine');
    await expectCode(() => renderResults('t', [], { folder: 3 } as never), 'MOME_INVALID_ARGUMENT');
  });

  it('links to the files as seen from where the page lies, whatever they are called', async () => {
    const names = ['a b.png', 'javascript:hit().png', '\'"><b>.png', '%2e%2e#?.png', 'é.png'];
    const results = names.map((name) => ({ path: join('/pictures/in', name), score: 1, match: null }));
    const page = await renderResults('t', [{ query: 'q', results }], { folder: '/pictures/pages' });
    const links = [...page.matchAll(/<a class="name" href="([^"]*)"/g)].map(([, href]) => href!);
    expect(links.map((href) => fileURLToPath(new URL(href, 'file:///pictures/pages/')))).toEqual(
      results.map(({ path }) => path),
    );
    for (const href of links) expect(href).toMatch(/^\.\/[^<>'"]*$/);
    const others = [{ path: 'data:image/png;base64,AA', score: 1, match: null }];
    expect(await renderResults('t', [{ query: 'q', results: others }], { folder: '/' })).not.toContain('href="');
  });

  it('shows pictures upright, as they are now, wherever they come from', async () => {
    const path = join(await temporaryFolder(), 'photo.jpg');
    const write = (width: number, height: number, background: string, orientation: number) =>
      sharp({ create: { width, height, channels: 3, background } })
        .withMetadata({ orientation })
        .jpeg()
        .toFile(path);
    const shown = async (queryImage: string | URL) => {
      const page = await renderResults('t', [{ query: 'q', queryImage, results: [] }]);
      const bytes = Buffer.from(/base64,([^"]+)/.exec(page)![1]!, 'base64');
      const { data, info } = await sharp(bytes).raw().toBuffer({ resolveWithObject: true });
      return { width: info.width, height: info.height, red: data[0]! > 128 };
    };
    await write(60, 20, '#f00', 6);
    expect(await shown(path)).toEqual({ width: 75, height: 224, red: true });
    await write(20, 60, '#00f', 8);
    expect(await shown(pathToFileURL(path).href)).toEqual({ width: 224, height: 75, red: false });
    expect(await shown(pathToFileURL(path))).toEqual({ width: 224, height: 75, red: false });
  });
});
