import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MomeError } from '../../src/runtime/errors.ts';
import { uncased, wordsOf } from '../../src/text/bert.ts';
import { createTokenizer, loadTokenizer } from '../../src/text/tokenizer.ts';
import { buildVocabulary } from '../../src/text/vocabulary.ts';
import { bertTokenizerJson, expectCode, temporaryFolder, tinyVocabulary } from '../helpers.ts';
import { expectShortTurns } from '../loop-gap.ts';

const vocabulary = tinyVocabulary();
const long = await createTokenizer(vocabulary.join('\n'), { maxLength: 4096 });
const id = (piece: string) => vocabulary.indexOf(piece);
const tokenizer = await createTokenizer(vocabulary.join('\n'), { maxLength: 12 });
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

  it.each([
    // Characters of every block that BERT takes for Chinese are words of their own; those beside the blocks are not.
    ['a猫b', 'a 猫 b'],
    ['a\u{20bb7}b', 'a \u{20bb7} b'],
    ['a\u3400b\u4dbfc\u4e00d\u9fffe', 'a \u3400 b \u4dbf c \u4e00 d \u9fff e'],
    ['a\u{20000}b\u{2a6d6}c', 'a \u{20000} b \u{2a6d6} c'],
    ['a\u{2a700}b\u{2b734}c\u{2b740}d\u{2b81d}e', 'a \u{2a700} b \u{2b734} c \u{2b740} d \u{2b81d} e'],
    ['a\u{2b820}b\u{2cea1}c', 'a \u{2b820} b \u{2cea1} c'],
    ['a\u{2ceb0}b', 'a\u{2ceb0}b'],
    ['a\u{30000}b', 'a\u{30000}b'],
    ['aひb한c', 'aひb\u1112\u1161\u11abc'],
    // Compatibility ideographs become the characters that they stand for.
    ['a\uf900b\u{2f800}c', 'a \u8c48 b \u4e3d c'],
    ['cat\u0378dog\u{2fa1e}cat', 'catdogcat'],
    ['cat\u200bdog\u00ad\u0001\u007f\ufeff\ue000', 'catdog'],
    ['\ud83dcat\udc00dog', 'catdog'],
    ['cat\u00a0dog\u3000cat\u2028dog\u0085cat', 'cat dog cat dogcat'],
    ['Éé e\u0327\u0301 İ', 'ee e i'],
    ['ΟΔΟΣ ΣΑΣ.', 'οδος σας .'],
    ['a^b`c|d~e$f+g<h=i>j', 'a ^ b ` c | d ~ e $ f + g < h = i > j'],
    ['don’t—stop', 'don ’ t — stop'],
    ['½ ™ 😀x', '½ ™ 😀x'],
  ])('splits %j into words as BERT does', (text, expected) => {
    expect([...wordsOf(text, uncased, 100)]).toEqual(expected.split(' '));
  });

  it('has no pieces for words of more than a hundred code points', async () => {
    const letters = await createTokenizer([...vocabulary, '##a', '\u{10400}', '##\u{10428}', '\u{10428}'].join('\n'), {
      maxLength: 256,
    });
    const count = (text: string) => letters.encode(text).length - 2;
    expect([count('a'.repeat(100)), count('a'.repeat(101)), count('a\u0301'.repeat(100))]).toEqual([100, 1, 100]);
    expect([count('\u{10400}'.repeat(100)), count('\u{10400}'.repeat(101))]).toEqual([100, 1]);
  });

  it('finds special pieces as they are written, and nothing like them', () => {
    expect(pieces('a[MASK]red')).toEqual(['[CLS]', 'a', '[MASK]', 'red', '[SEP]']);
    expect(pieces('[MASK').slice(1, -1)).toEqual(['[UNK]', '[UNK]']);
    expect(pieces('[mask] red').slice(1, -1)).toEqual(['[UNK]', '[UNK]', '[UNK]', 'red']);
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
    ['words', 'red square ', 12],
    ['Chinese characters', '红', 12],
    ['Chinese characters beyond the basic plane', '\u{20000}', 12],
    ['punctuation', '.', 12],
    ['special pieces', '[MASK]', 12],
    ['beginnings of special pieces', '[MAS', 12],
    ['one letter', 'a', 3],
    ['one letter with accents', 'e\u0301', 3],
    ['accents', '\u0301', 2],
    ['spaces', ' ', 2],
    ['control characters', '\0', 2],
    ['emoji', '😀', 3],
    ['other half characters', '\udc00', 2],
    ['words of capital sigmas', "Σ'", 12],
  ])('holds the loop shortly for a megabyte of %s', async (_, unit, length) => {
    const text = unit.repeat(Math.floor(2 ** 17 / unit.length));
    expect((await expectShortTurns(() => tokenizer.encode(text))).length).toBe(length);
    expect((await expectShortTurns(() => long.encode(text))).length).toBeGreaterThan(1);
    // A longer text costs no more: it is refused where its first characters hold too few pieces.
    const much = text.repeat(8);
    const encoded = await expectShortTurns(() =>
      Promise.resolve(much)
        .then(tokenizer.encode.bind(tokenizer))
        .catch((error: MomeError) => error.code),
    );
    expect(encoded).toEqual(length === 12 ? tokenizer.encode(text) : 'MOME_TOO_LARGE');
  });

  it('looks at the first 2^17 characters', async () => {
    expect(pieces(`${' '.repeat(2 ** 17 - 3)}red`)).toEqual(['[CLS]', 'red', '[SEP]']);
    await expectCode(() => tokenizer.encode(`${' '.repeat(2 ** 17)}red`), 'MOME_TOO_LARGE');
  });

  it('changes long words as short ones, wherever they are cut', async () => {
    // "ς" ends a word, "σ" does not; accents go, and a word of many accents is short.
    const greek = await createTokenizer([...vocabulary, 'σας', 'σα', 'e'].join('\n'), { maxLength: 2 ** 15 });
    const pieceOf = [...vocabulary, 'σας', 'σα', 'e'];
    for (const [word, unit, expected] of [
      ['ΣΑΣ', 'ΣΑΣ,', 'σας'],
      ['ΣΑ', 'ΣΑ,', 'σα'],
      ['E', `E${'\u0301'.repeat(3)}.`, 'e'],
      ['E', `E${'\u0301'.repeat(9000)}.`, 'e'],
      ['20bb7', '\u{20bb7}\ufe0f', '[UNK]'],
    ]) {
      for (const before of ['', ',', ',,']) {
        const ids = greek.encode(before + unit!.repeat(Math.floor(30_000 / unit!.length)));
        const found = new Set([...ids].slice(1, -1).map((each) => pieceOf[each]));
        expect([word, [...found].filter((each) => !/^[,.-]$/.test(each!))]).toEqual([word, [expected]]);
      }
    }
  });

  it('gives the pieces of the whole text, wherever it is cut', async () => {
    const whole = await createTokenizer(vocabulary.join('\n'), { maxLength: 4096 });
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
  const bert = bertTokenizerJson(vocabulary);
  const read = (changes: object) => createTokenizer(JSON.stringify({ ...bert, ...changes }), { maxLength: 12 });

  it('may be a tokenizer.json', async () => {
    expect((await read({ added_tokens: [] })).encode('red squares')).toEqual(tokenizer.encode('red squares'));
    const special = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
    const as = (token: string, typeId: number) => ({ SpecialToken: { id: token, type_id: typeId } });
    const sequence = { Sequence: { id: 'A', type_id: 0 } };
    const published = await read({
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

  it('may add special pieces of any characters', async () => {
    const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
    for (const piece of [
      '[my-piece]',
      '-',
      '\\d+',
      '(?:a',
      '<|a/b|>',
      '^$',
      '{1}',
      '.*',
      '😀',
      '\ud800',
      '&&',
      '__proto__',
    ]) {
      const with119 = await read({ added_tokens: [{ id: 119, content: piece, ...flags }] });
      expect(with119.encode(`red${piece}blue`), piece).toEqual(Int32Array.from([2, id('red'), 119, id('blue'), 3]));
    }
  });

  it('with very many options are refused shortly', async () => {
    const many = Object.fromEntries(Array.from({ length: 2 ** 16 }, (_, i) => [`k${i}`, 1]));
    const texts = [
      { ...many, ...bert },
      { ...bert, model: { ...many, ...bert.model } },
      { ...bert, normalizer: { ...bert.normalizer, ...many } },
      { ...bert, normalizer: { type: 'Sequence', normalizers: [{ type: 'NFD', ...many }] } },
      { ...bert, added_tokens: [{ ...bert.added_tokens[0], ...many }] },
    ].map((json) => JSON.stringify(json));
    for (const text of texts)
      await expectShortTurns(() => expectCode(() => createTokenizer(text, { maxLength: 12 }), 'MOME_TOO_LARGE'));
  });

  it('may have sequences of parts, and ids that no piece has', async () => {
    const sparse = await read({
      normalizer: { type: 'Sequence', normalizers: [{ type: 'NFD' }, { type: 'Lowercase' }, { type: 'StripAccents' }] },
      pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'WhitespaceSplit' }, { type: 'Punctuation' }] },
      model: { ...bert.model, vocab: { ...bert.model.vocab, late: 200 } },
    });
    expect(sparse.encode('Réd squares,late')).toEqual(
      Int32Array.from([2, id('red'), id('square'), id('##s'), id(','), 200, 3]),
    );
    expect(sparse.vocabularySize).toBe(201);
    expect(sparse.decode(sparse.encode('red [MASK] squares'))).toBe('red squares');
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
  it('joins the most frequent pairs first', async () => {
    const built = await buildVocabulary(['low low low lower lowest', 'newer wider'], { size: 40, minFrequency: 2 });
    expect(built.slice(0, 5)).toEqual(['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']);
    expect(built).toContain('low');
    expect(built).not.toContain('lowest');
    expect(new Set(built).size).toBe(built.length);
    const learned = await createTokenizer(built.join('\n'), { maxLength: 20 });
    expect([...learned.encode('lower newest')].includes(1)).toBe(false);
  });
  it('needs room for the characters', () =>
    expectCode(() => buildVocabulary(['abc'], { size: 6, minFrequency: 1 }), 'MOME_INVALID_ARGUMENT'));
});

describe("tokenizers of other kinds than BERT's", () => {
  const pieces = [...tinyVocabulary(), ...Array.from({ length: 2 ** 14 - 120 }, (_, i) => `p${i}`)];
  const json = (vocabulary: readonly string[]) =>
    JSON.stringify({
      normalizer: { type: 'Lowercase' },
      pre_tokenizer: { type: 'Whitespace' },
      model: {
        type: 'WordPiece',
        unk_token: '[UNK]',
        vocab: Object.fromEntries(vocabulary.map((piece, i) => [piece, i])),
      },
    });

  it('hold the loop shortly with as many pieces and as long texts as may be', { timeout: 120_000 }, async () => {
    const text = json(pieces);
    const other = await expectShortTurns(() => createTokenizer(text, { maxLength: 4096 }));
    expect(other.vocabularySize).toBe(2 ** 14);
    for (const unit of ['red ', ' ', 'é', '.', 'a'])
      await expectShortTurns(() =>
        Promise.resolve(unit.repeat(2 ** 14))
          .then((long) => other.encode(long))
          .catch(() => {}),
      );
  });

  it('have as many pieces as that at most', async () => {
    await expectCode(() => createTokenizer(json([...pieces, 'more']), { maxLength: 12 }), 'MOME_TOO_LARGE');
  });
});
