import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as tokenizers from '@huggingface/tokenizers';
import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
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

  it.each([
    ['words', 'red square ', false, 4000],
    ['Chinese characters', '红', false, 4000],
    ['punctuation', '.', false, 4000],
    ['special pieces', '[MASK]', false, 4000],
    ['one letter', 'a', true, 2 ** 18],
    ['spaces', ' ', true, 2 ** 18],
    ['control characters', '\0', true, 2 ** 18],
  ])('costs little for a megabyte of %s', async (_, unit, refused, most) => {
    const encode = vi.spyOn(tokenizers.Tokenizer.prototype, 'encode');
    const text = unit.repeat(Math.ceil(2 ** 20 / unit.length));
    if (refused) await expectCode(() => tokenizer.encode(text), 'MOME_TOO_LARGE');
    else expect(tokenizer.encode(text)).toHaveLength(12);
    const calls = encode.mock.calls as readonly (readonly [string])[];
    const given = calls.reduce((sum, [part]) => sum + part.length, 0);
    encode.mockRestore();
    expect(given).toBeGreaterThan(0);
    expect(given).toBeLessThan(most);
  });

  it('gives the pieces of the whole text, wherever it is cut', () => {
    const whole = createTokenizer(vocabulary.join('\n'), { maxLength: 4096 });
    const words = 'red squares [MASK] '.repeat(8);
    for (let spaces = 600; spaces < 768; spaces++) {
      const text = ' '.repeat(spaces) + words;
      expect([...tokenizer.encode(text)]).toEqual([...whole.encode(text).slice(0, 11), id('[SEP]')]);
    }
    const unit = fc.constantFrom(
      'red',
      'square',
      's',
      'é',
      'e\u0301',
      'Σ',
      '红',
      '😀',
      ',',
      ' ',
      '  ',
      '\n',
      '\0',
      '[MASK]',
      'ish',
    );
    const word = fc.tuple(unit, fc.constantFrom(1, 1, 1, 30, 130)).map(([each, times]) => each.repeat(times));
    fc.assert(
      fc.property(fc.array(word, { minLength: 5, maxLength: 150 }), (words) => {
        const text = words.join('');
        const all = whole.encode(text);
        const kept = [...all.slice(0, Math.min(all.length - 1, 11)), all.at(-1)];
        expect([...tokenizer.encode(text)]).toEqual(kept);
      }),
      { numRuns: 200 },
    );
  });
});

describe('tokenizer files', () => {
  const bert = {
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
  };
  const read = (changes: object) => createTokenizer(JSON.stringify({ ...bert, ...changes }), { maxLength: 12 });

  it('may be a tokenizer.json', () => {
    expect(read({ added_tokens: [] }).encode('red squares')).toEqual(tokenizer.encode('red squares'));
    const special = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
    const as = (token: string, typeId: number) => ({ SpecialToken: { id: token, type_id: typeId } });
    const sequence = { Sequence: { id: 'A', type_id: 0 } };
    const published = read({
      version: '1.0',
      truncation: { direction: 'Right', max_length: 512, strategy: 'LongestFirst', stride: 0 },
      padding: null,
      added_tokens: ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'].map((content, i) => ({
        id: i,
        content,
        ...special,
      })),
      post_processor: { type: 'TemplateProcessing', single: [as('[CLS]', 0), sequence, as('[SEP]', 0)], pair: [] },
    });
    expect(published.encode('a [MASK] squares')).toEqual(tokenizer.encode('a [MASK] squares'));
  });

  it('may have sequences of parts, and ids that no piece has', () => {
    const sparse = read({
      normalizer: { type: 'Sequence', normalizers: [{ type: 'NFD' }, { type: 'Lowercase' }, { type: 'StripAccents' }] },
      pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'WhitespaceSplit' }, { type: 'Punctuation' }] },
      model: { ...bert.model, vocab: { ...bert.model.vocab, late: 200 } },
    });
    expect(sparse.encode('Réd squares,late')).toEqual(
      Int32Array.from([2, id('red'), id('square'), id('##s'), id(','), 200, 3]),
    );
    expect(sparse.vocabularySize).toBe(201);
  });

  const slow = { Regex: '(a+)+$' };
  const sequenceOf = (list: string, part: object) => ({ type: 'Sequence', [list]: [part] });
  it.each<[string, object]>([
    ['a normalizer with a pattern', { normalizer: { type: 'Replace', pattern: slow, content: '' } }],
    ['a sequence of them', { normalizer: sequenceOf('normalizers', { type: 'Replace', pattern: slow, content: '' }) }],
    ['a text that grows', { normalizer: { type: 'Replace', pattern: { String: 'a' }, content: 'aa' } }],
    ['a text put before', { normalizer: { type: 'Prepend', prepend: 'a'.repeat(1000) } }],
    ['a splitter with a pattern', { pre_tokenizer: { type: 'Split', pattern: slow, behavior: 'Isolated' } }],
    ['a sequence of those', { pre_tokenizer: sequenceOf('pretokenizers', { type: 'Split', pattern: slow }) }],
    ['sequences in sequences', { pre_tokenizer: sequenceOf('pretokenizers', sequenceOf('pretokenizers', {})) }],
    ['a pattern where none belongs', { pre_tokenizer: { type: 'BertPreTokenizer', pattern: slow } }],
    ['a long replacement', { pre_tokenizer: { type: 'Metaspace', str_rep: '_'.repeat(1000) } }],
    ['a decoder with a pattern', { decoder: { type: 'Replace', pattern: slow, content: '' } }],
  ])('with %s are refused', async (_, changes) => {
    await expectCode(() => read(changes), 'MOME_UNSUPPORTED');
  });

  it.each<[string, object]>([
    ['an id of billions', { model: { ...bert.model, vocab: { ...bert.model.vocab, far: 2 ** 32 - 2 } } }],
    ['a special piece of billions', { added_tokens: [{ id: 2 ** 32 - 2, content: '[X]' }] }],
    ['words without end', { model: { ...bert.model, max_input_chars_per_word: 1e9 } }],
    ['a long prefix', { model: { ...bert.model, continuing_subword_prefix: '#'.repeat(1000) } }],
  ])('with %s are refused', async (_, changes) => {
    await expectCode(() => read(changes), 'MOME_INVALID_FILE');
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
