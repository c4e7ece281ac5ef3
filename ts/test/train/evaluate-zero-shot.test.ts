import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import type { Vlmo } from '../../src/inference/index.ts';
import {
  type ClassifiedPicture,
  evaluateZeroShot,
  type LabelledPicture,
  readClassFolders,
} from '../../src/train/evaluate-zero-shot.ts';
import { expectCode, temporaryFolder } from '../helpers.ts';

/** A model whose embeddings are written down. */
function modelOf(vectors: Readonly<Record<string, readonly number[]>>): Vlmo {
  const embed = async (items: readonly string[]) => ({
    embeddings: Float32Array.from(items.flatMap((item) => vectors[item] ?? [0, 0, 1])),
    count: items.length,
    width: 3,
  });
  return { embedTexts: embed, embedImages: embed } as unknown as Vlmo;
}

const half = Math.SQRT1_2;
const model = modelOf({
  // The two texts of "cat" meet halfway between the first two axes.
  'a cat': [1, 0, 0],
  'the cat': [0, 1, 0],
  'a dog': [1, 0, 0],
  'the dog': [1, 0, 0],
  'a big fish': [0, 0, 1],
  'the big fish': [0, 0, 1],
  1: [half, half, 0],
  2: [1, 0, 0],
  3: [0, 1, 0],
  4: [0, 0, 1],
});
const pictures: LabelledPicture[] = [
  { file: '1', class: 'cat' },
  { file: '2', class: 'dog' },
  { file: '3', class: 'dog' },
  { file: '4', class: 'big_fish' },
];
const templates = ['a {}', 'the {}'];

describe('evaluateZeroShot', () => {
  it('writes the name of a class into texts as it is', async () => {
    const own = modelOf({ "a $& $$ $' x": [1, 0, 0], 'a y': [0, 1, 0], 1: [1, 0, 0], 2: [0, 1, 0] });
    const two = [
      { file: '1', class: "$& $$ $' x" },
      { file: '2', class: 'y' },
    ];
    expect((await evaluateZeroShot({ model: own, pictures: two, templates: ['a {}'] })).top1).toBe(1);
  });

  it('counts by hand what the nearest mean of texts gives', async () => {
    const seen: ClassifiedPicture[] = [];
    const report = await evaluateZeroShot({ model, pictures, templates, onPicture: (each) => void seen.push(each) });
    expect(seen.map(({ best, rank }) => [best, rank])).toEqual([
      ['cat', 1],
      ['dog', 1],
      // Cosine 0.707 to cat, 0 to fish and to dog: of equal ones the earlier name is first.
      ['cat', 3],
      ['big_fish', 1],
    ]);
    expect(report).toEqual({
      pictures: 4,
      classes: 3,
      top1: 0.75,
      top5: 1,
      meanPerClass: 2.5 / 3,
      perClass: { big_fish: 1, cat: 1, dog: 0.5 },
    });
    // Without the mean the first text decides, and cat and dog are one.
    const single = await evaluateZeroShot({ model, pictures, templates: ['a {}'] });
    expect(single.perClass).toEqual({ big_fish: 1, cat: 1, dog: 0 });
  });

  it('takes other names for classes', async () => {
    const names = new Map([['dog', 'cat']]);
    expect((await evaluateZeroShot({ model, pictures, templates, names })).perClass.dog).toBe(0);
  });

  it('refuses what makes no sense', async () => {
    await expectCode(() => evaluateZeroShot({ model, pictures: [] }), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => evaluateZeroShot({ model, pictures, templates: ['a cat'] }), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => evaluateZeroShot({ model, pictures, signal: AbortSignal.abort() }), 'MOME_ABORTED');
  });
});

it('reads a folder for each class', async () => {
  const folder = await temporaryFolder();
  for (const place of ['dog/far', 'cat', 'empty']) await mkdir(join(folder, place), { recursive: true });
  const picture = await sharp({ create: { width: 4, height: 4, channels: 3, background: 'red' } })
    .png()
    .toBuffer();
  for (const name of ['dog/far/b.png', 'cat/a.png', 'loose.png']) await writeFile(join(folder, name), picture);
  await writeFile(join(folder, 'cat', 'notes.txt'), 'none');
  expect(await readClassFolders(folder)).toEqual([
    { file: join(folder, 'cat', 'a.png'), class: 'cat' },
    { file: join(folder, 'dog/far/b.png'), class: 'dog' },
  ]);
  await symlink(join(folder, 'dog'), join(folder, 'wolf'));
  expect((await readClassFolders(folder)).map((picture) => picture.class)).toEqual(['cat', 'dog', 'wolf']);
  await expectCode(() => readClassFolders(join(folder, 'cat')), 'MOME_NOT_FOUND');
  await expectCode(() => readClassFolders(join(folder, 'nowhere')), 'MOME_NOT_FOUND');
});
