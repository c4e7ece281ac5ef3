/**
 * Reads a zip archive of any bytes: every failure is a rejection, and nothing is read or kept beyond documented limits.
 *
 * The library parses inside callbacks of its reader, where an exception would end the process. The reader here calls it inside a
 * `try` and hands exceptions to the promise that waits.
 */
import { promisify } from 'node:util';
import { inflateRaw } from 'node:zlib';
import * as yauzl from 'yauzl';
import { check, clip, MomeError } from '../runtime/errors.ts';
import type { InputFile } from '../runtime/input-file.ts';
import { requireChecksum } from './checksum.ts';

/** Most entries of an archive: one for each tensor, of which a large model with its optimizer has 2,000. */
const maxEntries = 16_384;
/** Longest name of an entry, in bytes. */
const maxNameBytes = 1024;

const inflate = promisify(inflateRaw);

/** A file of the archive; its bytes lie inside the archive's file. */
export interface ArchiveEntry {
  readonly name: string;
  readonly compressed: boolean;
  /** Bytes of the file itself. */
  readonly bytes: number;
  /** Where its bytes begin in the archive's file. */
  readonly start: number;
  /** CRC-32 of the bytes; 0 where the writer left it out, as `torch.save` can be told to. */
  readonly crc32: number;
  /** All bytes, inflated and compared with their checksum. @throws MomeError `MOME_TOO_LARGE` for more than `limit`, `MOME_INVALID_FILE` */
  read(limit: number): Promise<Uint8Array>;
}

/** The library's reader over an open file. Nothing that its callbacks throw leaves it. */
class GuardedReader extends yauzl.RandomAccessReader {
  /** Rejects with what a callback of the library threw; never resolves. */
  readonly failure: Promise<never>;
  #fail!: (error: unknown) => void;
  readonly #file: InputFile;

  constructor(file: InputFile) {
    super();
    this.#file = file;
    this.failure = new Promise((_, reject) => {
      this.#fail = reject;
    });
    // Whoever waits sees it; without one who waits it is no unhandled rejection.
    this.failure.catch(() => {});
    this.on('error', this.#fail);
  }

  override read(buffer: Buffer, offset: number, length: number, position: number, callback: ReadCallback): void {
    this.#readInto(buffer, offset, length, position)
      .then(
        () => callback(null, length),
        (error: unknown) => callback(error as Error, 0),
      )
      .catch(this.#fail);
  }

  async #readInto(buffer: Buffer, offset: number, length: number, position: number): Promise<void> {
    const { size } = this.#file;
    if (!Number.isSafeInteger(position) || position < 0 || position + length > size)
      throw new Error(`expected ${length} bytes at ${position} inside the file of ${size} bytes`);
    await this.#file.readInto(buffer.subarray(offset, offset + length), position);
  }
}

/** As the library calls back; its types leave the count out. */
type ReadCallback = (error: Error | null, bytesRead?: number) => void;

/**
 * The entries of a zip archive, in the order of its directory, each where the archive says it lies.
 *
 * @param file open for reading; it stays open
 * @throws MomeError `MOME_INVALID_FILE` for anything that is no such archive, `MOME_TOO_LARGE` for too many entries or long names
 */
export async function* readArchive(file: InputFile): AsyncGenerator<ArchiveEntry, void> {
  const { path, size } = file;
  try {
    const reader = new GuardedReader(file);
    const guard = <T>(work: Promise<T>): Promise<T> => Promise.race([work, reader.failure]);
    const zip = await guard(yauzl.fromRandomAccessReaderPromise(reader, size, { autoClose: false }));
    check(
      zip.entryCount <= maxEntries,
      'MOME_TOO_LARGE',
      `${path}: expected at most ${maxEntries} archive entries, got ${zip.entryCount}`,
    );
    const entries = zip.eachEntry()[Symbol.asyncIterator]();
    const places: Place[] = [];
    for (;;) {
      const next = await guard(entries.next());
      if (next.done) {
        requireApart(places, path);
        return;
      }
      const entry = next.value;
      check(
        entry.fileNameLength <= maxNameBytes,
        'MOME_TOO_LARGE',
        `${path}: expected names of at most ${maxNameBytes} bytes in the archive, got one of ${entry.fileNameLength}`,
      );
      const described = await guard(describe(zip, entry, file));
      const { name, start } = described;
      places.push({ name, begin: entry.relativeOffsetOfLocalHeader, end: start + entry.compressedSize });
      yield described;
    }
  } catch (error) {
    if (error instanceof MomeError) throw error;
    // Such as that its end is missing, after a download that was cut off.
    const reason = error instanceof Error ? `: ${clip(error.message)}` : '';
    throw new MomeError('MOME_INVALID_FILE', `${path}: expected a PyTorch archive${reason}`, { cause: error });
  }
}

/** Where an entry lies in the file, its header included. */
interface Place {
  readonly name: string;
  readonly begin: number;
  readonly end: number;
}

/** Entries that share bytes would be read in another way by each reader, and a small file would hold much. */
function requireApart(places: Place[], path: string): void {
  places.sort((a, b) => a.begin - b.begin);
  for (const [i, { name, begin }] of places.entries()) {
    const before = places[i - 1];
    check(
      before === undefined || before.end <= begin,
      'MOME_INVALID_FILE',
      `${path}: expected entries that lie apart, ${clip(name)} overlaps ${clip(before?.name ?? '')}`,
    );
  }
}

async function describe(zip: yauzl.ZipFile, entry: yauzl.Entry, file: InputFile): Promise<ArchiveEntry> {
  const { path } = file;
  const { fileName: name, compressedSize, uncompressedSize: bytes, compressionMethod: method } = entry;
  // The library checks that the bytes end inside the file.
  const { fileDataStart: start } = await zip.readLocalFileHeaderPromise(entry, { minimal: true });
  const read = async (limit: number): Promise<Uint8Array> => {
    const most = Math.max(bytes, compressedSize);
    check(most <= limit, 'MOME_TOO_LARGE', `${path}: expected at most ${limit} bytes of ${clip(name)}, got ${most}`);
    check(
      !entry.isEncrypted() && (method === 0 || method === 8),
      'MOME_UNSUPPORTED',
      `${path}: expected ${clip(name)} stored or deflated, got method ${method}${entry.isEncrypted() ? ', encrypted' : ''}`,
    );
    const stored = await file.read(start, compressedSize);
    const content = method === 0 ? stored : await inflate(stored, { maxOutputLength: Math.max(1, bytes) });
    check(
      content.length === bytes,
      'MOME_INVALID_FILE',
      `${path}: expected ${bytes} bytes of ${clip(name)}, got ${content.length}`,
    );
    requireChecksum(content, entry.crc32, `${path}: ${clip(name)}`);
    return content;
  };
  return { name, compressed: method !== 0 || entry.isEncrypted(), bytes, start, crc32: entry.crc32, read };
}
