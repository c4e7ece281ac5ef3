/** Text files read piece by piece with bounded memory: lines with their numbers, and CSV rows. */
import { pipeline, Readable } from 'node:stream';
import { CsvError, parse } from 'csv-parse';
import { check, MomeError } from '../../runtime/errors.ts';
import { Pace } from '../../runtime/pace.ts';

export interface TextLine {
  /** Without its line break. */
  readonly text: string;
  /** Counted from 1. */
  readonly line: number;
}

export interface CsvRow {
  readonly cells: readonly string[];
  /** Line on which the row ends, counted from 1. */
  readonly line: number;
}

const maxRowCharacters = 1 << 20;

/**
 * Lines of a UTF-8 stream; `\n` and `\r\n` end a line.
 *
 * @param where names the stream in messages.
 * @throws MomeError `MOME_TOO_LARGE` for a line of more than 2^20 characters, `MOME_INVALID_FILE` for bytes that are not UTF-8,
 *   `MOME_IO`.
 */
export async function* splitLines(stream: AsyncIterable<Uint8Array>, where: string): AsyncGenerator<TextLine, void> {
  let rest = '';
  let line = 1;
  for await (const piece of decodeUtf8(stream, where)) {
    const texts = (rest + piece).split('\n');
    rest = texts.pop()!;
    for (const text of texts) {
      checkRow(text.length, where, line);
      yield { text: text.endsWith('\r') ? text.slice(0, -1) : text, line: line++ };
    }
    checkRow(rest.length, where, line);
  }
  if (rest !== '') yield { text: rest.endsWith('\r') ? rest.slice(0, -1) : rest, line };
}

/**
 * Rows of a comma-separated UTF-8 stream. Cells in double quotes may hold commas, line breaks and doubled quotes; empty rows are
 * skipped.
 *
 * @throws MomeError `MOME_INVALID_FILE` for a quote out of place or never closed; else like {@link splitLines}.
 */
export async function* parseCsv(stream: AsyncIterable<Uint8Array>, where: string): AsyncGenerator<CsvRow, void> {
  const parser = parse({
    bom: true,
    info: true,
    max_record_size: maxRowCharacters,
    relax_column_count: true,
    skip_empty_lines: true,
  });
  // Failures of the source reach the loop below through the parser.
  pipeline(Readable.from(inPieces(decodeUtf8(stream, where))), parser, () => {});
  try {
    for await (const { record, info } of parser as AsyncIterable<{ record: string[]; info: { lines: number } }>) {
      yield { cells: record, line: info.lines };
    }
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    const long = error.code === 'CSV_MAX_RECORD_SIZE';
    throw new MomeError(
      long ? 'MOME_TOO_LARGE' : 'MOME_INVALID_FILE',
      long
        ? `${where}: expected rows of at most ${maxRowCharacters} characters, got more`
        : `${where}: expected comma-separated rows: ${error.message}`,
      { cause: error },
    );
  }
}

/** The parser makes an error with its stack of each row whose number of cells is another one: of pieces like these it takes milliseconds. */
const pieceCharacters = 2048;

async function* inPieces(texts: AsyncIterable<string>): AsyncGenerator<string, void> {
  const pace = new Pace();
  for await (const text of texts)
    for (let at = 0; at < text.length; at += pieceCharacters) {
      yield text.slice(at, at + pieceCharacters);
      await pace.rest();
    }
}

async function* decodeUtf8(stream: AsyncIterable<Uint8Array>, where: string): AsyncGenerator<string, void> {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  try {
    for await (const bytes of stream) yield decoder.decode(bytes, { stream: true });
    yield decoder.decode();
  } catch (error) {
    if (error instanceof MomeError) throw error;
    const malformed = error instanceof TypeError;
    throw new MomeError(
      malformed ? 'MOME_INVALID_FILE' : 'MOME_IO',
      malformed ? `${where}: expected UTF-8, got other bytes` : `${where}: expected to read the file, got a failure`,
      { cause: error },
    );
  }
}

function checkRow(length: number, where: string, line: number): void {
  check(
    length <= maxRowCharacters,
    'MOME_TOO_LARGE',
    `${where}:${line}: expected a row of at most ${maxRowCharacters} characters, got more`,
  );
}
