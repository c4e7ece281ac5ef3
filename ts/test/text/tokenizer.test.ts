import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MomeError } from '../../src/runtime/errors.ts';
import { createTokenizer, loadTokenizer } from '../../src/text/tokenizer.ts';
import { buildVocabulary } from '../../src/text/vocabulary.ts';
import { expectCode, temporaryFolder, tinyVocabulary } from '../helpers.ts';

const vocabulary = tinyVocabulary();
const id = (piece: string) => vocabulary.indexOf(piece);
const tokenizer = createTokenizer(vocabulary.join('\n'), { maxLength: 12 });
const pieces = (text: string) => [...tokenizer.encode(text)].map((each) => vocabulary[each]);

describe('WordPiece', () => {
  it('splits as BERT does', () => {
    expect(pieces('A RED squares,circle.')).toEqual([
      '[CLS]',
      'a',
      'red',
      'square',
      '##s',
      ',',
      'circle',
      '.',
      '[SEP]',
    ]);
    expect(pieces('réd  reddish\tunknown')).toEqual(['[CLS]', 'red', '[UNK]', '[UNK]', '[SEP]']);
    expect(pieces('')).toEqual(['[CLS]', '[SEP]']);
    expect(pieces('a [MASK] square')).toEqual(['[CLS]', 'a', '[MASK]', 'square', '[SEP]']);
  });

  it('keeps the first pieces of a long text, and SEP', () => {
    const long = pieces('red '.repeat(10_000));
    expect(long).toEqual(['[CLS]', ...Array<string>(10).fill('red'), '[SEP]']);
    expect(pieces(`${' '.repeat(50_000)}red`)).toEqual(['[CLS]', 'red', '[SEP]']);
    expect(pieces('a'.repeat(100_000))).toEqual(['[CLS]', '[UNK]', '[SEP]']);
  });

  it('knows special and continuing pieces', () => {
    expect(tokenizer.vocabularySize).toBe(120);
    expect(tokenizer.maskId).toBe(id('[MASK]'));
    expect(tokenizer.isSpecial(id('[CLS]'))).toBe(true);
    expect(tokenizer.isSpecial(id('red'))).toBe(false);
    expect(tokenizer.isContinuation(id('##s'))).toBe(true);
    expect(tokenizer.decode(tokenizer.encode('red squares'))).toBe('red squares');
  });

  it('gives ids inside the vocabulary for any text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 300 }), (text) => {
        const ids = tokenizer.encode(text);
        expect(ids.length).toBeGreaterThanOrEqual(2);
        expect(ids.length).toBeLessThanOrEqual(12);
        expect(ids.every((each) => each >= 0 && each < 120)).toBe(true);
      }),
    );
  });

  it('costs little for a megabyte of text', () => {
    const started = performance.now();
    tokenizer.encode('red square '.repeat(100_000));
    expect(performance.now() - started).toBeLessThan(200);
  });
});

describe('tokenizer files', () => {
  it('may be a tokenizer.json', async () => {
    const json = JSON.stringify({
      added_tokens: [],
      normalizer: {
        type: 'BertNormalizer',
        lowercase: true,
        clean_text: true,
        handle_chinese_chars: true,
        strip_accents: null,
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
    expect(createTokenizer(json, { maxLength: 12 }).encode('red squares')).toEqual(tokenizer.encode('red squares'));
  });

  it.each([
    ['no pieces', ''],
    ['no special pieces', Array.from({ length: 20 }, (_, i) => `w${i}`).join('\n')],
    ['broken JSON', '{"model":'],
    ['no model', '{"version":"1.0"}'],
    ['a model of another kind', '{"model":{"type":"Nonsense","vocab":{"a":1}}}'],
    ['a vocabulary of text', '{"model":{"type":"WordPiece","vocab":"lots"}}'],
  ])('with %s are refused', async (_, text) => {
    await expectCode(() => createTokenizer(text, { maxLength: 12 }), 'MOME_INVALID_FILE');
  });

  it('that are missing or damaged give a coded error', async () => {
    await expectCode(() => loadTokenizer('/nowhere/vocab.txt', { maxLength: 12 }), 'MOME_NOT_FOUND');
    const path = join(await temporaryFolder(), 'vocab.txt');
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 400 }), async (bytes) => {
        await writeFile(path, bytes);
        await loadTokenizer(path, { maxLength: 12 }).catch((error: unknown) => expect(error).toBeInstanceOf(MomeError));
      }),
      { numRuns: 50 },
    );
  });
});

describe('buildVocabulary', () => {
  it('joins the most frequent pairs first', () => {
    const built = buildVocabulary(['low low low lower lowest', 'newer wider'], { size: 40, minFrequency: 2 });
    expect(built.slice(0, 5)).toEqual(['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']);
    expect(built).toContain('low');
    expect(built).not.toContain('lowest');
    expect(new Set(built).size).toBe(built.length);
    const learned = createTokenizer(built.join('\n'), { maxLength: 20 });
    expect([...learned.encode('lower newest')].includes(1)).toBe(false);
  });
  it('needs room for the characters', () =>
    expectCode(() => buildVocabulary(['abc'], { size: 6, minFrequency: 1 }), 'MOME_INVALID_ARGUMENT'));
});
