import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { filesOf } from '../../../src/train/data/data-files.ts';
import { type Dataset, textsOf } from '../../../src/train/data/dataset.ts';
import { openDataset } from '../../../src/train/data/open.ts';
import { answerTargets, buildAnswers, openVqa, readAnswers, writeAnswers } from '../../../src/train/data/task-items.ts';
import { openText } from '../../../src/train/data/text.ts';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'mome-formats-'));
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

async function write(name: string, content: string | Uint8Array): Promise<string> {
  const file = path.join(folder, name);
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(file, content);
  return file;
}

async function allTexts(dataset: Dataset): Promise<string[]> {
  const texts: string[] = [];
  for await (const text of textsOf(dataset)) texts.push(text);
  return texts;
}

async function itemTexts(dataset: Dataset): Promise<string[]> {
  const items = await Promise.all(Array.from({ length: dataset.length }, (_, index) => dataset.item(index)));
  return items.flatMap(({ texts }) => texts);
}

describe('plain text', () => {
  it('has a line or a paragraph an item, without blank ones', async () => {
    const file = await write('plain.txt', '\uFEFFone \r\n\r\n  two\n\t\nthree\nfour\n\n\nfive');
    expect(await itemTexts(await openDataset({ files: file }))).toEqual(['one', 'two', 'three', 'four', 'five']);
    expect(await itemTexts(await openDataset({ files: file, unit: 'paragraph' }))).toEqual([
      'one',
      'two',
      'three\nfour',
      'five',
    ]);
  });

  it('finds any line by its number, however the text is cut', async () => {
    const words = fc.array(fc.constantFrom('a', 'bc ', ' ', '\n', '\n', 'ä', '\r\n'), { minLength: 1, maxLength: 200 });
    await fc.assert(
      fc.asyncProperty(words, async (parts) => {
        const text = `${parts.join('')}end`;
        const expected = text
          .split('\n')
          .map((line) => line.trim())
          .filter((line) => line !== '');
        const dataset = await openText(await write('any.txt', text));
        expect(await itemTexts(dataset)).toEqual(expected);
        expect(await allTexts(dataset)).toEqual(expected);
        dataset.close();
      }),
      { numRuns: 60 },
    );
  });

  it('is read from large files without holding them', async () => {
    const lines = Array.from({ length: 300_000 }, (_, i) => `line ${i} x${'x'.repeat(i % 50)}`);
    const dataset = await openText(await write('large.txt', lines.join('\n')));
    expect(dataset.length).toBe(lines.length);
    for (const index of [0, 15, 16, 131_071, 262_143, 299_999])
      expect((await dataset.item(index)).texts).toEqual([lines[index]]);
    const other = await openText(await write('other.txt', lines.with(250_000, 'changed').join('\n')));
    expect(await other.fingerprint()).not.toBe(await dataset.fingerprint());
    const same = await openText(await write('moved/large.txt', lines.join('\n')));
    expect(await same.fingerprint()).toBe(await dataset.fingerprint());
  });

  it('skips a damaged line, and refuses other files', async () => {
    const file = await write(
      'half.txt',
      Buffer.concat([Buffer.from('good\n'), Buffer.of(0xff, 0x41), Buffer.from('\n')]),
    );
    const dataset = await openText(file);
    await expect(dataset.item(1)).rejects.toMatchObject({
      code: 'MOME_INVALID_FILE',
      message: `${file}: line 2 of those with text: expected UTF-8, got other bytes`,
    });
    await expect(openText(await write('empty.txt', ' \n\n'))).rejects.toMatchObject({ code: 'MOME_INVALID_FILE' });
    await expect(openText(await write('utf16.txt', Buffer.from('\uFEFFa', 'utf16le')))).rejects.toThrow('got UTF-16');
    await expect(openText(await write('binary.txt', Buffer.of(1, 0, 2)))).rejects.toThrow('bytes that are no text');
    await expect(openText(await write('long.txt', 'x'.repeat(2 ** 21)))).rejects.toMatchObject({
      code: 'MOME_TOO_LARGE',
    });
  });
});

