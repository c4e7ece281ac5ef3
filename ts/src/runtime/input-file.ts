/**
 * Files that are read: opened once, regular files alone, and read through the one descriptor, whatever happens to the name meanwhile.
 */
import * as fs from 'node:fs';
import { promisify } from 'node:util';
import { check, MomeError } from './errors.ts';

const open = promisify(fs.open);
const read = promisify(fs.read);
const close = promisify(fs.close);
const stat = promisify(fs.stat) as (path: string, options: { bigint: true }) => Promise<fs.BigIntStats>;
const lstat = promisify(fs.lstat);
const fstat = promisify(fs.fstat) as (fd: number, options: { bigint: true }) => Promise<fs.BigIntStats>;

/** Bytes read at a time. */
const pieceBytes = 2 ** 20;

/** Closes the descriptors of files that were dropped without {@link InputFile.close}. */
const dropped = new FinalizationRegistry<number>((fd) => fs.close(fd, () => {}));

/** An open regular file. */
export class InputFile {
  readonly path: string;
  /** Bytes, when it was opened. */
  readonly size: number;
  readonly #fd: number;
  readonly #opened: fs.BigIntStats;
  #reads = 0;
  #closed = false;

  private constructor(path: string, fd: number, opened: fs.BigIntStats) {
    this.path = path;
    this.size = Number(opened.size);
    this.#fd = fd;
    this.#opened = opened;
    dropped.register(this, fd, this);
  }

  /**
   * Opens a regular file. A named pipe or a device, which could hang or never end, is refused before it is opened.
   *
   * @param what names the file in messages, such as "a checkpoint"
   * @throws MomeError `MOME_NOT_FOUND` where there is nothing, or a link to nothing; `MOME_INVALID_FILE` for a folder, pipe, socket or
   *   device; `MOME_IO` without the right to read it
   */
  static async open(path: string, what = 'a file'): Promise<InputFile> {
    let fd: number | undefined;
    try {
      requireRegular(await stat(path, { bigint: true }), path, what);
      // Another file may have the name by now: one that would wait for a writer does not.
      fd = await open(path, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK | fs.constants.O_NOCTTY);
      const opened = await fstat(fd, { bigint: true });
      requireRegular(opened, path, what);
      return new InputFile(path, fd, opened);
    } catch (error) {
      if (fd !== undefined) await close(fd).catch(() => {});
      throw error instanceof MomeError ? error : await openError(error, path, what);
    }
  }

