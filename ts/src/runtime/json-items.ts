/**
 * The values of one list of a JSON file that is too large to be held as a whole, one after the other.
 */
import { Readable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import type { Token } from 'stream-json/parser.js';
import { check, MomeError } from './errors.ts';
import { InputFile, refuseLfsPointer } from './input-file.ts';

/** Bytes that are parsed in one turn of the event loop. */
const turnBytes = 2 ** 12;

export interface JsonItemsOptions {
  /** Name of the list in the outermost object; where it is left out, the file is a list itself. */
  readonly list?: string;
  /** Names whose values are not kept, wherever they stand. */
  readonly leftOut?: readonly string[];
  /** Most lists and objects inside each other. */
  readonly depth: number;
  /** Most bytes of the file. */
  readonly bytes: number;
}

/**
 * The values of `options.list`, in order, while other events run.
 *
 * @param what names the file in messages, such as "a split file"
 * @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE` for text that is no JSON or has no such list, `MOME_TOO_LARGE`, `MOME_IO`
 */
export async function* jsonItems(path: string, what: string, options: JsonItemsOptions): AsyncGenerator<unknown, void> {
  const { list, leftOut = [], depth, bytes } = options;
  const file = await InputFile.open(path, what);
  try {
    check(
      file.size <= bytes,
      'MOME_TOO_LARGE',
      `${path}: expected ${what} of at most ${bytes} bytes, got ${file.size}`,
    );
    refuseLfsPointer(await file.read(0, Math.min(file.size, 64)), path, what);
    const { chain, parser, pick, ignore, streamArray } = await streamLibrary();
    let found = list === undefined;
    const isIgnored = new Set(leftOut);
    const values = chain([
      Readable.from(turns(file), { objectMode: false, highWaterMark: 1 }),
      parser({ packValues: true, streamValues: false }),
      limitDepth(path, depth),
      ...(list === undefined
        ? []
        : [
            pick({
              filter: (stack) => {
                const isList = stack[0] === list;
                found ||= isList;
                return isList;
              },
            }),
          ]),
      ignore({ filter: (stack) => isIgnored.has(String(stack.at(-1))) }),
      streamArray(),
    ]);
    for await (const { value } of values as AsyncIterable<{ readonly value: unknown }>) yield value;
    check(found, 'MOME_INVALID_FILE', `${path}: expected an object with a list "${list}", found none`);
  } catch (error) {
    if (error instanceof MomeError) throw error;
    const expected = list === undefined ? 'a list in JSON' : `JSON with a list "${list}"`;
    throw new MomeError('MOME_INVALID_FILE', `${path}: expected ${what} as ${expected}, got other text`, {
      cause: error,
    });
  } finally {
    file.close();
  }
}

/** The library, which is loaded when the first file is read. */
async function streamLibrary() {
  const [{ chain }, { parser }, { pick }, { ignore }, { streamArray }] = await Promise.all([
    import('stream-chain'),
    import('stream-json/parser.js'),
    import('stream-json/filters/pick.js'),
    import('stream-json/filters/ignore.js'),
    import('stream-json/streamers/stream-array.js'),
  ]);
  return { chain, parser, pick, ignore, streamArray };
}

/** The bytes of a file without its byte order mark, in parts that are short work. */
async function* turns(file: InputFile): AsyncGenerator<Uint8Array, void> {
  let first = true;
  for await (const piece of file.pieces()) {
    const hasMark = first && piece[0] === 0xef && piece[1] === 0xbb && piece[2] === 0xbf;
    for (let at = hasMark ? 3 : 0; at < piece.length; at += turnBytes) {
      yield piece.subarray(at, at + turnBytes);
      await setImmediate();
    }
    first = false;
  }
}

/** Passes tokens on. @throws MomeError `MOME_TOO_LARGE` for lists and objects deeper inside each other than `depth` */
function limitDepth(path: string, depth: number) {
  let open = 0;
  return (token: Token): Token => {
    if (token.name === 'startObject' || token.name === 'startArray') open++;
    else if (token.name === 'endObject' || token.name === 'endArray') open--;
    check(
      open <= depth,
      'MOME_TOO_LARGE',
      `${path}: expected at most ${depth} lists and objects inside each other, got more`,
    );
    return token;
  };
}