describe('lists and folders', () => {
  it('reads lists of paths with captions', async () => {
    const file = await write('gcc.json', '[["a/1.jpg", "one"], ["2.jpg", ["two", " ", "three"]], ["2.jpg", "again"]]');
    const dataset = await openDataset({ files: file, kind: 'list', images: '/pictures' });
    expect((await dataset.item(0)).pictures).toEqual([{ file: '/pictures/a/1.jpg' }]);
    expect((await dataset.item(1)).texts).toEqual(['two', 'three']);
    expect((await dataset.item(2)).group).toBe((await dataset.item(1)).group);
    for (const [text, message] of [
      ['[["a.jpg"]]', 'entry 0: expected'],
      ['{"a": 1}', 'expected a list of pictures with captions as a list in JSON'],
      ['[["a.jpg", "b"], 3]', 'entry 1: expected'],
      ['[]', 'expected an item, got none'],
    ])
      await expect(openDataset({ files: await write('bad.json', text!), kind: 'list' })).rejects.toMatchObject({
        code: 'MOME_INVALID_FILE',
        message: expect.stringContaining(message!),
      });
  });

  it('reads folders by what lies in them', async () => {
    await write(
      'named/metadata.jsonl',
      '{"file_name": "x.png", "text": "an x"}\n{"image": "y.png", "captions": ["y", "z"]}',
    );
    await write('named/x.png', '');
    const named = await openDataset({ files: path.join(folder, 'named') });
    expect(await allTexts(named)).toEqual(['an x', 'y', 'z']);
    expect((await openDataset({ files: path.join(folder, 'named'), captionItems: 'each' })).length).toBe(3);
    await write('beside/b.png', '');
    await write('beside/b.txt', 'first\nsecond');
    expect(await allTexts(await openDataset({ files: path.join(folder, 'beside') }))).toEqual(['first', 'second']);
    await write('alone/c/2.jpg', '');
    await write('alone/1.png', '');
    const alone = await openDataset({ files: path.join(folder, 'alone') });
    expect(await Promise.all([0, 1].map((index) => alone.item(index)))).toEqual([
      { pictures: [{ file: path.join(folder, 'alone/1.png') }], texts: [], group: 0 },
      { pictures: [{ file: path.join(folder, 'alone/c/2.jpg') }], texts: [], group: 1 },
    ]);
    await mkdir(path.join(folder, 'void'));
    await expect(openDataset({ files: path.join(folder, 'void') })).rejects.toMatchObject({ code: 'MOME_NOT_FOUND' });
    await expect(openDataset({ files: await write('x.bin', 'x') })).rejects.toMatchObject({ code: 'MOME_UNSUPPORTED' });
  });

  it('joins the files of a pattern, and names the missing ones', async () => {
    for (const i of [0, 1, 2, 3]) await write(`shards/part-0${i}.txt`, `text ${i}`);
    const pattern = path.join(folder, 'shards', 'part-{00..03}.txt');
    expect(await itemTexts(await openDataset({ files: pattern }))).toEqual(['text 0', 'text 1', 'text 2', 'text 3']);
    expect((await filesOf(path.join(folder, 'shards', 'part-*.txt'))).length).toBe(4);
    expect((await filesOf(path.join(folder, 'shards', '?art-0*2.t?t'))).map((file) => path.basename(file))).toEqual([
      'part-02.txt',
    ]);
    await expect(openDataset({ files: path.join(folder, 'shards', 'part-{2..12}.txt') })).rejects.toMatchObject({
      code: 'MOME_NOT_FOUND',
      message: expect.stringContaining('part-2.txt'),
    });
    await expect(filesOf(path.join(folder, 'shards', 'part-{02..05}.txt'))).rejects.toMatchObject({
      code: 'MOME_NOT_FOUND',
      message: expect.stringMatching(/missing: \S*part-04.txt, \S*part-05.txt$/),
    });
    for (const i of [0, 2]) await write(`counted/train-0000${i}-of-00004.txt`, `text ${i}`);
    await expect(filesOf(path.join(folder, 'counted', 'train-*.txt'))).rejects.toThrow(
      /missing: \S*train-00001-of-00004.txt, \S*train-00003-of-00004.txt$/,
    );
    await expect(filesOf(path.join(folder, 'shards', '*.zip'))).rejects.toMatchObject({ code: 'MOME_NOT_FOUND' });
    // A pattern of many stars is no reason to wait.
    await write(`stars/${'a'.repeat(200)}.txt`, 'a');
    await expect(filesOf(path.join(folder, 'stars', `${'*a'.repeat(60)}b`))).rejects.toMatchObject({
      code: 'MOME_NOT_FOUND',
    });
  });
});