  /** The descriptor, for native code that duplicates it at once. */
  get fd(): number {
    check(!this.#closed, 'MOME_DISPOSED', `${this.path}: expected an open file, it was closed`);
    return this.#fd;
  }

  /** Exactly `length` bytes from `position`. @throws MomeError `MOME_INVALID_FILE` when the file ends before, `MOME_IO` */
  async read(position: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    await this.readInto(bytes, position);
    return bytes;
  }

  /** Fills `bytes` from `position`. @throws MomeError `MOME_INVALID_FILE` when the file ends before, `MOME_IO` */
  async readInto(bytes: Uint8Array, position: number): Promise<void> {
    const { fd } = this;
    this.#reads++;
    try {
      for (let done = 0; done < bytes.length; ) {
        const part = Math.min(bytes.length - done, 2 ** 30);
        const { bytesRead } = await read(fd, bytes, done, part, position + done);
        check(
          bytesRead > 0,
          'MOME_INVALID_FILE',
          `${this.path}: expected ${bytes.length} bytes at ${position}, got ${done}: the file is cut off`,
        );
        done += bytesRead;
      }
    } catch (error) {
      if (error instanceof MomeError) throw error;
      throw new MomeError('MOME_IO', `${this.path}: expected to read it`, { cause: error });
    } finally {
      this.#reads--;
      if (this.#closed && this.#reads === 0) this.#closeNow();
    }
  }

  /** The file from its start, piece by piece. @throws MomeError `MOME_IO` */
  async *pieces(): AsyncGenerator<Buffer> {
    for (let position = 0; position < this.size; position += pieceBytes) {
      const bytes = Buffer.allocUnsafe(Math.min(pieceBytes, this.size - position));
      await this.readInto(bytes, position);
      yield bytes;
    }
  }

  /** Whether `path` still names this file. */
  async isAt(path: string): Promise<boolean> {
    const now = await stat(path, { bigint: true }).catch(() => undefined);
    return now?.ino === this.#opened.ino && now.dev === this.#opened.dev;
  }

  /** @throws MomeError `MOME_IO` where somebody wrote into the file since it was opened */
  async requireUnchanged(): Promise<void> {
    const now = await fstat(this.fd, { bigint: true });
    check(
      now.size === this.#opened.size && now.mtimeNs === this.#opened.mtimeNs,
      'MOME_IO',
      `${this.path}: expected the file that was opened, it was written to while it was read`,
    );
  }

  /** Closes the file once running reads are done. Calling it again does nothing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    dropped.unregister(this);
    if (this.#reads === 0) this.#closeNow();
  }

  #closeNow(): void {
    fs.close(this.#fd, () => {});
  }
}

function requireRegular(stats: fs.BigIntStats, path: string, what: string): void {
  check(stats.isFile(), 'MOME_INVALID_FILE', `${path}: expected ${what}, got ${kindOf(stats)}`);
}

/** The type of an entry of a folder, in words. */
export function kindOf(stats: fs.BigIntStats | fs.Stats): string {
  if (stats.isFile()) return 'a file';
  if (stats.isDirectory()) return 'a folder';
  if (stats.isFIFO()) return 'a named pipe';
  if (stats.isSocket()) return 'a socket';
  if (stats.isSymbolicLink()) return 'a link';
  return 'a device';
}

async function openError(error: unknown, path: string, what: string): Promise<MomeError> {
  const { code, syscall } = error as NodeJS.ErrnoException;
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    const isLink = await lstat(path).then(
      (stats) => stats.isSymbolicLink(),
      () => false,
    );
    const found = isLink ? 'a link to nothing' : 'nothing';
    return new MomeError('MOME_NOT_FOUND', `${path}: expected ${what}, found ${found}`, { cause: error });
  }
  const isForbidden = code === 'EACCES' || code === 'EPERM';
  const right = `the right to ${syscall === 'stat' ? 'enter its folder' : 'read it'} is missing`;
  const reason = isForbidden ? right : `it cannot be opened (${code})`;
  return new MomeError('MOME_IO', `${path}: expected ${what}, ${reason}`, { cause: error });
}

/** A text as it was read. */
export interface TextFile {
  readonly path: string;
  readonly text: string;
  /** The bytes of the file, a byte order mark included. */
  readonly bytes: Uint8Array;
}

export interface TextOptions {
  /** Names the file in messages, such as "a vocabulary". */
  readonly what: string;
  readonly maxBytes: number;
}

/** First words of a file that stands for one kept elsewhere. */
const lfsPointer = 'version https://git-lfs.github.com/spec/';

/** Says so where `bytes` begin a Git LFS pointer. @throws MomeError `MOME_INVALID_FILE` */
export function refuseLfsPointer(bytes: Uint8Array, path: string, what: string): void {
  const start = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, lfsPointer.length)).toString(
    'latin1',
  );
  check(
    start !== lfsPointer,
    'MOME_INVALID_FILE',
    `${path}: expected ${what}, got a Git LFS pointer that stands for it; fetch the file with "git lfs pull"`,
  );
}

/**
 * Reads a text in UTF-8, without its byte order mark.
 *
 * @throws MomeError as {@link InputFile.open}; `MOME_TOO_LARGE`; `MOME_INVALID_FILE` for other texts and for a Git LFS pointer
 */
export async function readText(source: string | InputFile, { what, maxBytes }: TextOptions): Promise<TextFile> {
  const file = typeof source === 'string' ? await InputFile.open(source, what) : source;
  const { path, size } = file;
  try {
    check(size <= maxBytes, 'MOME_TOO_LARGE', `${path}: expected ${what} of at most ${maxBytes} bytes, got ${size}`);
    const bytes = await file.read(0, size);
    refuseLfsPointer(bytes, path, what);
    const [first, second] = bytes;
    check(
      !((first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff)),
      'MOME_INVALID_FILE',
      `${path}: expected ${what} in UTF-8, got UTF-16`,
    );
    return { path, text: decodeUtf8(bytes, path, what), bytes };
  } finally {
    if (typeof source === 'string') file.close();
  }
}

/** Without the byte order mark, which the decoder takes off. */
function decodeUtf8(bytes: Uint8Array, path: string, what: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new MomeError('MOME_INVALID_FILE', `${path}: expected ${what} in UTF-8, got other bytes`, { cause: error });
  }
}
