import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MomeError } from '../../src/runtime/errors.ts';
import { type JsonLimits, parseJson } from '../../src/runtime/json.ts';
import { expectCode } from '../helpers.ts';
import { expectShortTurns } from '../loop-gap.ts';

const limits: JsonLimits = { bytes: 2 ** 24, depth: 64, values: 2 ** 24 };

async function parseStrictly(text: string): Promise<unknown> {
  try {
    return await parseJson(text, 'a.json', limits);
  } catch (error) {
    expect(error).toBeInstanceOf(MomeError);
    expect((error as MomeError).code).toBe('MOME_INVALID_FILE');
    return 'refused';
  }
}

function parseNatively(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return 'refused';
  }
}

describe('parseJson', () => {
  it('gives what JSON.parse gives', async () => {
    await fc.assert(
      fc.asyncProperty(fc.json({ maxDepth: 8 }), fc.constantFrom(undefined, 1, '\t'), async (text, indent) => {
        const indented = JSON.stringify(JSON.parse(text), null, indent);
        const spaced = indented.replaceAll('/', '\\/');
        expect(await parseJson(spaced, 'a.json', limits)).toStrictEqual(JSON.parse(spaced));
      }),
    );
    const large = JSON.stringify(
      Array.from({ length: 5000 }, (_, i) => ({ [`n${i}`]: [i / 7, -i, `\u2028"\\${i}`, null] })),
    );
    expect(await parseJson(large, 'a.json', limits)).toStrictEqual(JSON.parse(large));
  });

  it('refuses what JSON.parse refuses', async () => {
    const piece = fc.constantFrom(
      ...[
        '{',
        '}',
        '[',
        ']',
        ',',
        ':',
        '"',
        '\\',
        'a',
        '1',
        '-',
        '.',
        'e',
        '0',
        ' ',
        '\n',
        'true',
        'nul',
        '\u0000',
        '""',
      ],
      ...[
        '"a":',
        '\\u00',
        '"\\ud800"',
        '\ufeff',
        '\u00a0',
        '__proto__',
        '"__proto__":{"x":1}',
        '1e999',
        '-0',
        '+1',
        '01',
      ],
    );
    let valid = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 10 }), async (pieces) => {
        const text = pieces.join('');
        const expected = parseNatively(text);
        if (expected !== 'refused') valid++;
        expect(await parseStrictly(text)).toStrictEqual(expected);
      }),
      { numRuns: 5000 },
    );
    expect(valid).toBeGreaterThan(50);
  });

  it('keeps a name that would be a prototype as a name', async () => {
    const parsed = (await parseJson('{"__proto__":{"x":1}}', 'a.json', limits)) as object;
    expect(Object.keys(parsed)).toEqual(['__proto__']);
    expect('x' in parsed).toBe(false);
  });

  it.each(['{"\\', '"\\', '["a\\', '{"a":"\\'])('ends on %s, whose last character escapes nothing', async (text) => {
    await expectCode(() => parseJson(text, 'a.json', limits), 'MOME_INVALID_FILE');
  });

  it.each([
    ['deep lists', '['.repeat(65), { depth: 64 }],
    ['deep objects', '{"a":'.repeat(65), { depth: 64 }],
    ['many values', `[${'1,'.repeat(100)}1]`, { values: 100 }],
    ['many names', `{${'"a":1,'.repeat(60)}"a":1}`, { values: 100 }],
    ['a long text', `["${'\\\\'.repeat(2 ** 19)}a"]`, {}],
    ['a long name', `{"${'a'.repeat(2 ** 20 + 1)}":1}`, {}],
    ['many bytes', '"aaaaaaaaaaaaa"', { bytes: 10 }],
  ])('refuses %s', async (_, text, changed) => {
    await expectCode(() => parseJson(text, 'a.json', { ...limits, ...changed }), 'MOME_TOO_LARGE');
  });

  it.each([
    ['lists', `[${'[[[]]],'.repeat(2 ** 15)}1]`],
    ['distinct names', `{${Array.from({ length: 2 ** 16 }, (_, i) => `"${i.toString(36)}x":1`).join()}}`],
    ['objects of other shapes', `[${Array.from({ length: 2 ** 16 }, (_, i) => `{"${i.toString(36)}x":1}`).join()}]`],
    ['numbers', `[${'1.5,'.repeat(2 ** 18)}1]`],
    ['one text', `"${'a'.repeat(2 ** 20 - 1)}"`],
    ['one text of escapes', `"${'\\u0041'.repeat(2 ** 17)}"`],
    ['one text of short escapes', `"${'\\\\'.repeat(2 ** 19 - 1)}"`],
    ['one number', '1'.repeat(2 ** 20)],
    ['spaces', `${' '.repeat(2 ** 20)}1`],
  ])('holds the loop shortly for many or large: %s', async (_, text) => {
    await expectShortTurns(() => parseJson(text, 'a.json', limits));
  });
});
