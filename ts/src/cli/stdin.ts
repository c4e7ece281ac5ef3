/** `-` in place of a picture or of texts: standard input. */
import { isUtf8 } from 'node:buffer';
import type { ImageInput } from '../inference/index.ts';
import { check, clip, MomeError } from '../runtime/errors.ts';
import { InputFile } from '../runtime/input-file.ts';

/** The name that stands for standard input. */
export const standardInput = '-';

/** As much as a picture file may hold, in bytes. */
const maxBytes = 256 * 2 ** 20;

let isRead = false;

async function readStandardInput(expected: string): Promise<Buffer> {
  check(!isRead, 'MOME_INVALID_ARGUMENT', 'standard input: expected "-" once, got it twice');
  isRead = true;
  const parts: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const part of process.stdin as AsyncIterable<Buffer>) {
      parts.push(part);
      bytes += part.length;
      check(bytes <= maxBytes, 'MOME_TOO_LARGE', `standard input: expected at most ${maxBytes} bytes`);
    }
  } catch (error) {
    if (error instanceof MomeError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    throw new MomeError('MOME_IO', `standard input: expected ${expected}, could not read it (${code})`, {
      cause: error,
    });
  }
  check(bytes > 0, 'MOME_INVALID_ARGUMENT', `standard input: expected ${expected}, got nothing`);
  return Buffer.concat(parts);
}

/** The picture that an argument names: a path or, for `-`, the bytes on standard input. */
export async function pictureArgument(argument: string): Promise<ImageInput> {
  return argument === standardInput ? readStandardInput('the bytes of a picture') : argument;
}

/** Pictures that several arguments name. */
export async function pictureArguments(list: readonly string[]): Promise<ImageInput[]> {
  const pictures: ImageInput[] = [];
  for (const argument of list) pictures.push(await pictureArgument(argument));
  return pictures;
}

/** Texts that several arguments give: `-` stands for the lines of standard input. */
export async function textArguments(list: readonly string[]): Promise<string[]> {
  const texts: string[] = [];
  for (const argument of list) {
    if (argument !== standardInput) texts.push(argument);
    else for (const line of await readLines()) texts.push(line);
  }
  return texts;
}

/**
 * The entries of a list that an argument names: a file, or `-` for standard input, with one entry a line, or with zero bytes between entries
 * as `find -print0` writes them.
 */
export async function listArgument(argument: string): Promise<string[]> {
  const bytes = argument === standardInput ? await readStandardInput('a list of paths') : await readListFile(argument);
  const name = argument === standardInput ? 'standard input' : argument;
  // Names of files are any bytes: one that is no text is named, so that it can be taken from a list of thousands.
  const separator = bytes.includes(0) ? '\0' : '\n';
  const lines = bytes.toString('latin1').split(separator);
  const wrong = lines.findIndex((line) => !isUtf8(Buffer.from(line, 'latin1')));
  check(
    wrong < 0,
    'MOME_INVALID_ARGUMENT',
    `${name}: expected paths in UTF-8, got other bytes in entry ${wrong + 1}: ${clip(Buffer.from(lines[wrong] ?? '', 'latin1').toString())}`,
  );
  const text = decoded(bytes, name);
  const entries = separator === '\0' ? text.split('\0') : text.split(/\r?\n/);
  const named = entries.filter((entry) => entry !== '');
  check(named.length > 0, 'MOME_INVALID_ARGUMENT', `${argument}: expected a list of paths, got an empty one`);
  return named;
}

async function readListFile(path: string): Promise<Buffer> {
  const file = await InputFile.open(path, 'a list of paths');
  try {
    check(file.size <= maxBytes, 'MOME_TOO_LARGE', `${path}: expected at most ${maxBytes} bytes`);
    return Buffer.from(await file.read(0, file.size));
  } finally {
    file.close();
  }
}

/** Several arguments as the one text that they are without quotes in a shell; nothing for none. */
export const wordsArgument = (words: readonly string[]): string | undefined =>
  words.length === 0 ? undefined : words.join(' ');

/** The one text that an argument gives: for `-` all of standard input, without the end of its last line. */
export async function textArgument(argument: string): Promise<string> {
  if (argument !== standardInput) return argument;
  return (await readLines()).join('\n');
}

async function readLines(): Promise<string[]> {
  const lines = decoded(await readStandardInput('lines of text'), 'standard input').split(/\r?\n/);
  if (lines.at(-1) === '') lines.pop();
  return lines;
}

/** @param name of what holds the bytes */
function decoded(bytes: Buffer, name: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new MomeError('MOME_INVALID_ARGUMENT', `${name}: expected text in UTF-8`, { cause: error });
  }
}
