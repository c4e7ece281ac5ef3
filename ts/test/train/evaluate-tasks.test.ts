import { execFileSync } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import type { Vlmo } from '../../src/inference/index.ts';
import { initialParameters } from '../../src/model/initialise.ts';
import { readNlvr2, readVqa } from '../../src/train/data/vqa.ts';
import { evaluateNlvr2, evaluateVqa } from '../../src/train/evaluate-tasks.ts';
import { writeModel } from '../../src/train/index.ts';
import { createRandom } from '../../src/train/random.ts';
import { normaliseAnswer, officialAccuracy, softScore } from '../../src/train/vqa-accuracy.ts';
import { expectCode, temporaryFolder } from '../helpers.ts';
import { tinyConfig } from './tiny-model.ts';

/** Made by the official evaluation's own code from random words, marks and people. */
const official = JSON.parse(await readFile(new URL('./data/vqa-official.json', import.meta.url), 'utf8')) as {
  readonly spellings: readonly (readonly [string, string])[];
  readonly accuracies: readonly (readonly [string, readonly string[], number])[];
};

describe('the official accuracy', () => {
  it('brings spellings together as the official code does', () => {
    for (const [answer, spelling] of official.spellings) expect(normaliseAnswer(answer), answer).toBe(spelling);
  });

  it('is that of the official code', () => {
    for (const [answer, people, accuracy] of official.accuracies)
      expect(officialAccuracy(answer, people), JSON.stringify([answer, people])).toBeCloseTo(accuracy, 9);
  });

  it('leaves out whoever is compared', () => {
    const people = (count: number) => Array.from({ length: 10 }, (_, i) => (i < count ? 'yes' : `no ${i}`));
    // Of two who said yes, each has one other: 2 x 1/3 and 8 x 2/3 of ten.
    expect(officialAccuracy('yes', people(2))).toBeCloseTo((2 / 3 + 16 / 3) / 10, 12);
    expect(officialAccuracy('yes', people(1))).toBeCloseTo(0.3, 12);
    expect(officialAccuracy('yes', people(4))).toBe(1);
    expect(officialAccuracy('maybe', people(4))).toBe(0);
    expect(officialAccuracy('yes', [])).toBe(0);
    expect([0, 1, 2, 3, 4, 10].map(softScore)).toEqual([0, 0.3, 0.6, 0.9, 1, 1]);
  });
});

const people = (...answers: readonly string[]) => Array.from({ length: 10 }, (_, i) => answers[i % answers.length]!);

describe('questions', () => {
  const answering = (answers: Readonly<Record<string, string>>) =>
    ({
      answer: async (_: string, question: string) => {
        // Later questions are answered first.
        await new Promise((resolve) => setTimeout(resolve, 20 - Number(question)));
        return [{ answer: answers[question]!, score: 0.5 }];
      },
    }) as unknown as Vlmo;

  it('are measured in the order of their file, by type and with soft scores', async () => {
    const questions = [
      { id: 7, question: '1', picture: 'a', answers: people('Two', '2', 'dog'), answerType: 'number' },
      { id: 8, question: '2', picture: 'a', answers: people('yes'), answerType: 'yes/no' },
      { id: 9, question: '3', picture: 'b' },
    ];
    const seen: unknown[] = [];
    const report = await evaluateVqa({
      model: answering({ '1': '2', '2': 'no', '3': 'cat' }),
      questions,
      onAnswer: ({ id, answer, accuracy }) => seen.push([id, answer, accuracy]),
    });
    // Seven of ten said two in one spelling or the other, and three of them just "2".
    expect(seen).toEqual([
      [7, '2', 1],
      [8, 'no', 0],
      [9, 'cat', null],
    ]);
    expect(report).toEqual({
      questions: 3,
      judged: 2,
      accuracy: 0.5,
      accuracies: { number: 1, 'yes/no': 0 },
      softScore: 0.45,
    });
  });

  it('stop at the first failure and at a signal', async () => {
    const failing = { answer: () => Promise.reject(new Error('no head')) } as unknown as Vlmo;
    const questions = [{ id: 1, question: '1', picture: 'a' }];
    await expect(evaluateVqa({ model: failing, questions })).rejects.toThrow('no head');
    await expectCode(() => evaluateVqa({ model: failing, questions, signal: AbortSignal.abort() }), 'MOME_ABORTED');
    await expectCode(() => evaluateVqa({ model: failing, questions: [] }), 'MOME_INVALID_ARGUMENT');
  });
});

