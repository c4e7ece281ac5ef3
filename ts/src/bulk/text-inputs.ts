/** Text files: each line is a unit, also an empty one. A line of `.jsonl` is a text in quotes, or an object with a `text`. */
import { createHash } from 'node:crypto';
import { extname } from 'node:path';
import { check, requireNotAborted } from '../runtime/errors.ts';
import { InputFile, refuseLfsPointer } from '../runtime/input-file.ts';
import { type JsonLimits, parseJson } from '../runtime/json.ts';
import { Pace } from '../runtime/pace.ts';
import { lastAtMost } from '../train/data/dataset.ts';
import { splitLines } from '../train/data/lines.ts';
import type { BulkInputs, Content, InputOptions } from './inputs.ts';
import { unitProgress } from './shards.ts';

const lineLimits: JsonLimits = { bytes: 2 ** 20, depth: 16, values: 2 ** 13 };

/**
 * Files are read once for their lines and a hash of their contents, before anything is embedded.
 *
 * @throws MomeError `MOME_INVALID_FILE` for other bytes than UTF-8, `MOME_TOO_LARGE` for a line of more than 2^20 characters
 */
export async function openTextFiles(
  files: readonly string[],
  { column, id, signal }: InputOptions,
): Promise<BulkInputs> {
  check(
    column === undefined,
    'MOME_INVALID_ARGUMENT',
    `embed: expected no column for text files, got ${column}: a line is a text, or an object with a "text"`,
  );
  const hash = createHash('sha256');
  const starts: number[] = [];
  let lines = 0;
  const pace = new Pace();
  for (const path of files) {
    hash.update(`${path}\0`);
    starts.push(lines);
    const file = await InputFile.open(path, 'a text file');
    try {
      refuseLfsPointer(await file.read(0, Math.min(file.size, 64)), path, 'a text file');
      for await (const _ of splitLines(hashed(file.pieces(), hash), path)) {
        lines++;
        if (lines % 1024 === 0) await pace.rest();
        requireNotAborted(signal, 'embed');
      }
    } finally {
      file.close();
    }
  }
  return {
    kind: 'texts',
    units: lines,
    identity: hash.digest('hex'),
    leftOut: [],
    async *items({ unit: first }, end) {
      for (let at = first < end ? lastAtMost(starts, first) : files.length; at < files.length; at++) {
        const source = files[at]!;
        const start = starts[at]!;
        if (start >= end) return;
        const file = await InputFile.open(source, 'a text file');
        try {
          for await (const { text, line } of splitLines(file.pieces(), source)) {
            const unit = start + line - 1;
            if (unit % 1024 === 0) await pace.rest();
            if (unit < first) continue;
            if (unit >= end) return;
            const plain = line === 1 ? text.replace(/^\uFEFF/, '') : text;
            const isJson = extname(source).toLowerCase() !== '.txt';
            yield {
              source,
              name: String(line),
              bytes: 2 * plain.length,
              next: { unit: unit + 1, item: 0 },
              read: async () => (isJson ? parsed(plain, `${source}:${line}`, id) : { text: plain }),
            };
          }
        } finally {
          file.close();
        }
      }
    },
    progress: unitProgress,
    close: () => {},
  };
}

async function* hashed(
  pieces: AsyncIterable<Uint8Array>,
  hash: { update(bytes: Uint8Array): unknown },
): AsyncGenerator<Uint8Array> {
  for await (const piece of pieces) {
    hash.update(piece);
    yield piece;
  }
}

async function parsed(line: string, origin: string, id: string | undefined): Promise<Content> {
  const value = await parseJson(line, origin, lineLimits);
  if (typeof value === 'string') return { text: value };
  const fields = (typeof value === 'object' && value !== null ? value : {}) as Readonly<Record<string, unknown>>;
  const { text } = fields;
  const given = id === undefined ? undefined : fields[id];
  const name = typeof given === 'string' || typeof given === 'number' ? { name: String(given) } : {};
  return {
    ...name,
    ...(typeof text === 'string' ? { text } : { broken: 'expected a text, or an object with a "text"' }),
  };
}
