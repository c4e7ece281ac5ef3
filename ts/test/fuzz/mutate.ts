/** Changes files at random, and again in the same way from the same seed. */
import { createRandom, type Random } from '../../src/train/random.ts';

export type { Random };
export { createRandom };

const bytes = [
  0, 1, 2, 0x0a, 0x20, 0x22, 0x28, 0x2c, 0x2e, 0x5b, 0x5d, 0x7b, 0x7d, 0x7f, 0x80, 0xc3, 0xfe, 0xff,
] as const;
const words = [
  0, 1, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff,
] as const;
const numbers = [
  '0',
  '-1',
  '1',
  '0.5',
  '3',
  '64',
  '257',
  '1e3',
  '65536',
  '2147483648',
  '9007199254740993',
  '1e308',
  '-0',
] as const;
const values = [
  ...[
    'null',
    'true',
    '""',
    '[]',
    '{}',
    '[[[[[[[[]]]]]]]]',
    '{"a":{"a":{"a":1}}}',
    '"\\ud800"',
    '"__proto__"',
    '{"__proto__":1}',
  ],
  ...['"constructor"', '"\\u0000"', '[null]', '"[MASK]"', '"../../x"', '1e400', '"NaN"'],
] as const;

/** One to six changes of `input`. */
export function mutate(input: Buffer, others: readonly Buffer[], random: Random): Buffer {
  let output: Buffer = Buffer.from(input);
  for (let changes = 1 + random.integer(6); changes > 0; changes--) output = change(output, others, random);
  // Growth by copies of copies would make each round slower than the one before.
  return output.subarray(0, 2 ** 17);
}

function change(input: Buffer, others: readonly Buffer[], random: Random): Buffer {
  const at = random.integer(Math.max(1, input.length));
  const end = Math.min(input.length, at + 1 + random.integer(random.pick([2, 8, 64, 1024])));
  const replaced = (middle: Buffer | string, from = at, to = end) =>
    Buffer.concat([input.subarray(0, from), Buffer.from(middle as string), input.subarray(to)]);
  switch (random.integer(10)) {
    case 0:
      return replaced(Buffer.of(random.integer(256)), at, at + 1);
    case 1:
      return replaced(Buffer.of(random.pick(bytes)), at, at + 1);
    case 2:
      return replaced(wordOf(random), at, at + 4);
    case 3:
      return replaced('');
    case 4:
      return input.subarray(0, at);
    case 5:
      return replaced(Buffer.concat(Array.from({ length: 1 + random.integer(64) }, () => input.subarray(at, end))));
    case 6: {
      const other = random.pick([input, ...others]);
      const from = random.integer(Math.max(1, other.length));
      return replaced(other.subarray(from, from + end - at), at, random.chance(0.5) ? at : end);
    }
    case 7:
      return replaceMatch(input, /-?\d+(?:\.\d+)?(?:e[+-]?\d+)?/gi, random.pick(numbers), random);
    case 8:
      return replaceMatch(
        input,
        /"(?:[^"\\]|\\.)*"|\[[^\][]*\]|\{[^{}]*\}|\b(?:true|false|null)\b/g,
        random.pick(values),
        random,
      );
    default:
      return replaceMatch(input, /"(?:[^"\\]|\\.)*"/g, `"${'x'.repeat(random.pick([0, 1, 40, 5000]))}"`, random);
  }
}

function wordOf(random: Random): Buffer {
  const word = Buffer.alloc(4);
  word.writeUInt32LE(random.pick(words));
  return word;
}

/** Replaces one of the places where `pattern` is found. */
function replaceMatch(input: Buffer, pattern: RegExp, replacement: string, random: Random): Buffer {
  const text = input.toString('latin1');
  const found = [...text.slice(0, 2 ** 15).matchAll(pattern)];
  if (found.length === 0) return input;
  const { index, 0: match } = random.pick(found);
  return Buffer.from(text.slice(0, index) + replacement + text.slice(index + match.length), 'latin1');
}
