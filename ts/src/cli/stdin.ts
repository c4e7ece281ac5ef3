/** `-` in place of a picture or of texts: standard input. */
import type { ImageInput } from '../inference/vlmo.ts';
import { check, MomeError } from '../runtime/errors.ts';

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

/** Several arguments as the one text that they are without quotes in a shell; nothing for none. */
export const wordsArgument = (words: readonly string[]): string | undefined =>
  words.length === 0 ? undefined : words.join(' ');

/** The one text that an argument gives: for `-` all of standard input, without the end of its last line. */
export async function textArgument(argument: string): Promise<string> {
  if (argument !== standardInput) return argument;
  return (await readLines()).join('\n');
}

async function readLines(): Promise<string[]> {
  const bytes = await readStandardInput('lines of text');
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new MomeError('MOME_INVALID_ARGUMENT', 'standard input: expected text in UTF-8', { cause: error });
  }
  const lines = text.split(/\r?\n/);
  if (lines.at(-1) === '') lines.pop();
  return lines;
}