describe('statements', () => {
  it('count when they are judged right, and sentences when all of theirs are', async () => {
    const statement = (id: string, text: string, isTrue?: boolean) => ({
      id,
      statement: text,
      pictures: ['a', 'b'] as const,
      ...(isTrue !== undefined && { isTrue }),
    });
    const statements = [
      statement('1', 'one', false),
      statement('2', 'one', true),
      statement('3', 'two', true),
      statement('4', 'half', false),
      statement('5', 'open'),
    ];
    const probabilities: Record<string, number> = { one: 0.8, two: 0.9, half: 0.5, open: 0.1 };
    const model = {
      reason: async (_: unknown, text: string) => ({ probability: probabilities[text]! }),
    } as unknown as Vlmo;
    const rights: (boolean | null)[] = [];
    const report = await evaluateNlvr2({ model, statements, onJudgement: ({ isRight }) => rights.push(isRight) });
    expect(rights).toEqual([false, true, true, true, null]);
    expect(report).toEqual({ statements: 5, judged: 4, accuracy: 0.75, consistency: 2 / 3 });
  });
});

const picture = (file: string) =>
  sharp({ create: { width: 20, height: 20, channels: 3, background: '#30a040' } }).toFile(file);

describe('files of VQA', () => {
  async function files(questions: unknown, annotations?: unknown) {
    const folder = await temporaryFolder();
    await mkdir(join(folder, 'images', 'val2014'), { recursive: true });
    await picture(join(folder, 'images', 'val2014', 'COCO_val2014_000000000042.jpg'));
    await picture(join(folder, 'images', '7.png'));
    const write = async (name: string, value: unknown) => {
      await writeFile(join(folder, name), typeof value === 'string' ? value : JSON.stringify(value));
      return join(folder, name);
    };
    const options = {
      images: join(folder, 'images'),
      ...(annotations !== undefined && { annotations: await write('annotations.json', annotations) }),
    };
    return { folder, questions: await write('questions.json', questions), options };
  }
  const questions = {
    info: { questions: [] },
    questions: [
      { image_id: 42, question: 'What is it?', question_id: 420 },
      { image_id: 7, question: 'How many?', question_id: 70 },
    ],
  };
  const annotations = {
    annotations: [
      { question_id: 70, answer_type: 'number', answers: people('2').map((answer) => ({ answer })) },
      { question_id: 420, answers: people('cat', 'a cat').map((answer) => ({ answer, answer_id: 1 })) },
    ],
  };

  it('name pictures by their numbers, and answers by their questions', async () => {
    const { questions: file, options } = await files(questions, annotations);
    const items = await readVqa(file, options);
    expect(items.map(({ id, question, answerType }) => [id, question, answerType])).toEqual([
      [420, 'What is it?', undefined],
      [70, 'How many?', 'number'],
    ]);
    expect(items[0]!.picture.endsWith(join('val2014', 'COCO_val2014_000000000042.jpg'))).toBe(true);
    expect(items[0]!.answers!.slice(0, 2)).toEqual(['cat', 'a cat']);
  });

  it('are refused with the question named', async () => {
    const first = questions.questions[0]!;
    for (const [value, answers, code] of [
      [{ questions: [] }, undefined, 'MOME_INVALID_FILE'],
      ['{"questions": [', undefined, 'MOME_INVALID_FILE'],
      [{ questions: [{ ...first, question_id: -1 }] }, undefined, 'MOME_INVALID_FILE'],
      [{ questions: [{ ...first, question: 5 }] }, undefined, 'MOME_INVALID_FILE'],
      [{ questions: [{ ...first, image_id: 43 }] }, undefined, 'MOME_NOT_FOUND'],
      [questions, { annotations: annotations.annotations.slice(1) }, 'MOME_INVALID_FILE'],
      [questions, { annotations: [{ question_id: 70, answers: [] }] }, 'MOME_INVALID_FILE'],
    ] as const) {
      const { questions: file, options } = await files(value, answers);
      await expectCode(() => readVqa(file, options), code);
    }
    const { questions: file, options } = await files(questions);
    await expectCode(() => readVqa(file, { ...options, images: '/nowhere' }), 'MOME_NOT_FOUND');
    await expectCode(() => readVqa(file, { ...options, annotations: '/nowhere.json' }), 'MOME_NOT_FOUND');
  });

  it('are answered by the command line, with a submission', async () => {
    const { folder, questions: file, options } = await files(questions, annotations);
    const config = { ...tinyConfig, vocabularySize: 8, answers: 2 };
    const model = join(folder, 'model');
    await mkdir(model);
    await writeFile(join(model, 'vocab.txt'), '[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nwhat\nis\nit\n');
    await writeFile(join(model, 'answers.json'), '["2", "cat"]');
    await writeModel(model, config, await initialParameters(config, createRandom(1)), {
      dtype: 'float32',
      vocabularyFiles: [],
    });
    const [submission, queries] = [join(folder, 'submission.json'), join(folder, 'queries.jsonl')];
    const run = (...args: string[]) =>
      execFileSync('node', ['dist/cli.mjs', 'eval', ...args, '-m', model, '--quiet'], { encoding: 'utf8' });
    const out = ['--submission', submission, '--queries', queries];
    const asked = ['vqa', '--questions', file, '--images', options.images];
    const report = JSON.parse(run(...asked, '--annotations', options.annotations!, ...out, '--json'));
    const answers = JSON.parse(await readFile(submission, 'utf8'));
    expect(answers.map((each: { question_id: number }) => each.question_id)).toEqual([420, 70]);
    const right = answers.filter(({ question_id, answer }: { question_id: number; answer: string }) =>
      question_id === 420 ? answer === 'cat' : answer === '2',
    );
    expect(report.accuracy).toBe(right.length / 2);
    expect((await readFile(queries, 'utf8')).trim().split('\n')).toHaveLength(2);
    expect(run(...asked)).toMatch(/questions: 2\nno accuracy/);

    // The same model judges statements.
    await picture(join(options.images, 'dev-0-1-img0.png'));
    await picture(join(options.images, 'dev-0-1-img1.png'));
    const line = JSON.stringify({ identifier: 'dev-0-1-0', sentence: 'what is it', label: 'True' });
    await writeFile(join(folder, 'dev.json'), `${line}\n`);
    const judged = ['nlvr2', '--data', join(folder, 'dev.json'), '--images', options.images];
    expect(JSON.parse(run(...judged, '--json'))).toMatchObject({ statements: 1, judged: 1 });
    expect(run(...judged)).toMatch(/statements: 1, accuracy: (?:100|0)\.00 %/);
  });
});

