/**
 * Plain text: each line, or each paragraph, is an item. Where every few of them begin is noted when a file is opened; the text stays in the
 * file.
 */
import { createHash } from 'node:crypto';
import { check, MomeError } from '../../runtime/errors.ts';
import { InputFile, refuseLfsPointer } from '../../runtime/input-file.ts';
import { Pace } from '../../runtime/pace.ts';
import type { Dataset } from './dataset.ts';

/** Items between two places that are noted. */
const stride = 16;
const mostItemBytes = 2 ** 20;
const pieceBytes = 2 ** 18;
const lineFeed = 0x0a;

export type TextUnit = 'line' | 'paragraph';

/** @throws MomeError `MOME_NOT_FOUND`; `MOME_INVALID_FILE` for bytes that are no text; `MOME_TOO_LARGE` for an item of more than 2^20 bytes */
export async function openText(path: string, unit: TextUnit = 'line'): Promise<Dataset> {
  const file = await InputFile.open(path, 'a text file');
  try {
    refuseLfsPointer(await file.read(0, Math.min(file.size, 64)), path, 'a text file');
    const index = await indexOf(file, unit);
    check(index.length > 0, 'MOME_INVALID_FILE', `${path}: expected at least one ${unit} of text, got none`);
    return new TextFile(file, unit, index);
  } catch (error) {
    file.close();
    throw error;
  }
}

interface TextIndex {
  readonly length: number;
  /** Byte at which every {@link stride}th item begins. */
  readonly places: Float64Array;
  readonly hash: string;
}

class TextFile implements Dataset {
  readonly length: number;
  readonly picturesPerItem = 0;
  readonly #file: InputFile;
  readonly #unit: TextUnit;
  readonly #index: TextIndex;
  /** The block that was read last. */
  #block: { readonly number: number; readonly items: Promise<readonly Uint8Array[]> } | undefined;

  constructor(file: InputFile, unit: TextUnit, index: TextIndex) {
    this.#file = file;
    this.#unit = unit;
    this.#index = index;
    this.length = index.length;
  }

  async item(index: number) {
    check(
      Number.isInteger(index) && index >= 0 && index < this.length,
      'MOME_INVALID_ARGUMENT',
      `${this.#file.path}: expected an index below ${this.length}, got ${index}`,
    );
    const bytes = (await this.#items(Math.floor(index / stride)))[index % stride]!;
    return { pictures: [], texts: [textOf(bytes, this.origin(index))], group: index };
  }

  origin(index: number): string {
    return `${this.#file.path}: ${this.#unit} ${index + 1} of those with text`;
  }

  async *itemTexts() {
    const pace = new Pace();
    for (let block = 0; block * stride < this.length; block++) {
      for (const bytes of await this.#items(block)) yield [lenient.decode(bytes)];
      await pace.rest();
    }
  }

  async fingerprint(): Promise<string> {
    return `${this.#unit} ${this.#index.hash}`;
  }

  close(): void {
    this.#file.close();
  }

  #items(number: number): Promise<readonly Uint8Array[]> {
    if (this.#block?.number !== number) this.#block = { number, items: this.#read(number) };
    return this.#block.items;
  }

  async #read(number: number): Promise<readonly Uint8Array[]> {
    const { places } = this.#index;
    const begin = places[number]!;
    const bytes = await this.#file.read(begin, (places[number + 1] ?? this.#file.size) - begin);
    const scanner = new TextScanner(this.#unit);
    const items = [...scanner.push(bytes, 0), ...scanner.end()];
    const count = Math.min(stride, this.length - number * stride);
    check(
      items.length === count,
      'MOME_INVALID_FILE',
      `${this.#file.path}: expected ${count} items at byte ${begin}, got ${items.length}: the file was written to`,
    );
    return items.map(([first, last]) => bytes.subarray(first, last));
  }
}

async function indexOf(file: InputFile, unit: TextUnit): Promise<TextIndex> {
  const hash = createHash('sha256');
  const scanner = new TextScanner(unit);
  const pace = new Pace();
  let places = new Float64Array(1024);
  let length = 0;
  const note = (items: Iterable<readonly [number, number]>) => {
    for (const [first, last] of items) {
      const origin = `${file.path}: ${unit} ${length + 1} of those with text`;
      check(
        last - first <= mostItemBytes,
        'MOME_TOO_LARGE',
        `${origin}: expected at most ${mostItemBytes} bytes, got more`,
      );
      if (length % stride === 0) {
        const block = length / stride;
        if (block === places.length) {
          const larger = new Float64Array(2 * places.length);
          larger.set(places);
          places = larger;
        }
        places[block] = first;
      }
      length++;
    }
    check(length < 2 ** 32, 'MOME_TOO_LARGE', `${file.path}: expected fewer than 2^32 items, got more`);
  };
  let at = 0;
  for await (const piece of file.pieces()) {
    if (at === 0) requireText(piece, file.path);
    for (let begin = 0; begin < piece.length; begin += pieceBytes) {
      const part = piece.subarray(begin, begin + pieceBytes);
      hash.update(part);
      note(scanner.push(part, at));
      at += part.length;
      check(
        scanner.open < 0 || at - scanner.open <= mostItemBytes + pieceBytes,
        'MOME_TOO_LARGE',
        `${file.path}: ${unit} ${length + 1} of those with text: expected at most ${mostItemBytes} bytes, got more`,
      );
      await pace.rest();
    }
  }
  note(scanner.end());
  return { length, places: places.slice(0, Math.ceil(length / stride)), hash: hash.digest('hex') };
}

/** @throws MomeError `MOME_INVALID_FILE` for the beginning of a file that is not text in UTF-8 */
function requireText(bytes: Uint8Array, path: string): void {
  const start = bytes.subarray(0, 4096);
  const isUtf16 = (start[0] === 0xff && start[1] === 0xfe) || (start[0] === 0xfe && start[1] === 0xff);
  check(
    !isUtf16 && !start.includes(0),
    'MOME_INVALID_FILE',
    `${path}: expected text in UTF-8, got ${isUtf16 ? 'UTF-16' : 'bytes that are no text'}`,
  );
}

/** Finds items in pieces of a text: [first byte, byte behind the last]. Lines of white space alone are none, and part paragraphs. */
class TextScanner {
  readonly #unit: TextUnit;
  /** First byte of the item that is not yet at its end, -1 for none. */
  open = -1;
  #last = 0;
  #lineHasText = false;
  #at = 0;

  constructor(unit: TextUnit) {
    this.#unit = unit;
  }

  *push(bytes: Uint8Array, first: number): Generator<readonly [number, number], void> {
    for (let i = 0; i < bytes.length; i++) {
      const byte = bytes[i]!;
      if (byte === lineFeed) {
        if (this.open >= 0 && (this.#unit === 'line' || !this.#lineHasText)) {
          yield [this.open, this.#last];
          this.open = -1;
        }
        this.#lineHasText = false;
      } else if (byte > 0x20) {
        if (this.open < 0) this.open = first + i;
        this.#lineHasText = true;
        this.#last = first + i + 1;
      }
    }
    this.#at = first + bytes.length;
  }

  *end(): Generator<readonly [number, number], void> {
    if (this.open >= 0) yield [this.open, Math.min(this.#last, this.#at)];
    this.open = -1;
  }
}

const lenient = new TextDecoder();
const strict = new TextDecoder('utf-8', { fatal: true });

function textOf(bytes: Uint8Array, origin: string): string {
  try {
    return strict.decode(bytes);
  } catch (error) {
    throw new MomeError('MOME_INVALID_FILE', `${origin}: expected UTF-8, got other bytes`, { cause: error });
  }
}