describe('questions and statements', () => {
  const annotation = (question: number, majority: string, answers: string[]) => ({
    question_id: question,
    image_id: question,
    multiple_choice_answer: majority,
    answers: answers.map((answer) => ({ answer })),
  });

  it('makes the list of answers that are the majority often enough', async () => {
    const many = (answer: string, count: number, from: number) =>
      Array.from({ length: count }, (_, i) => annotation(from + i, answer, [answer]));
    const train = await write(
      'train.json',
      JSON.stringify({ annotations: [...many('rare', 8, 0), ...many('Yes.', 5, 10)] }),
    );
    const val = await write(
      'val.json',
      JSON.stringify({ annotations: [...many('two', 9, 20), ...many('yes', 4, 40)] }),
    );
    const answers = await buildAnswers([train, val]);
    expect(answers).toEqual(['yes', '2']);
    expect(await buildAnswers([train, val], { fewest: 8 })).toEqual(['rare', 'yes', '2']);
    for (const name of ['answers.json', 'answers.txt']) {
      await writeAnswers(path.join(folder, name), answers);
      expect(await readAnswers(path.join(folder, name))).toEqual(answers);
    }
    await expect(readAnswers(await write('twice.json', '["a", "a"]'))).rejects.toThrow('got one twice');
  });

  it('scores answers by how many people gave them', () => {
    const labels = new Map([
      ['a', 0],
      ['b', 1],
      ['c', 2],
      ['d', 3],
    ]);
    const given = ['a', 'b', 'b', 'c', 'c', 'c', 'd', 'd', 'd', 'd', 'A', 'e'];
    expect(answerTargets(given, labels)).toEqual({ labels: [0, 1, 2, 3], scores: [0.3, 0.6, 0.9, 1] });
    expect(answerTargets(['d', 'd', 'd', 'd', 'd'], labels)).toEqual({ labels: [3], scores: [1] });
  });

  it('reads questions, leaves out those without an answer and the last pictures', async () => {
    const question = (id: number) => ({ image_id: id, question: `q ${id}`, question_id: 10 * id });
    const questions = await write('q.json', JSON.stringify({ questions: [3, 1, 2, 4].map(question) }));
    const annotations = await write(
      'a.json',
      JSON.stringify({
        annotations: [1, 2, 3, 4].map((id) => annotation(10 * id, 'yes', id === 2 ? ['Yes'] : ['yes', 'yes', 'no'])),
      }),
    );
    await write('vqa-images/COCO_train_000001.jpg', '');
    await write('vqa-images/COCO_train_000003.jpg', '');
    const source = { images: path.join(folder, 'vqa-images'), answers: ['no', 'yes'] };
    const dataset = await openVqa({ ...source, questions: [questions], annotations: [annotations] });
    expect(dataset.withoutLabel).toBe(1);
    expect(await allTexts(dataset)).toEqual(['q 3', 'q 1', 'q 4']);
    expect(await dataset.item(1)).toEqual({
      pictures: [{ file: path.join(folder, 'vqa-images/COCO_train_000001.jpg') }],
      texts: ['q 1'],
      answers: { labels: [1, 0], scores: [0.6, 0.3] },
      group: 1,
    });
    const less = await openDataset({ ...source, kind: 'vqa', files: questions, annotations, leaveOutLast: 2 });
    expect(await allTexts(less)).toEqual(['q 1']);
    await expect(openDataset({ kind: 'vqa', files: questions, images: folder })).rejects.toThrow(
      'files of annotations',
    );
    await expect(openVqa({ ...source, questions: [questions], annotations: [] })).rejects.toMatchObject({
      code: 'MOME_INVALID_ARGUMENT',
    });
  });

  it('reads statements with their truth', async () => {
    const file = await write(
      'nlvr2.json',
      '{"identifier": "train-1-0-0", "sentence": "s", "label": "True", "directory": 4}\n' +
        '{"identifier": "train-1-0-1", "sentence": "t", "label": "False", "directory": 4}\n',
    );
    const dataset = await openDataset({ kind: 'nlvr2', files: file, images: folder });
    expect(dataset.picturesPerItem).toBe(2);
    expect(await dataset.item(1)).toEqual({
      pictures: [0, 1].map((side) => ({ file: path.join(folder, `4/train-1-0-img${side}.png`) })),
      texts: ['t'],
      truth: false,
      group: 0,
    });
    const unlabelled = await write('test.json', '{"identifier": "t-1-0-0", "sentence": "s"}\n');
    await expect(openDataset({ kind: 'nlvr2', files: unlabelled, images: folder })).rejects.toThrow('expected a label');
  });
});
