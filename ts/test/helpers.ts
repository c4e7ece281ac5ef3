/** A tiny model on disk, made from a reference checkpoint, and temporary folders. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect } from 'vitest';
import { configFromArch } from '../src/architecture/config.ts';
import { convertCheckpoint } from '../src/checkpoint/index.ts';
import { type ErrorCode, MomeError } from '../src/runtime/errors.ts';
import { readCaseConfig } from '../src/verify/case-files.ts';

export const golden = (name: string): string => fileURLToPath(new URL(`golden/${name}`, import.meta.url));

const temporaryFolders: string[] = [];
// Here and not where a folder is made: a hook that a running test adds is never called.
afterAll(async () => {
  for (const folder of temporaryFolders) await rm(folder, { recursive: true, force: true });
});

/** A folder that is removed after the tests of the file. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'mome-test-'));
  temporaryFolders.push(folder);
  return folder;
}

/** Writes a file into the folder that `folder` gives when a test runs, and returns its path. */
export const writerInto =
  (folder: () => string) =>
  async (name: string, bytes: Uint8Array | string): Promise<string> => {
    const path = join(folder(), name);
    await writeFile(path, bytes);
    return path;
  };

/** Word pieces of the tiny model: 120, as its embedding has rows. */
export function tinyVocabulary(): string[] {
  const words = [
    'a',
    'red',
    'green',
    'blue',
    'square',
    'circle',
    '##s',
    'on',
    'white',
    '##ish',
    'picture',
    'of',
    ',',
    '.',
  ];
  const pieces = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', ...words];
  while (pieces.length < 120) pieces.push(`word${pieces.length}`);
  return pieces;
}

/** A `tokenizer.json` as the library writes that of `bert-base-uncased`, with these word pieces. */
export const bertTokenizerJson = (vocabulary: readonly string[]) => ({
  version: '1.0',
  added_tokens: [
    { id: 4, content: '[MASK]', special: true, single_word: false, lstrip: false, rstrip: false, normalized: false },
  ],
  normalizer: {
    type: 'BertNormalizer',
    clean_text: true,
    handle_chinese_chars: true,
    strip_accents: null,
    lowercase: true,
  },
  pre_tokenizer: { type: 'BertPreTokenizer' },
  decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
  model: {
    type: 'WordPiece',
    unk_token: '[UNK]',
    continuing_subword_prefix: '##',
    max_input_chars_per_word: 100,
    vocab: Object.fromEntries(vocabulary.map((piece, i) => [piece, i])),
  },
});

/** Answers of the tiny model: 13, as its head has outputs. */
export const tinyAnswers = 'yes no one two red green blue square circle left right cat dog'.split(' ');

/** Writes a model folder of the reference case `name`, with a vocabulary and answers. */
export async function tinyModel(name: 'tiny_relative' | 'tiny_absolute' = 'tiny_relative'): Promise<string> {
  const folder = await temporaryFolder();
  const { arch } = await readCaseConfig(golden(name));
  await convertCheckpoint(join(golden(name), 'weights.pt'), folder, { config: configFromArch(arch) });
  await writeFile(join(folder, 'vocab.txt'), `${tinyVocabulary().join('\n')}\n`);
  await writeFile(join(folder, 'answers.json'), JSON.stringify(tinyAnswers));
  return folder;
}

/** Pixels of a plain picture with a little of everything in it. */
export function testImage(seed: number, size = 80) {
  const data = new Uint8Array(size * size * 3);
  let state = (seed * 2654435761 + 1) >>> 0;
  for (let i = 0; i < data.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    data[i] = ((state >>> 24) + seed * 37) & 255;
  }
  return { data, width: size, height: size, channels: 3 as const };
}

/** How often other events got their turn before `action` was done. */
export async function turnsDuring(action: () => Promise<unknown>): Promise<number> {
  let turns = 0;
  const timer = setInterval(() => turns++, 1);
  await action();
  clearInterval(timer);
  return turns;
}

/** A signal that fires with the reason "enough" once the call it is given to has begun to wait for something. */
export function soonAborted(): AbortSignal {
  const controller = new AbortController();
  setImmediate(() => controller.abort(new Error('enough')));
  return controller.signal;
}

/** Expects a rejection or throw with this code. */
export async function expectCode(action: () => unknown, code: ErrorCode): Promise<MomeError> {
  let failure: unknown;
  try {
    await action();
  } catch (error) {
    failure = error;
  }
  expect(failure).toBeInstanceOf(MomeError);
  expect((failure as MomeError).code).toBe(code);
  return failure as MomeError;
}
