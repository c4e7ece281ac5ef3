/**
 * Reads JSON of other people in pieces, so that no text holds up the event loop or fills the memory: `JSON.parse` takes seconds for some
 * megabytes of nested lists or of distinct names.
 */
import { check, MomeError } from './errors.ts';
import { readText } from './input-file.ts';
import { Pace } from './pace.ts';

/** Limits of a text. */
export interface JsonLimits {
  /** Most bytes of the text in UTF-8. */
  readonly bytes: number;
  /** Most lists and objects inside each other. */
  readonly depth: number;
  /** Most values, names of objects included. */
  readonly values: number;
  /** Most characters of one text, which is read in one piece; default 2^20. */
  readonly text?: number;
  /** Most escapes of one text; default: no limit but its length. */
  readonly escapes?: number;
}

/** Bytes of a text that is read in one piece: some milliseconds of work, whatever it holds. */
const smallText = 2 ** 14;
/** Most characters of one text where no limit is given. */
const maxTextLength = 2 ** 20;
/** Values between two looks at the clock. */
const valuesPerPiece = 128;

/** A list that is being read, or an object and the name of its next value. */
type Open = unknown[] | { readonly object: Record<string, unknown>; name: string };

/**
 * The value of a JSON text, as `JSON.parse` gives it, while other events run.
 *
 * @param where names the text in messages
 * @throws MomeError `MOME_INVALID_FILE` for text that is no JSON, `MOME_TOO_LARGE` beyond the limits
 */
export async function parseJson(text: string, where: string, limits: JsonLimits): Promise<unknown> {
  const reader = new JsonReader(text, where, limits);
  // A character has at least one byte.
  check(
    text.length <= limits.bytes,
    'MOME_TOO_LARGE',
    `${where}: expected JSON of at most ${limits.bytes} bytes, got ${text.length} characters`,
  );
  const pace = new Pace();
  while (!reader.read(text.length > smallText ? valuesPerPiece : Number.POSITIVE_INFINITY)) await pace.rest();
  return reader.value;
}

/**
 * The value of a JSON file.
 *
 * @param what names the file in messages, such as "a recipe"
 * @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE`, `MOME_TOO_LARGE`, `MOME_IO`
 */
export async function readJsonFile(path: string, what: string, limits: JsonLimits): Promise<unknown> {
  const { text } = await readText(path, { what, maxBytes: limits.bytes });
  return parseJson(text, path, limits);
}