describe('files of NLVR2', () => {
  it('name two pictures by the identifier, in the folder or the one that the line names', async () => {
    const folder = await temporaryFolder();
    await mkdir(join(folder, '12'));
    for (const name of [
      'dev-1-0-img0.png',
      'dev-1-0-img1.png',
      join('12', 'train-9-2-img0.png'),
      join('12', 'train-9-2-img1.png'),
    ])
      await picture(join(folder, name));
    const file = join(folder, 'set.json');
    const lines = [
      { identifier: 'dev-1-0-3', sentence: 'Two cats.', label: 'True', writer: 5 },
      { identifier: 'train-9-2-0', sentence: 'One dog.', label: 'False', directory: 12 },
      { identifier: 'dev-1-0-4', sentence: 'Hidden.' },
    ];
    await writeFile(file, `\uFEFF${lines.map((line) => JSON.stringify(line)).join('\n\n')}\n`);
    const items = await readNlvr2(file, { images: folder });
    expect(items.map(({ id, isTrue }) => [id, isTrue])).toEqual([
      ['dev-1-0-3', true],
      ['train-9-2-0', false],
      ['dev-1-0-4', undefined],
    ]);
    expect(items[1]!.pictures).toEqual([
      join(folder, '12', 'train-9-2-img0.png'),
      join(folder, '12', 'train-9-2-img1.png'),
    ]);
    for (const [text, code] of [
      ['', 'MOME_INVALID_FILE'],
      ['{"identifier": "dev-1-0-3"}', 'MOME_INVALID_FILE'],
      ['{"identifier": "dev-1-0-3", "sentence": "a", "label": "maybe"}', 'MOME_INVALID_FILE'],
      ['{"identifier": "dev-5-0-3", "sentence": "a"}', 'MOME_NOT_FOUND'],
      ['{"identifier": "../../etc/dev-5-0-3", "sentence": "a"}', 'MOME_NOT_FOUND'],
      ['not json', 'MOME_INVALID_FILE'],
    ] as const) {
      await writeFile(file, text);
      await expectCode(() => readNlvr2(file, { images: folder }), code);
    }
    await expectCode(() => readNlvr2('/nowhere', { images: folder }), 'MOME_NOT_FOUND');
  });
});