const quote = 0x22;
const backslash = 0x5c;
const space = /[ \t\n\r]*/y;
/** Characters that a text holds as they are. */
const plainText = /^[ !#-[\]-\uffff]*$/;
const number = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const literal = /true|false|null/y;
const literals: Readonly<Record<string, unknown>> = { true: true, false: false, null: null };

class JsonReader {
  value: unknown;
  readonly #text: string;
  readonly #where: string;
  readonly #limits: JsonLimits;
  readonly #open: Open[] = [];
  #at = 0;
  #values = 0;

  constructor(text: string, where: string, limits: JsonLimits) {
    this.#text = text;
    this.#where = where;
    this.#limits = limits;
  }

  /** Reads so many values. Returns whether the text is at its end. */
  read(count: number): boolean {
    for (let i = 0; i < count; i++) {
      this.#skipSpace();
      if (!this.#readValue()) continue;
      if (!this.#closeFinished()) continue;
      this.#skipSpace();
      if (this.#at < this.#text.length) this.#fail('the end');
      return true;
    }
    return false;
  }

  /** Reads one value, of a list or object its beginning. Returns whether a value is complete. */
  #readValue(): boolean {
    this.#count();
    const first = this.#text[this.#at];
    if (first === '[' || first === '{') return this.#readStart(first);
    if (first === '"') this.#put(this.#readText());
    else if (first === '-' || (first !== undefined && first >= '0' && first <= '9'))
      this.#put(Number(this.#take(number)));
    else this.#put(literals[this.#take(literal)]);
    return true;
  }

  #readStart(first: '[' | '{'): boolean {
    check(
      this.#open.length < this.#limits.depth,
      'MOME_TOO_LARGE',
      `${this.#where}: expected at most ${this.#limits.depth} lists and objects inside each other, got more`,
    );
    this.#at++;
    this.#skipSpace();
    if (first === '[') {
      const list: unknown[] = [];
      this.#put(list);
      if (this.#skip(']')) return true;
      this.#open.push(list);
      return false;
    }
    const object: Record<string, unknown> = {};
    this.#put(object);
    if (this.#skip('}')) return true;
    this.#open.push({ object, name: this.#readName() });
    return false;
  }

  /** Goes over a comma to the next value, or closes what ends here. Returns whether the outermost value is complete. */
  #closeFinished(): boolean {
    for (let inner = this.#open.at(-1); inner !== undefined; inner = this.#open.at(-1)) {
      this.#skipSpace();
      const isList = Array.isArray(inner);
      if (this.#skip(',')) {
        this.#skipSpace();
        if (!Array.isArray(inner)) inner.name = this.#readName();
        return false;
      }
      if (!this.#skip(isList ? ']' : '}')) this.#fail(isList ? '"," or "]"' : '"," or "}"');
      this.#open.pop();
    }
    return true;
  }

  #put(value: unknown): void {
    const inner = this.#open.at(-1);
    if (inner === undefined) this.value = value;
    else if (Array.isArray(inner)) inner.push(value);
    else if (inner.name === '__proto__') {
      // An assignment would change the prototype.
      Object.defineProperty(inner.object, inner.name, { value, enumerable: true, configurable: true, writable: true });
    } else inner.object[inner.name] = value;
  }

  #readName(): string {
    this.#count();
    const name = this.#readText();
    this.#skipSpace();
    if (!this.#skip(':')) this.#fail('":"');
    this.#skipSpace();
    return name;
  }

  #readText(): string {
    const start = this.#at;
    if (!this.#skip('"')) this.#fail('a text');
    const mostCharacters = this.#limits.text ?? maxTextLength;
    const mostEscapes = this.#limits.escapes ?? Number.POSITIVE_INFINITY;
    let escapes = 0;
    let at = this.#at;
    // Character by character: a pattern that starts again behind each escape takes many times longer.
    for (let code = this.#text.charCodeAt(at); code !== quote; code = this.#text.charCodeAt(at)) {
      // Behind a backslash stands the character that it is for.
      at += code === backslash ? 2 : 1;
      if (at >= this.#text.length) {
        this.#at = this.#text.length;
        this.#fail('the end of a text');
      }
      if (at - start > mostCharacters)
        this.#failTooLarge(`texts of at most ${mostCharacters} characters, got a longer one at character ${start}`);
      if (code === backslash && ++escapes > mostEscapes)
        this.#failTooLarge(`texts with at most ${mostEscapes} escapes, got one with more at character ${start}`);
    }
    this.#at = at + 1;
    const text = this.#text.slice(start + 1, this.#at - 1);
    if (plainText.test(text)) return text;
    try {
      return JSON.parse(this.#text.slice(start, this.#at)) as string;
    } catch {
      this.#at = start;
      this.#fail('a text');
    }
  }

  #take(pattern: RegExp): string {
    pattern.lastIndex = this.#at;
    if (!pattern.test(this.#text)) this.#fail('JSON');
    const taken = this.#text.slice(this.#at, pattern.lastIndex);
    this.#at = pattern.lastIndex;
    return taken;
  }

  #skip(character: string): boolean {
    if (this.#text[this.#at] !== character) return false;
    this.#at++;
    return true;
  }

  #skipSpace(): void {
    space.lastIndex = this.#at;
    space.test(this.#text);
    this.#at = space.lastIndex;
  }

  #count(): void {
    if (++this.#values > this.#limits.values) this.#failTooLarge(`at most ${this.#limits.values} values, got more`);
  }

  #failTooLarge(expected: string): never {
    throw new MomeError('MOME_TOO_LARGE', `${this.#where}: expected ${expected}`);
  }

  #fail(expected: string): never {
    const found = this.#at < this.#text.length ? JSON.stringify(this.#text.slice(this.#at, this.#at + 20)) : 'the end';
    throw new MomeError(
      'MOME_INVALID_FILE',
      `${this.#where}: expected ${expected} at character ${this.#at}, got ${found}; the text is no valid JSON`,
    );
  }
}
